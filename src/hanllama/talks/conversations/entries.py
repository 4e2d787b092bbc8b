"""Files of records -> the records themselves, with the file and the line they stand at.

`records.read` gives documents, which are texts; a conversation needs the whole object. The cut of a
file into records is the same (`records.pieces`): compression, archives, JSON arrays, lines, CSV
and standard input are known there alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from hanllama.base.errors import InputError
from hanllama.reading import records
from hanllama.reading.formats import show
from hanllama.reading.records import Piece, Reject

RECORD_FORMATS = ("json", "jsonl", "csv", "parquet")
_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: what it says, and where it stands (line, array element or row, from 1)."""

    file: str
    place: str
    line: int
    value: Any
    line_bytes: bytes | None = None

    def reject(self, reason: str) -> Reject:
        """The record as one that cannot be used."""
        raw = self.line_bytes
        if raw is None:
            raw = json.dumps(self.value, ensure_ascii=False, default=str).encode(
                "utf-8", "backslashreplace"
            )
        return Reject(self.file, self.line, reason, show(raw))


class Entries:
    """The records of files, folders, globs or standard input (`-`), in the order of `files`.

    Attributes:
        size: bytes on disk of all that is read; 0 for standard input.
        done: bytes of it that were read so far.
        ignored: files of text inside of the given folders, which hold no records.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self._inputs = [str(name) for name in inputs]
        self._files: tuple[Path, ...] = ()
        self.size = self.done = 0
        self.ignored: list[str] = []
        if self._inputs != ["-"]:
            if "-" in self._inputs:
                raise InputError("standard input (-) cannot be mixed with files")
            found = records.survey(self._inputs)
            self._files, self.size = found.files, found.size

    def __iter__(self) -> Iterator[Entry | Reject]:
        self.done, self.ignored = 0, []
        for piece in self._pieces():
            if piece.format and piece.format not in RECORD_FORMATS:
                self._put_aside(piece.path)
            elif piece.format == "parquet":
                yield from _rows(piece)
            else:
                yield from _lines(piece)
            self.done += piece.size

    def _pieces(self) -> Iterator[Piece]:
        if self._inputs == ["-"]:
            yield from records.standard_input()
        for path in self._files:
            yield from records.pieces(path)

    def _put_aside(self, name: str) -> None:
        """A README beside the records is no fault; a text that was asked for by name is."""
        if name == "-" or any(Path(name) == Path(given) for given in self._inputs):
            raise InputError(
                f"{name} holds text and no records; give JSON, JSON lines, CSV or Parquet"
            )
        self.ignored.append(name)


def _lines(piece: Piece) -> Iterator[Entry | Reject]:
    place = piece.source.place
    for number, line in enumerate(piece.lines, piece.first):
        if isinstance(line, Reject):
            yield line
        elif line.strip():
            try:
                yield Entry(piece.path, place, number, _value(line), line)
            except UnicodeDecodeError:
                yield Reject(piece.path, number, "line is not valid UTF-8", show(line))
            except (ValueError, RecursionError):
                yield Reject(piece.path, number, "invalid JSON", show(line))


def _value(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # The standard library is the judge: it allows NaN, and tells bad bytes from bad JSON.
        return json.loads(line.decode("utf-8"))


def _rows(piece: Piece) -> Iterator[Entry | Reject]:
    """The rows of a Parquet piece: of one row group, or of a whole file inside of an archive."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number, place = piece.first, piece.source.place
    try:
        file: Any = piece.source.path
        if piece.group < 0:
            data, why = piece.source.whole()
            if why:
                yield Reject(piece.path, 1, why)
                return
            file = pa.BufferReader(data)
        with pq.ParquetFile(file) as table:
            groups = range(table.num_row_groups) if piece.group < 0 else [piece.group]
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=list(groups)):
                for row in batch.to_pylist():
                    yield Entry(piece.path, place, number, row)
                    number += 1
    except (OSError, pa.ArrowException) as error:
        yield Reject(piece.path, number, f"Parquet file cannot be read: {error}")
