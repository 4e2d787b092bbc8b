"""The parts of a corpus folder: every command that writes a corpus writes them here.

A part is full after `PART_BYTES`: a size that one worker reads in seconds and that a copy over a
network may lose without much harm. A document is never divided between two parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hanllama import fs
from hanllama.errors import InputError

PART_BYTES = 256 * 2**20


class Parts:
    """Writes `part-00000.jsonl` and on, a new one when a part is full.

        with Parts(folder) as parts:
            parts.write(lines)   # each closed by a newline, see records.document_line

    Attributes:
        number: parts begun.
        documents: lines written.
        bytes: of all parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = self.documents = self.bytes = 0
        self._path = folder
        self._held = 0
        self._out: Any = None

    def write(self, lines: Iterable[bytes]) -> None:
        """Add lines; one that the present part has no room for begins a new part."""
        run: list[bytes] = []
        for line in lines:
            if self._out is None or self._held + len(line) > PART_BYTES:
                self._put(run)
                self._next()
                run = []
            run.append(line)
            self._held += len(line)
            self.bytes += len(line)
            self.documents += 1
        self._put(run)

    def _put(self, run: list[bytes]) -> None:
        if run:
            with fs.storage(self._path):
                self._out.writelines(run)

    def _next(self) -> None:
        self._close()
        self._path = self.folder / f"part-{self.number:05d}.jsonl"
        with fs.storage(self._path):
            self._out = open(self._path, "wb")  # noqa: SIM115 (open across calls)
        self._held = 0
        self.number += 1

    def _close(self) -> None:
        if self._out is not None:
            with fs.storage(self._path):
                self._out.close()
            self._out = None

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def check_output(output: Path, inputs: Sequence[str], force: bool) -> None:
    """Refuse an output folder that would destroy something or be read as its own input.

    Raises InputError when it exists (unless `force` is given and hanllama wrote it), and when it
    lies inside an input.
    """
    if output.exists():
        if not force:
            raise InputError(f"{output} exists already; --force replaces it")
        if not (output / fs.SUMS).is_file():
            raise InputError(f"{output} was not written by hanllama; --force does not replace it")
    target = output.resolve()
    for name in inputs:
        source = Path(name).resolve()
        if source.is_dir() and (source == target or source in target.parents):
            raise InputError(
                f"the output {output} lies inside the input {name}: the next run would read it;"
                " choose a folder beside"
            )
