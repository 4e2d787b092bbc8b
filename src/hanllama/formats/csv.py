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
from collections.abc import Iterator
from dataclasses import replace

import orjson

from hanllama.encoding import decode, decode_lines
from hanllama.errors import InputError
from hanllama.formats import (
    MAX_RAW_CHARACTERS,
    Document,
    Fields,
    Piece,
    Reject,
    Source,
    _lines,
    _records,
    _source,
    show,
)

SUFFIXES = (".csv", ".tsv")


def cut(source: Source) -> Iterator[Piece]:
    """Runs of rows. UTF-8 may be of any length; other encodings are decoded whole."""
    source = source.portable()  # it is read twice
    return _lines.runs(source, "csv", _rows(source), first=2)


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """A document for each row."""
    return _records.parse_lines(piece, fields)


def _rows(source: Source) -> Iterator[bytes | Reject]:
    """The rows as JSON objects by the header's names."""
    csv.field_size_limit(_lines.MAX_RECORD_BYTES)  # of the process; the default is 128 KiB
    feed = _Feed(source)
    tabs = source.suffix == ".tsv"
    rows = (
        csv.reader(feed, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tabs
        else csv.reader(feed, strict=True)
    )
    header: list[str] | None = None
    number = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Reject(source.name, number, f"not a row of CSV: {error}", feed.last)
            number += 1
            continue
        if feed.rejects:
            # Lines that were damaged stood before this row, and count as rows.
            for reject in feed.rejects:
                yield replace(reject, line=number)
                number += 1
            feed.rejects.clear()
        if row is None:
            break
        if header is None:
            header = [name.strip() for name in row]
        elif len(row) > len(header):
            reason = f"{len(row)} fields where the header has {len(header)}"
            yield Reject(source.name, number, reason, feed.last)
        else:
            yield orjson.dumps(dict(zip(header, row, strict=False))) if row else b""
        number += 1
    if header is None and number == 1:
        yield Reject(source.name, 1, "empty file")


class _Feed:
    """The lines of a file as text, for csv.reader; damaged ones are put aside."""

    def __init__(self, source: Source) -> None:
        self.rejects: list[Reject] = []
        self.last = ""  # to show beside a row that is none
        self._lines = _text_lines(source)

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if isinstance(line, Reject):
                self.rejects.append(line)
            else:
                self.last = line[:MAX_RAW_CHARACTERS]
                yield line


def _text_lines(source: Source) -> Iterator[str | Reject]:
    if _is_utf8(source):
        for record in _lines.lines(source.name, source.chunks()):
            if isinstance(record, Reject):
                yield record
                continue
            try:
                yield record.decode("utf-8") + "\n"
            except UnicodeDecodeError:
                yield Reject(source.name, 1, "line is not valid UTF-8", show(record))
        return
    data, why = source.whole()
    try:
        lines: list[str | None] = list(decode(data)[0].split("\n"))
    except InputError:
        try:
            lines = decode_lines(data)[0]
        except InputError as error:
            yield Reject(source.name, 1, str(error))
            return
    for line in lines:
        yield Reject(source.name, 1, "damaged line") if line is None else line + "\n"
    if why:
        yield Reject(source.name, 1, why)


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
