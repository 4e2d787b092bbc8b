"""A file of JSON lines cut by bytes, so that each process reads its own part.

The general reader splits a file into lines in the first process and hands them on. Here the first
process looks only for one newline every few megabytes, and what travels is where a span begins and
ends. Files of any other kind, compressed ones and archives come as the pieces of `records`.
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
    """Let this process keep the memory that one job frees for the next one.

    Otherwise it goes back to the system, which clears every page anew before it hands it out: a
    third of the time of reading. glibc keeps what is no larger than the largest block that was ever
    freed, up to 32 MiB; elsewhere nothing happens.
    """
    np.empty(_HELD_BYTES, dtype=np.uint8)


@dataclass(frozen=True)
class Span:
    """Whole lines of a file.

    Attributes:
        start, stop: in bytes.
        first: the number of the first line; while nobody has counted, any but 1 behind the file's
            beginning (where a byte order mark may stand).
    """

    source: Source
    start: int
    stop: int
    first: int

    def pieces(self) -> Iterator[Piece]:
        """The lines as the general reader takes them."""
        if self.stop - self.start <= _lines.MAX_RECORD_BYTES:
            with contextlib.suppress(OSError):  # the general reader meets it, too, and says so
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
        if not lines[-1]:  # behind the last newline
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
    """A part as the general reader takes it."""
    return part.pieces() if isinstance(part, Span) else iter((part,))


def parts(path: Path, span_bytes: int) -> Iterator[Piece | Span]:
    """A file in spans of about so many bytes, or in pieces."""
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
    """Where the line that reaches beyond `at` ends."""
    try:
        with open(source.path, "rb") as file:
            file.seek(at)
            while at < source.size and (chunk := file.read(_source.CHUNK_BYTES // 16)):
                newline = chunk.find(b"\n")
                if newline >= 0:
                    return at + newline + 1
                at += len(chunk)
    except OSError:
        pass  # who reads the span will meet it too, and say so in the quarantine
    return source.size
