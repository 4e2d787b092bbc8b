"""The tokens that `tokenize` keeps until the held-out split is chosen, and its unfinished work.

A batch holds the tokens of a few pieces of the corpus. `Spool` holds all batches, in memory or,
when they are many, with their tokens in a file. `Journal` also writes them to a file in
`OUTPUT.partial` (`base/making.py`), each with a checksum, so that a stopped or killed `tokenize`
need not begin again; its state gives the number of complete batches and the length of the file. A
resumed run adds them in the same order, so the shards are the same bytes.
"""

from __future__ import annotations

import io
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs
from hanllama.base.errors import CorruptError
from hanllama.base.making import Log, Making
from hanllama.batches import split as splitting
from hanllama.batches.shards import Ids, token_dtype
from hanllama.reading.records import Reject

SPOOL_MEMORY = 2**27  # bytes of tokens above which they go to a file
# The most that a kill loses, in time and in bytes held; a shorter run leaves no journal.
SAVE_SECONDS = 10.0
_SAVE_BYTES = 2**26
# The most sources that the manifest names; its inputs name the rest.
_SOURCES = 1000
_SKETCH = ("ranks", "characters", "wholes", "counts", "grams")


@dataclass
class Batch:
    """The tokenized documents of a few pieces."""

    rejects: list[Reject]
    blank: int  # documents without a visible character: left out
    sources: Counter[str]
    ids: Ids  # end to end, in the shards' own type
    lengths: NDArray[np.int64]
    text_bytes: NDArray[np.int64]
    characters: int
    fallbacks: int
    sketch: splitting.SketchPart | None


class Spool:
    """The whole corpus as tokens, with the counts of its documents.

    The file at `path` exists once the tokens exceed `SPOOL_MEMORY`.

    Attributes:
        batches: number of batches added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dtype = token_dtype(0)  # the batches' own, once one is added
        self.batches = 0
        self.sketch = splitting.Sketch()
        self.documents = self.characters = self.bytes = self.tokens = 0
        self.fallbacks = self.blank = 0
        self.sources: Counter[str] = Counter()
        self._lengths: list[NDArray[np.int64]] = []
        self._text_bytes: list[NDArray[np.int64]] = []
        self._held: list[Ids] = []
        self._file: Any = None

    def add(self, batch: Batch) -> None:
        """Add the next documents of the corpus."""
        self.dtype = batch.ids.dtype
        self.batches += 1
        self._held.append(batch.ids)
        if batch.sketch is not None:
            self.sketch.add(batch.sketch)
        self._lengths.append(batch.lengths)
        self._text_bytes.append(batch.text_bytes)
        self.documents += batch.lengths.size
        self.blank += batch.blank
        self.characters += batch.characters
        self.bytes += int(batch.text_bytes.sum())
        self.tokens += int(batch.ids.size)
        if self.tokens * self.dtype.itemsize > SPOOL_MEMORY:
            self._to_file()
        self.fallbacks += batch.fallbacks
        for name, count in batch.sources.items():
            if name in self.sources or len(self.sources) < _SOURCES:
                self.sources[name] += count

    def _to_file(self) -> None:
        with fs.storage(self.path):
            if self._file is None:
                self._file = open(self.path, "wb")  # noqa: SIM115 (it spans calls)
            for ids in self._held:
                self._file.write(ids.data)
        self._held.clear()

    def documents_by_batch(self) -> Iterator[tuple[Ids, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield for each batch its tokens end to end, and each document's tokens and bytes.

        Only once, and after the last `add`: it frees each batch as it goes.
        """
        held: Iterable[Ids]
        if self._file is None:
            self._held.reverse()
            held = (self._held.pop() for _ in range(len(self._held)))
        else:
            self._to_file()
            with fs.storage(self.path):
                self._file.close()
            held = self._read_back()
        yield from zip(held, self._lengths, self._text_bytes, strict=True)

    def _read_back(self) -> Iterator[Ids]:
        """Yield each batch's tokens, read and not mapped: mapped pages would count as memory."""
        with open(self.path, "rb") as file:
            for lengths in self._lengths:
                yield np.fromfile(file, self.dtype, int(lengths.sum()))


class Journal:
    """The batches of an unfinished run, in a file.

    Attributes:
        batches: number of saved batches.
    """

    def __init__(self, made: Making) -> None:
        self.made = made
        state = made.state or {}
        self.batches, self._size = state.get("batches", 0), state.get("size", 0)
        self._log: Log | None = None
        self._held: list[Batch] = []
        self._saved = time.monotonic()

    def saved(self) -> Iterator[Batch]:
        """Yield the saved batches, in order.

        Raises CorruptError when a checksum differs.
        """
        if not self.batches:
            return
        with open(self.made.folder / "batches", "rb") as file:
            for _ in range(self.batches):
                size, checksum = np.frombuffer(file.read(16), dtype="<u8").tolist()
                data = file.read(size)
                if zlib.crc32(data) != checksum:
                    raise CorruptError(
                        f"{file.name} is damaged; remove {self.made.folder} to begin again"
                    )
                yield _read(data)

    def add(self, batch: Batch) -> None:
        """Hold a batch, and save the held ones when they are old or large enough."""
        self._held.append(batch)
        held_bytes = sum(b.ids.nbytes for b in self._held)
        if time.monotonic() - self._saved > SAVE_SECONDS or held_bytes > _SAVE_BYTES:
            self.save()

    def save(self) -> None:
        """Write the held batches to disk."""
        if not self._held:
            return
        if self._log is None:
            self._log = Log(self.made.folder / "batches", self._size)
        for batch in self._held:
            data = _written(batch)
            self._log.write(np.array([len(data), zlib.crc32(data)], dtype="<u8").tobytes())
            self._log.write(data)
        self._size = self._log.sync()
        self.batches += len(self._held)
        self._held.clear()
        self.made.save(batches=self.batches, size=self._size)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()


def _written(batch: Batch) -> bytes:
    """A batch as bytes: a line of JSON, then its arrays."""
    sketch = batch.sketch
    facts = {
        "rejects": [asdict(reject) for reject in batch.rejects],
        "blank": batch.blank,
        "sources": batch.sources,
        "characters": batch.characters,
        "fallbacks": batch.fallbacks,
        "kept_of": sketch.kept_of if sketch is not None else 0,
    }
    out = io.BytesIO()
    # A reject may hold half a surrogate pair, so the JSON is ASCII.
    out.write(json.dumps(facts).encode("ascii") + b"\n")
    arrays = [batch.ids, batch.lengths, batch.text_bytes]
    if sketch is not None:
        arrays += [getattr(sketch, name) for name in _SKETCH]
    for array in arrays:
        np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def _read(data: bytes) -> Batch:
    source = io.BytesIO(data)
    facts = json.loads(source.readline())

    def array() -> NDArray[Any]:
        return np.asarray(np.lib.format.read_array(source, allow_pickle=False))

    ids, lengths, text_bytes = array(), array(), array()
    sketch = None
    if facts["kept_of"]:
        arrays = {name: array() for name in _SKETCH}
        sketch = splitting.SketchPart(**arrays, kept_of=facts["kept_of"])
    return Batch(
        [Reject(**reject) for reject in facts["rejects"]],
        facts["blank"],
        Counter(facts["sources"]),
        ids,
        lengths,
        text_bytes,
        facts["characters"],
        facts["fallbacks"],
        sketch,
    )
