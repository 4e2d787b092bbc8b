"""CSV and TSV with a header: one row is one record.

A row may go over many lines inside of quotes, so rows can only be found by reading them; they are
read here, in one pass, and travel to `parse` as lines of JSON. `line` in a reject counts rows as a
spreadsheet does: the header is row 1.

CSV is quoted as Excel and pandas quote it. TSV is not (IANA's definition): a tab always ends a
field and a line end a row, since tables of Chinese sentences are full of stray quotation marks.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import orjson

from hanllama.base.errors import InputError
from hanllama.reading.formats import (
    MAX_RAW_CHARACTERS,
    Piece,
    Reject,
    Source,
    _lines,
    _records,
    _source,
    _whole,
    show,
)

SUFFIXES = (".csv", ".tsv")
parse, values = _records.parse, _records.values
Row = tuple[list[str], str]  # the cells, the beginning of its text


def cut(source: Source) -> Iterator[Piece]:
    """Runs of rows, each a JSON object by the header's names."""
    source = source.portable()  # it is read twice
    encoding, lines = _decoded(source)
    rows = _numbered(_by_header(source, cells(source, lines)))
    yield from _lines.runs(source, "csv", rows, first=2, encoding=encoding)


def cells(source: Source, lines: Iterable[str | Reject]) -> Iterator[Row | Reject]:
    """Every row of a table, the header among them."""
    csv.field_size_limit(_lines.MAX_RECORD_BYTES)  # of the process; the default is 128 KiB
    feed = _Feed(lines)
    if source.suffix == ".tsv":
        reader = csv.reader(feed, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(feed, strict=True)
    rows = lines_read = 0
    while True:
        feed.taken = 0
        try:
            row = next(reader, None)
        except csv.Error as error:
            # A quotation mark that is not closed takes what follows: it counts by its lines.
            for _ in range(max(1, round(feed.taken * rows / max(lines_read, 1)))):
                yield Reject(source.name, 0, f"not a row of CSV: {error}", feed.shown)
            continue
        # Lines that were damaged stood before this row, and count as rows.
        yield from feed.rejects
        feed.rejects.clear()
        if row is None:
            return
        rows, lines_read = rows + 1, lines_read + feed.taken
        yield row, feed.shown


def _by_header(source: Source, rows: Iterable[Row | Reject]) -> Iterator[bytes | Reject]:
    header: list[str] | None = None
    item = None
    for item in rows:
        if isinstance(item, Reject):
            yield item
            continue
        row, shown = item
        if header is None:
            header = [name.strip() for name in row]
        elif len(row) > len(header):
            reason = f"more fields than the {len(header)} of the header"
            yield Reject(source.name, 0, reason, shown)
        else:
            yield orjson.dumps(dict(zip(header, row, strict=False))) if row else b""
    if item is None:
        yield Reject(source.name, 0, "no header")


class _Feed:
    """Lines for csv.reader; damaged ones are put aside."""

    def __init__(self, lines: Iterable[str | Reject]) -> None:
        self.rejects: list[Reject] = []
        self.shown = ""  # the beginning of the present row
        self.taken = 0  # lines of it
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if isinstance(line, Reject):
                self.rejects.append(line)
                continue
            if not self.taken:
                self.shown = ""
            self.taken += 1
            if len(self.shown) < MAX_RAW_CHARACTERS:
                self.shown = (self.shown + line)[:MAX_RAW_CHARACTERS]
            yield line


def _numbered(rows: Iterable[bytes | Reject]) -> Iterator[bytes | Reject]:
    """Rejects with the numbers of their rows, the header being row 1; others know their line."""
    for number, row in enumerate(rows, 2):
        yield replace(row, line=number) if isinstance(row, Reject) and not row.line else row


def _decoded(source: Source) -> tuple[str, Iterable[str | Reject]]:
    """(encoding, lines): UTF-8 may be of any length; other encodings are decoded whole."""
    if _is_utf8(source):
        return "utf-8", _utf8_lines(source)
    data, why = source.whole()
    try:
        text, encoding, damaged = _whole.decoded(source.name, data)
    except InputError as error:
        return "utf-8", [Reject(source.name, 1, str(error), show(data[:MAX_RAW_CHARACTERS]))]
    cut_short = [Reject(source.name, 0, why)] if why else []
    return encoding, itertools.chain(damaged, io.StringIO(text, newline="\n"), cut_short)


def _utf8_lines(source: Source) -> Iterator[str | Reject]:
    for record in _lines.lines(source.name, source.chunks()):
        if isinstance(record, Reject):
            yield record
            continue
        try:
            yield record.decode("utf-8") + "\n"
        except UnicodeDecodeError:
            yield Reject(source.name, 0, "line is not valid UTF-8", show(record))


def _is_utf8(source: Source) -> bool:
    """Whether the whole file is UTF-8, or too long to be decoded as anything else."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    seen = 0
    try:
        for chunk in source.chunks():
            decoder.decode(chunk)
            seen += len(chunk)
    except UnicodeDecodeError:
        return seen > _source.MAX_DOCUMENT_BYTES
    except _source.DAMAGE:
        return True  # as far as it goes; the reading names the damage
    return True
