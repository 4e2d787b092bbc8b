"""Shared by the quality commands: reading documents, choosing held-out text, making the output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from hanllama.base import making as base_making
from hanllama.base.errors import InputError
from hanllama.base.making import Making
from hanllama.base.progress import Progress
from hanllama.reading import records
from hanllama.reading.records import Document, Quarantine
from hanllama.text.hashing import hash64

MAX_REJECTED_SHARE = 0.05


def documents(title: str, inputs: Sequence[str], text_field: str) -> Iterator[Document]:
    """Every document, with a progress display.

    Raises InputError when there is none, and when more than a twentieth of the records cannot be
    read: a model of the rest would be a different model.
    """
    quarantine = Quarantine()
    count = 0
    with Progress(title, None, "M characters") as progress:
        for document in records.read(inputs, quarantine, text_field):
            count += 1
            progress.advance(len(document.text) / 1e6, documents=count)
            yield document
    where = ", ".join(inputs)
    if quarantine.count > MAX_REJECTED_SHARE * (count + quarantine.count):
        raise InputError(
            f"{where}: {quarantine.count:,} of {count + quarantine.count:,} records cannot be read"
            f" ({quarantine.summary()}); repair them, or name the field with --text-field"
        )
    if not count:
        raise InputError(f"{where}: the input holds no document")
    if quarantine.count:
        print(f"{quarantine.count:,} records left out: {quarantine.summary()}")


def is_heldout(text: str, share: float) -> bool:
    """Whether a text is held out; its content alone decides, so copies stay together."""
    return hash64(text.encode("utf-8", "surrogatepass")) < share * 2**64


def making(output: str, inputs: Sequence[str], force: bool) -> AbstractContextManager[Making]:
    """`making` of the model folder; InputError for standard input, which cannot be read twice."""
    if "-" in inputs:
        raise InputError("standard input (-) cannot be read twice; give files or folders")
    return base_making.making(output, inputs, force=force)
