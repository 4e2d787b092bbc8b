"""Files of records -> the records as they are, each with the file and the line it stands at.

`records.read` gives documents, which are texts. Conversations, exams, prompts and downloads need
the whole record. Both stand on the same two halves of a format: the cut (`records.pieces` knows
compression, archives, JSON arrays, lines, CSV and standard input) and the values in a piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanllama.base.errors import InputError
from hanllama.reading import records
from hanllama.reading.formats import Fields, show
from hanllama.reading.records import Piece, Reject

_FIELDS = Fields()
KINDS = "JSON, JSON lines, CSV or Parquet"


@dataclass(frozen=True, slots=True)
class Row:
    """One record: what it says, and where it stands (line, array element or row, from 1).

    `place` is the file without this machine's folders, `raw` its line of JSON where it has one.
    """

    file: str
    place: str
    line: int
    value: Any
    raw: bytes = b""

    @property
    def shown(self) -> str:
        """The record's beginning, for a message."""
        return f"{self.reject('').raw:.80}"

    def reject(self, reason: str) -> Reject:
        """The record as one that cannot be used."""
        raw = self.raw or json.dumps(self.value, ensure_ascii=False, default=str)
        return Reject(self.file, self.line, reason, show(raw))


class Rows:
    """The records of files, folders, globs or standard input (`-`), in the order of `files`.

    Attributes:
        size: bytes on disk of all that is read; 0 for standard input.
        done: bytes of it that were read so far.
        ignored: files of text inside of the given folders, which hold no records.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self._inputs = [str(name) for name in inputs]
        self._survey = records.survey(self._inputs)
        self.size, self.done = self._survey.size, 0
        self.ignored: list[str] = []

    def __iter__(self) -> Iterator[Row | Reject]:
        self.done, self.ignored = 0, []
        for piece in self._survey.pieces():
            if records.holds_rows(piece):
                yield from rows(piece)
            # A README beside the records is no fault; a text that was asked for by name is.
            elif any(Path(piece.path) == Path(given) for given in self._inputs):
                raise InputError(f"{piece.path} holds text and no records; give {KINDS}")
            else:
                self.ignored.append(piece.path)
            self.done += piece.size


def rows(piece: Piece) -> Iterator[Row | Reject]:
    """The records of a piece that holds some, in order."""
    place = piece.source.place
    for item in records.values(piece, _FIELDS):
        if isinstance(item, Reject):
            yield item
        else:
            number, value, raw, _ = item
            yield Row(piece.path, place, number, value, raw)


def of_file(path: Path, what: str) -> Iterator[Row]:
    """The records of a small file in which each has to be right; JSON lines if its name says less.

    Args:
        what: the file holds, for messages: `pieces file`.

    Raises InputError when the file cannot be read, and for what is no object in it.
    """
    for piece in records.pieces(path, default="jsonl"):
        for row in rows(piece):
            if isinstance(row, Row) and not isinstance(row.value, dict):
                row = row.reject("not a JSON object")
            if isinstance(row, Reject):
                if row.reason.startswith("cannot be read"):
                    raise InputError(f"{what} {row.file} {row.reason}")
                where = f"{what} {row.file}, line {row.line}"
                raise InputError(f"{where}: {row.reason}: {row.raw:.80}")
            yield row
