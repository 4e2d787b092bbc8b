"""Write the parts of a corpus folder, for every command that writes a corpus.

A part is full at `PART_BYTES`: one worker reads it in seconds, and a network copy that loses one
loses little. A document is never divided between two parts.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanllama.base import fs

PART_BYTES = 256 * 2**20


class Parts:
    """Writes `part-00000.jsonl`, `part-00001.jsonl`, …: a new one when a part is full.

        with Parts(folder) as parts:
            parts.write(lines)   # each closed by a newline, see records.document_line

    Args:
        folder: the folder of the parts.
        state: an earlier result of `state()`; later writes are cut off.
        summed: hash the parts for `fs.publish`; parts of an earlier run are not hashed.

    Attributes:
        number: parts begun.
        documents: lines written.
        bytes: the size of all parts.
        sums: name -> sha256 of each closed part, when `summed`.
    """

    def __init__(
        self, folder: Path, state: Mapping[str, int] | None = None, *, summed: bool = False
    ) -> None:
        self.folder = folder
        self.summed = summed
        self.sums: dict[str, str] = {}
        self.number = self.documents = self.bytes = 0
        self._path = folder
        self._held = 0
        self._out: Any = None
        self._hash: Any = None
        if state is not None and state["number"]:
            self.number, self.documents = state["number"], state["documents"]
            self.bytes, self._held = state["bytes"], state["held"]
            self._go_on()

    def state(self) -> dict[str, int]:
        """The state to continue from; syncs everything written so far to the disk."""
        self._sync()
        return {
            "number": self.number,
            "documents": self.documents,
            "bytes": self.bytes,
            "held": self._held,
        }

    def write(self, lines: Iterable[bytes]) -> None:
        """Add lines; a line that does not fit begins a new part."""
        run = list(lines)
        self.write_run(b"".join(run), [len(line) for line in run])

    def write_run(self, data: bytes | memoryview, sizes: Sequence[int]) -> None:
        """Add lines that lie end to end in `data`, given their sizes in bytes."""
        ends = list(itertools.accumulate(sizes))
        view = memoryview(data)
        start = done = 0
        while done < len(ends):
            if self._out is None or self._held + ends[done] - start > PART_BYTES:
                self._next()
            # A line longer than a part fills a part alone.
            fitting = bisect.bisect_right(ends, start + PART_BYTES - self._held)
            stop = max(fitting, done + 1)
            with fs.storage(self._path):
                self._out.write(view[start : ends[stop - 1]])
            if self._hash is not None:
                self._hash.update(view[start : ends[stop - 1]])
            self._held += ends[stop - 1] - start
            self.bytes += ends[stop - 1] - start
            self.documents += stop - done
            start, done = ends[stop - 1], stop

    def _next(self) -> None:
        self._sync()
        self.close()
        self._path = self._part(self.number)
        with fs.storage(self._path):
            self._out = open(self._path, "wb")  # noqa: SIM115 (open across calls)
        self._hash = hashlib.sha256() if self.summed else None
        self._held = 0
        self.number += 1

    def _go_on(self) -> None:
        """Reopen the part of the state at its saved size; remove later parts."""
        self._path = self._part(self.number - 1)
        with fs.storage(self._path):
            for path in self.folder.glob("part-*.jsonl"):
                if path.name > self._path.name:
                    path.unlink()
            os.truncate(self._path, self._held)
            self._out = open(self._path, "ab")  # noqa: SIM115 (open across calls)

    def _sync(self) -> None:
        if self._out is not None:
            with fs.storage(self._path):
                self._out.flush()
                os.fsync(self._out.fileno())

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.jsonl"

    def close(self) -> None:
        """Close the open part."""
        if self._out is not None:
            with fs.storage(self._path):
                self._out.close()
            self._out = None
            if self._hash is not None:
                self.sums[self._path.name] = self._hash.hexdigest()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
