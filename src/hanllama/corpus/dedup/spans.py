"""Cut a file of JSON lines by bytes, so that each process reads its own part.

The general reader splits a file into lines in the first process and sends the lines. Here the first
process only searches a newline every few megabytes and sends the bounds of each span. Other
formats, compressed files and archives come as the pieces of `records`.
"""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hanllama.reading import records
from hanllama.reading.formats import Source, _lines, _source
from hanllama.reading.records import Piece

_FORMAT = "jsonl"
_HELD_BYTES = 33_000_000


def hold_memory() -> None:
    """Let this process reuse freed memory for the next job.

    Otherwise it goes back to the system, which clears every page again: a third of the time of
    reading. glibc keeps blocks up to the size of the largest freed one, at most 32 MiB. With other
    C libraries this does nothing.
    """
    np.empty(_HELD_BYTES, dtype=np.uint8)


@dataclass(frozen=True)
class Span:
    """Whole lines of a file.

    Attributes:
        start, stop: in bytes.
        first: the number of the first line. Before lines are counted, 1 at the file's beginning
            (where a byte order mark may stand) and any other number elsewhere.
    """

    source: Source
    start: int
    stop: int
    first: int

    def pieces(self) -> Iterator[Piece]:
        """The lines as pieces of the general reader."""
        if self.stop - self.start <= _lines.MAX_RECORD_BYTES:
            with contextlib.suppress(OSError):  # the general reader meets and reports it
                yield self._whole()
                return
        careful = _lines.lines(self.source.name, self._chunks(), first=self.first)
        yield from _lines.runs(self.source, _FORMAT, careful, first=self.first)

    def _whole(self) -> Piece:
        with open(self.source.path, "rb") as file:
            file.seek(self.start)
            lines = file.read(self.stop - self.start).split(b"\n")
        if self.first == 1:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        if not lines[-1]:  # after the last newline
            lines.pop()
        return Piece(self.source, _FORMAT, self.first, tuple(lines))

    def _chunks(self) -> Iterator[bytes]:
        with open(self.source.path, "rb") as file:
            file.seek(self.start)
            left = self.stop - self.start
            while chunk := file.read(min(left, _source.CHUNK_BYTES)):
                yield chunk
                left -= len(chunk)


def pieces(part: Piece | Span) -> Iterator[Piece]:
    """The pieces of a part."""
    return part.pieces() if isinstance(part, Span) else iter((part,))


def parts(path: Path, span_bytes: int) -> Iterator[Piece | Span]:
    """A file as spans of about `span_bytes`, or as pieces."""
    for piece in records.pieces(path):
        source = piece.source
        if piece.format == _FORMAT and not source.compression and source.member < 0:
            yield from _spans(source, span_bytes)
            return
        yield piece


def _spans(source: Source, span_bytes: int) -> Iterator[Span]:
    start = 0
    while start < source.size:
        stop = _line_end(source, start + span_bytes)
        yield Span(source, start, stop, first=1 if start == 0 else 2)
        start = stop


def _line_end(source: Source, at: int) -> int:
    """The end of the line that reaches beyond `at`."""
    try:
        with open(source.path, "rb") as file:
            file.seek(at)
            while at < source.size and (chunk := file.read(_source.CHUNK_BYTES // 16)):
                newline = chunk.find(b"\n")
                if newline >= 0:
                    return at + newline + 1
                at += len(chunk)
    except OSError:
        pass  # the reader of the span meets it too, and reports it in the quarantine
    return source.size
