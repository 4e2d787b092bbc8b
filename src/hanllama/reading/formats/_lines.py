"""Bytes -> lines -> pieces of about a megabyte: what every format of many records shares."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from hanllama.reading.formats import MAX_RAW_CHARACTERS, Piece, Reject, Source, _source, show

MAX_RECORD_BYTES = 32 * 2**20  # a line longer than any book is a damaged file, not a document


def lines(file: str, chunks: Iterable[bytes], *, first: int = 1) -> Iterator[bytes | Reject]:
    """Lines ended by `\\n` alone, numbered from `first`; without a byte order mark before line 1.

    U+2028 and its like occur inside real text. A line that is too long is a Reject, and so is what
    was lost where an archive is damaged.
    """
    number, rest = first, b""
    skipped = 0  # bytes of a line that is over the limit already
    head = b""
    try:
        for chunk in chunks:
            *whole, tail = chunk.split(b"\n")
            for line in whole:
                if skipped:
                    yield too_long(file, number, head)
                    skipped = 0
                else:
                    line = rest + line
                    if number == 1:
                        line = line.removeprefix(codecs.BOM_UTF8)
                    yield line if len(line) <= MAX_RECORD_BYTES else too_long(file, number, line)
                rest, number = b"", number + 1
            if skipped:
                skipped += len(tail)
                continue
            rest += tail
            if len(rest) > MAX_RECORD_BYTES:
                skipped, head, rest = len(rest), rest[:MAX_RAW_CHARACTERS], b""
    except _source.DAMAGE as error:
        yield Reject(file, number, _source.broken(error), show(head if skipped else rest))
        return
    if skipped:
        yield too_long(file, number, head)
    elif rest:
        yield rest.removeprefix(codecs.BOM_UTF8) if number == 1 else rest


def too_long(file: str, number: int, record: bytes) -> Reject:
    return Reject(file, number, f"longer than {MAX_RECORD_BYTES // 2**20} MiB", show(record))


def runs(
    source: Source,
    format_name: str,
    records: Iterable[bytes | Reject],
    *,
    first: int = 1,
    encoding: str = "utf-8",
) -> Iterator[Piece]:
    """Group the records of a file into pieces of about a megabyte; the first has number `first`."""
    bare = Source(source.name, source.path, source.member, source.size, source.compression)
    run, held, left = list[bytes | Reject](), 0, source.size
    # Text compresses to about a third; the last piece makes the sum right.
    ratio = 3 if source.compression or source.member >= 0 else 1
    for record in records:
        if held >= _source.CHUNK_BYTES:
            share = min(held // ratio, left)
            yield Piece(bare, format_name, first, tuple(run), size=share, encoding=encoding)
            first, run, held, left = first + len(run), [], 0, left - share
        run.append(record)
        # An empty line counts too: a file of nothing else must not become one piece.
        held += 1 + (len(record) if isinstance(record, bytes) else 0)
    if run:
        yield Piece(bare, format_name, first, tuple(run), size=left, encoding=encoding)
