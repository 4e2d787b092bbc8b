"""JSON: the elements of an array one by one, however long it is; or lines; or a single object."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterator

from hanllama.reading.formats import (
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

SUFFIXES = (".json",)


def cut(source: Source) -> Iterator[Piece]:
    """Runs of elements, each a line of JSON for `parse`."""
    return _lines.runs(source, "json", _elements(source.name, source.chunks()))


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """A document for each element."""
    return _records.parse_lines(piece, fields)


def _elements(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """The elements of a JSON array; other JSON is lines, or one object."""
    # A byte that is no UTF-8 travels through, so that only its own element is rejected.
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    scan = json.JSONDecoder().raw_decode
    buffer, at, number, opened, wanted = "", 0, 1, False, 0
    try:
        while True:
            chunk = next(chunks, b"")
            buffer, at = buffer[at:] + decoder.decode(chunk, final=not chunk), 0
            if not opened:
                buffer = buffer.lstrip()
                if buffer and buffer[0] != "[":
                    head = buffer.encode("utf-8", "surrogateescape")
                    yield from _objects(file, itertools.chain([head], chunks))
                    return
                if not buffer and not chunk:
                    yield Reject(file, 1, "empty file")
                    return
                opened, at = bool(buffer), len(buffer[:1])
            # An element longer than a chunk is scanned again only once the buffer has doubled.
            if chunk and len(buffer) < wanted:
                continue
            while True:
                at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
                if at == len(buffer) or buffer[at] == "]":
                    break
                try:
                    _, end = scan(buffer, at)
                except (ValueError, RecursionError):
                    break
                if chunk and end == len(buffer):
                    break  # a number may go on in the next chunk
                yield buffer[at:end].encode("utf-8", "surrogateescape")
                at, number = end, number + 1
            if buffer[at : at + 1] == "]":
                return
            wanted = 2 * (len(buffer) - at)
            if not chunk or len(buffer) - at > _lines.MAX_RECORD_BYTES:
                reason = "invalid JSON: the array cannot be read from this element on"
                yield Reject(file, number, reason, show(buffer[at:]))
                return
    except _source.DAMAGE as error:
        yield Reject(file, number, _source.broken(error), show(buffer[at:]))


_BETWEEN = re.compile(r"[ \t\r\n,]*")


def _objects(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """A `.json` file without an array: JSON lines, or one object over many lines."""
    lines = _lines.lines(file, chunks)
    first = next(lines)
    if isinstance(first, bytes) and not _is_json(first):
        # Not JSON lines. One object over many lines, or else damage, judged line by line.
        head, held = [first], len(first)
        for line in lines:
            head.append(line)  # type: ignore[arg-type]
            held += len(line) if isinstance(line, bytes) else 0
            if held > _lines.MAX_RECORD_BYTES:
                break
        whole = b"\n".join(line for line in head if isinstance(line, bytes))
        if _is_json(whole):
            yield whole
            return
        yield from head
    else:
        yield first
    yield from lines


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
