"""A file of JSON lines cut by bytes, so that each process reads its own part.

The general reader splits a file into lines in the first process and hands them on. Here the first
process looks only for one newline every few megabytes, and what travels is where a span begins and
ends. Files of any other kind, compressed ones and archives come as the pieces of `records`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanllama.corpus.dedup.arena import Arena
from hanllama.reading import records
from hanllama.reading.formats import Source, _lines, _source
from hanllama.reading.records import Piece

FORMAT = "jsonl"  # the only kind of piece whose lines are looked at by compiled loops


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

    def data(self, arena: Arena) -> NDArray[np.uint8] | None:
        """All lines, in an arena; None when they need the care of `pieces`.

        That is when the file cannot be read, and when a line may be longer than a record may be.
        """
        if self.stop - self.start > _lines.MAX_RECORD_BYTES:
            return None
        data = arena.take(self.stop - self.start)
        size = 0
        try:
            with open(self.source.path, "rb", buffering=0) as file:
                file.seek(self.start)
                while count := file.readinto(data[size:]):  # type: ignore[arg-type]
                    size += count
        except OSError:
            return None
        begins = not self.start and data[: min(size, 3)].tobytes() == codecs.BOM_UTF8
        return data[3 * begins : size]

    def pieces(self) -> Iterator[Piece]:
        """The span as the general reader cuts it."""
        lines = _lines.lines(self.source.name, self._chunks(), first=self.first)
        return _lines.runs(self.source, FORMAT, lines, first=self.first)

    def _chunks(self) -> Iterator[bytes]:
        with open(self.source.path, "rb") as file:
            file.seek(self.start)
            left = self.stop - self.start
            while chunk := file.read(min(left, _source.CHUNK_BYTES)):
                yield chunk
                left -= len(chunk)


def parts(path: Path, span_bytes: int) -> Iterator[Piece | Span]:
    """A file in spans of about so many bytes, or in pieces."""
    pieces = records.pieces(path)
    for piece in pieces:
        source = piece.source
        if piece.format == FORMAT and not source.compression and source.member < 0:
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
