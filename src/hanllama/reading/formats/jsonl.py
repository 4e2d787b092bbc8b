"""JSON lines: one record a line, UTF-8, lines ended by `\\n` alone."""

from __future__ import annotations

from collections.abc import Iterator

from hanllama.reading.formats import Piece, Source, _lines, _records

SUFFIXES = (".jsonl", ".ndjson")
parse, values = _records.parse, _records.values


def cut(source: Source) -> Iterator[Piece]:
    """Runs of lines; neither their number nor the size of the file has a limit."""
    return _lines.runs(source, "jsonl", _lines.lines(source.name, source.chunks()))
