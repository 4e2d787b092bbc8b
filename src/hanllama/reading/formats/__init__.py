"""The formats that text comes in, one file each, and what a format has to be.

A format is a module of this folder with

    SUFFIXES: tuple[str, ...]                                  # the file names it understands
    def cut(source: Source) -> Iterator[Piece]                 # cheap, in one process, in order
    def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]   # in any process

and, where it holds records, `values(piece, fields)`. It is found by its suffixes: nothing else has
to be edited. The cut reads no more than it must (a
book is one piece that only names its file; JSON lines are runs of lines; Parquet its row groups),
so that a cleaner hands the pieces to its workers and still gets the documents in order. Compression
and archives are none of a format's business: `Source` gives it bytes.

A module whose name begins with `_` is no format but something several of them share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hanllama.reading.formats._source import Source

__all__ = [
    "Document",
    "Fields",
    "Format",
    "Piece",
    "RecordFormat",
    "Reject",
    "Source",
    "Value",
    "show",
]

MAX_RAW_CHARACTERS = 2000  # of a reject, kept to look at


@dataclass(slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        text: the text itself, any Unicode, lines ended by `\\n` or as they were.
        id: unique where the data has ids; else `source`, with `:line` for a record of many.
        source: where it came from; `folder/file` unless the record says otherwise.
        category: a label of the record, if it has one.
        encoding: of the file it was read from.
        licence: as the record states it.
    """

    text: str
    id: str = ""
    source: str = ""
    category: str = ""
    encoding: str = "utf-8"
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used: `line` counts from 1 (array elements and rows too)."""

    file: str
    line: int
    reason: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field of a JSON, CSV or Parquet record is what; a licence may be spelt `license`."""

    text: str = "text"
    id: str = "id"
    source: str = "source"
    category: str = "category"
    licence: str = "licence"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that can be parsed on its own, in any process.

    Attributes:
        source: where its bytes are.
        format: the module that parses it; empty when there are only rejects to hand on.
        first: the number of the first line, element or row.
        lines: records as bytes; one that is already known to be unusable is a Reject.
        group: the number of a Parquet row group.
        encoding: that the lines were in, before they were UTF-8.
        size: its share of the file's bytes on disk, for a progress display.
    """

    source: Source
    format: str = ""
    first: int = 1
    lines: tuple[bytes | Reject, ...] = ()
    group: int = 0
    size: int = 0
    encoding: str = "utf-8"

    @property
    def path(self) -> str:
        """The file as it is shown: a path, `archive.zip!member`, or `-`."""
        return self.source.name

    @property
    def held_bytes(self) -> int:
        """How many bytes travel with the piece itself."""
        return sum(len(line) for line in self.lines if isinstance(line, bytes))


class Format(Protocol):
    """What a module of this folder offers."""

    SUFFIXES: tuple[str, ...]

    def cut(self, source: Source) -> Iterator[Piece]:
        """Cut a file into pieces, reading no more of it than the cut needs."""

    def parse(self, piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
        """The documents and rejects of a piece, in order."""


class RecordFormat(Format, Protocol):
    """What a module of this folder offers whose files hold records."""

    def values(self, piece: Piece, fields: Fields) -> Iterator[Value | Reject]:
        """The records of a piece; the field `fields.id` keeps its digits, however many."""


# The number of a record, what it says, its line of JSON or b"", and whether no text of it can hold
# half a surrogate pair.
Value = tuple[int, Any, bytes, bool]


def show(raw: bytes | str) -> str:
    """The beginning of a record, to look at; bytes that are no UTF-8 as `\\xNN`."""
    if isinstance(raw, str):
        raw = raw[:MAX_RAW_CHARACTERS].encode("utf-8", "surrogateescape")
    return raw[: 4 * MAX_RAW_CHARACTERS].decode("utf-8", "backslashreplace")[:MAX_RAW_CHARACTERS]
