"""Write the parts of a corpus folder, for every command that writes a corpus.

A part is full at `PART_BYTES`: one worker reads it in seconds, and a network copy that loses one
loses little. A document is never divided between two parts.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanllama.base.making import Log

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
        self._part: Log | None = None
        self._hash: Any = None
        if state is not None and state["number"]:
            self.number, self.documents = state["number"], state["documents"]
            self.bytes = state["bytes"]
            self._part = Log(self._place(self.number - 1), state["held"])
            for path in folder.glob("part-*.jsonl"):
                if path > self._part.path:  # begun after the state
                    path.unlink()

    def state(self) -> dict[str, int]:
        """The state to continue from; syncs everything written so far to the disk."""
        held = self._part.sync() if self._part else 0
        return {
            "number": self.number,
            "documents": self.documents,
            "bytes": self.bytes,
            "held": held,
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
            part = self._part
            if part is None or part.size + ends[done] - start > PART_BYTES:
                part = self._next()
            # A line longer than a part fills a part alone.
            fitting = bisect.bisect_right(ends, start + PART_BYTES - part.size)
            stop = max(fitting, done + 1)
            part.write(view[start : ends[stop - 1]])
            if self._hash is not None:
                self._hash.update(view[start : ends[stop - 1]])
            self.bytes += ends[stop - 1] - start
            self.documents += stop - done
            start, done = ends[stop - 1], stop

    def _next(self) -> Log:
        if self._part is not None:
            self._part.sync()
        self.close()
        self._part = Log(self._place(self.number))
        self._hash = hashlib.sha256() if self.summed else None
        self.number += 1
        return self._part

    def _place(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.jsonl"

    def close(self) -> None:
        """Close the open part."""
        if self._part is not None:
            self._part.close()
            if self._hash is not None:
                self.sums[self._part.path.name] = self._hash.hexdigest()
            self._part = None

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
