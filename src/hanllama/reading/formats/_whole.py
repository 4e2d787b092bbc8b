"""A file that is one document: decoded as a whole, saved line by line where it is damaged."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Generator, Iterator

from hanllama.base.errors import InputError
from hanllama.reading.encoding import decode, decode_lines
from hanllama.reading.formats import (
    MAX_RAW_CHARACTERS,
    Document,
    Piece,
    Reject,
    Source,
    _source,
    show,
)


def whole_file(source: Source, format_name: str) -> Iterator[Piece]:
    """One piece, which is read where it is parsed."""
    yield Piece(source.portable(), format_name, size=source.size)


def parse_text(
    piece: Piece, transform: Callable[[str], str], hint: Callable[[bytes], str] | None = None
) -> Iterator[Document | Reject]:
    """The document of a text file, after `transform`; `hint` finds an encoding that it states."""
    data = yield from read_whole(piece.source)
    if not data:
        return
    try:
        text, encoding, rejects = decoded(piece.path, data, hint(data) if hint else "")
    except InputError as error:
        yield Reject(piece.path, 1, str(error), show(data[:MAX_RAW_CHARACTERS]))
        return
    yield from rejects
    place = piece.source.place
    yield Document(transform(text), id=place, source=place, encoding=encoding)


def decoded(name: str, data: bytes, hint: str = "") -> tuple[str, str, list[Reject]]:
    """(the text, its encoding, the lines that are damaged and left out).

    Raises InputError when it is no text, or more than a few of its lines are damaged.
    """
    try:
        return *decode(data, hint), []
    except InputError as error:
        try:
            lines, encoding = decode_lines(data)
        except InputError:
            raise error from None
    reason = f"line is not valid {encoding} (the rest of the file is)"
    raw = data.split(b"\n")
    rejects = [
        Reject(name, number, reason, show(raw[number - 1]))
        for number, line in enumerate(lines, 1)
        if line is None
    ]
    return "\n".join(line for line in lines if line is not None), encoding, rejects


def read_whole(source: Source) -> Generator[Reject, None, bytes]:
    """A file's bytes as the generator's return value; empty when there is nothing to use.

    Of a file cut short the whole lines are kept; what is lost is a Reject.
    """
    data, broken = source.whole()
    if broken:
        yield Reject(source.name, data.count(b"\n") + 1, broken)
        data = _whole_lines(data)
    if len(data) > _source.MAX_DOCUMENT_BYTES:
        limit = _source.MAX_DOCUMENT_BYTES // 2**20
        yield Reject(
            source.name, 1, f"longer than {limit} MiB as one document: split it into files"
        )
        return b""
    if not data and not broken:
        yield Reject(source.name, 1, "empty file")
    return data


def _whole_lines(data: bytes) -> bytes:
    """Without the last line, which is cut anywhere, even inside a character."""
    newline = b"\n"
    if data.startswith(codecs.BOM_UTF16_LE):
        newline = b"\n\0"
    elif data.startswith(codecs.BOM_UTF16_BE):
        newline = b"\0\n"
    elif b"\0" in data[:4096]:
        # Without a mark: newlines and spaces are what has a zero byte, first or second.
        newline = b"\n\0" if data[1::2].count(0) > data[::2].count(0) else b"\0\n"
    end = data.rfind(newline)
    while len(newline) == 2 and end % 2 and end > 0:  # two bytes of different characters
        end = data.rfind(newline, 0, end + 1)
    return data[: end + len(newline)] if end >= 0 else b""
