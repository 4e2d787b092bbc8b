"""Parquet: one row is one record, read by row groups in any process."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from hanllama.reading.formats import (
    Document,
    Fields,
    Piece,
    Reject,
    Source,
    Value,
    _records,
    _whole,
)

SUFFIXES = (".parquet",)
_BATCH_ROWS = 1024


def cut(source: Source) -> Iterator[Piece]:
    """A piece for each row group; a file inside of an archive is one piece."""
    import pyarrow as pa

    if not _is_plain(source):
        yield Piece(source.portable(), "parquet", group=-1, size=source.size)
        return
    try:
        with _opened(source.path) as table:
            rows = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
    except pa.ArrowInvalid as error:
        reject = Reject(source.name, 1, f"not a Parquet file: {error}")
        yield Piece(source, lines=(reject,), size=source.size)
        return
    first = 1
    for group, count in enumerate(rows):
        yield Piece(source, "parquet", first, group=group, size=source.size // len(rows))
        first += count


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """A document for each row; the columns of other fields are not read."""
    wanted = (*dataclasses.astuple(fields), "license")
    return _records.documents(piece, fields, values(piece, fields, wanted))


def values(piece: Piece, fields: Fields, columns: tuple[str, ...] = ()) -> Iterator[Value | Reject]:
    """The rows of the piece's row group, with the `columns` that are there, or with all.

    When the group cannot be read to its end, each row that is lost is a Reject.
    """
    import pyarrow as pa

    number, rows = piece.first, 1
    try:
        file: Any = piece.source.path
        if piece.group < 0:
            data = yield from _whole.read_whole(piece.source)
            if not data:
                return
            file = pa.BufferReader(data)
        with _opened(file) as table:
            groups = list(range(table.num_row_groups) if piece.group < 0 else [piece.group])
            rows = sum(table.metadata.row_group(group).num_rows for group in groups)
            names = table.schema_arrow.names
            if columns and fields.text not in names:
                yield from ((number + row, {}, b"", True) for row in range(rows))
                return
            kept = [name for name in names if name in columns] if columns else names
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=groups, columns=kept):
                for row in batch.to_pylist():
                    yield number, row, b"", False
                    number += 1
    except (OSError, pa.ArrowException) as error:
        what = f"row group {piece.group}" if piece.group >= 0 else "Parquet file"
        for lost in range(number, max(number + 1, piece.first + rows)):
            yield Reject(piece.path, lost, f"{what} cannot be read: {error}")


def _is_plain(source: Source) -> bool:
    return bool(source.path) and not source.compression and source.member < 0


def _opened(file: Any) -> contextlib.AbstractContextManager[Any]:
    import pyarrow.parquet as pq

    opened: contextlib.AbstractContextManager[Any] = pq.ParquetFile(file)
    return opened
