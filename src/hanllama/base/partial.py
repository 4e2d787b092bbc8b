"""A cleaning that is not finished: what lies beside the output until it is.

    OUTPUT.partial/
      corpus/        what will be the corpus folder: parts, quarantine.jsonl, dropped.jsonl
      digests.bin    the digest of every document written so far, 16 bytes each
      state.json     how far the input was read, every count, and the size of each file by then

The files only grow, so a state that knows their sizes is enough to go on from: whatever was written
after it is cut off, and the same work is done again with the same result. `state.json` is replaced
in one step after everything it speaks of is on the disk; a process killed at any moment leaves the
last one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from hanllama.base import fs
from hanllama.base.errors import CorruptError

CORPUS, DIGESTS, STATE = "corpus", "digests.bin", "state.json"


class Partial:
    """The folder beside the output, and what its state says.

    Args:
        output: the corpus folder that is being made.
        wanted: what the result depends on, by name; a state that was made from something else is
            of no use.

    Attributes:
        state: of the cleaning to go on with; None when there is none.
        why: what differs from the state that was found, and is lost; "" when nothing.
    """

    def __init__(self, output: Path, wanted: Mapping[str, str]) -> None:
        self.folder = output.with_name(f"{output.name}.partial")
        self.corpus = self.folder / CORPUS
        self.wanted = dict(wanted)
        self.state: dict[str, Any] | None = None
        self.why = ""
        try:
            found = fs.read_json(self.folder / STATE) if (self.folder / STATE).exists() else None
        except CorruptError:
            found, self.why = None, "its state cannot be read"
        if found is not None:
            changed = [k for k in self.wanted if found.get("wanted", {}).get(k) != self.wanted[k]]
            if changed:
                self.why = " and ".join(changed) + " changed"
            elif self.corpus.is_dir():  # else it was published, and this is what stayed behind
                self.state = found

    def __enter__(self) -> Partial:
        with fs.storage(self.folder):
            if self.state is None:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.corpus.mkdir(parents=True)
            else:
                # A kill while publishing left a report, checksums, a half of them: made again.
                for path in self.corpus.iterdir():
                    if not path.name.endswith(".jsonl"):
                        path.unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without a saved state there is nothing to go on from."""
        if kind is not None and self.state is None:
            self.remove()

    def save(self, state: Mapping[str, Any]) -> None:
        """Remember a state; the files it speaks of are on the disk already."""
        self.state = {"wanted": self.wanted, **state}
        fs.write_json(self.folder / STATE, self.state)

    def publish(self, output: Path) -> None:
        """Put the finished corpus in its place."""
        fs.put_in_place(self.corpus, output)
        self.remove()

    def remove(self) -> None:
        """Forget the unfinished work."""
        # The state first: half a corpus must not be gone on with.
        (self.folder / STATE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Log:
    """A file that only grows.

    Args:
        path: the file; created when missing.
        size: what is to stay of it, in bytes; the rest was written after the state that is gone
            on from.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        with fs.storage(path):
            self._out: IO[bytes] = open(path, "ab")  # noqa: SIM115 (open across calls)
            if self._out.tell() < size:
                raise CorruptError(
                    f"{path} is shorter than its state says; remove {path.parent} to start afresh"
                )
            self._out.truncate(size)
        self.size = size

    def write(self, data: bytes) -> None:
        """Add bytes."""
        if data:
            with fs.storage(self.path):
                self._out.write(data)
            self.size += len(data)

    def sync(self) -> int:
        """Bring everything to the disk; returns the size."""
        self.flush()
        with fs.storage(self.path):
            os.fsync(self._out.fileno())
        return self.size

    def flush(self) -> None:
        """Hand everything to the system, so that the file can be read."""
        with fs.storage(self.path):
            self._out.flush()

    def close(self) -> None:
        """Close the file."""
        with fs.storage(self.path):
            self._out.close()
