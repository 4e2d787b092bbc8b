"""What cannot be used: counted by reason, and kept to be looked at."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from hanllama.base import fs
from hanllama.reading.formats import MAX_RAW_CHARACTERS, Reject, show


class Quarantine:
    """Where unusable records go: JSON lines with `file`, `line`, `reason`, `raw`.

    `raw` holds the first 2,000 characters. Without a path the records are counted and not kept.

        with Quarantine(folder / "quarantine.jsonl") as quarantine:
            for document in read(inputs, quarantine): ...
        print(quarantine.count, quarantine.reasons.most_common())
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self.first: Reject | None = None
        self._out: IO[bytes] | None = None

    def __enter__(self) -> Quarantine:
        if self.path is not None:
            with fs.storage(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._out = open(self.path, "wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._out is not None and self.path is not None:
            with fs.storage(self.path):
                self._out.close()
            self._out = None

    def add(self, file: str | Path, line: int, reason: str, raw: str | bytes = "") -> None:
        """Keep one record. Bytes that are no UTF-8 are shown as `\\xNN`."""
        if isinstance(raw, bytes):
            raw = show(raw)
        self.put(Reject(str(file), line, reason, raw[:MAX_RAW_CHARACTERS]))

    def put(self, reject: Reject) -> None:
        """Keep one record that `parse` gave."""
        self.count += 1
        self.reasons[reject.reason] += 1
        self.first = self.first or reject
        if self._out is not None and self.path is not None:
            with fs.storage(self.path):
                self._out.write(reject_line(reject))

    def flush(self) -> None:
        """Hand what was added to the system, so that the file can be read."""
        if self._out is not None and self.path is not None:
            with fs.storage(self.path):
                self._out.flush()

    def summary(self) -> str:
        """`3 x invalid JSON, 1 x line is not valid UTF-8; first a.jsonl, line 7`."""
        if self.first is None:
            return "nothing"
        return f"{counted(self.reasons, 3)}; first: {self.first.file}, line {self.first.line}"


def counted(reasons: Counter[str], shown: int = 5) -> str:
    """`3 x invalid JSON, 1 x null and 2 more`: the most frequent by name, the others by number."""
    most = reasons.most_common(shown)
    named = ", ".join(f"{n:,} x {reason}" for reason, n in most)
    more = reasons.total() - sum(n for _, n in most)
    return f"{named} and {more:,} more" if more else named


def reject_line(reject: Reject) -> bytes:
    """A reject as one line of `quarantine.jsonl`."""
    return json_line({name: getattr(reject, name) for name in ("file", "line", "reason", "raw")})


def json_line(entry: dict[str, Any]) -> bytes:
    """A line of JSON. A surrogate has no UTF-8; everything else is written as it is."""
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
