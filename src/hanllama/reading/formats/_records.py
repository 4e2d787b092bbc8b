"""Records with fields (of JSON, CSV, Parquet): their values, and the documents in them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from hanllama.reading.formats import Document, Fields, Piece, Reject, Source, Value, show


def values(piece: Piece, fields: Fields) -> Iterator[Value | Reject]:
    """The values of a piece whose lines are JSON; empty lines are no records.

    The field `fields.id` keeps its digits, however many.
    """
    for number, line in enumerate(piece.lines, piece.first):
        if isinstance(line, Reject):
            yield line
            continue
        try:
            value = orjson.loads(line)
            # Beyond 64 bits orjson makes a float of an integer.
            if type(value) is not dict or type(value.get(fields.id)) is not float:
                yield number, value, line, True  # orjson refuses half pairs
                continue
        except orjson.JSONDecodeError:
            if not line.strip():
                continue
        # The standard library is the judge: it allows NaN and half pairs, and tells bad bytes
        # from bad JSON. A byte order mark stands where files were joined.
        try:
            yield number, json.loads(line.decode("utf-8-sig")), line, False
        except UnicodeDecodeError:
            yield Reject(piece.path, number, "line is not valid UTF-8", show(line))
        except (ValueError, RecursionError):
            yield Reject(piece.path, number, "invalid JSON", show(line))


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The documents of a piece whose lines are JSON."""
    return documents(piece, fields, values(piece, fields))


def documents(
    piece: Piece, fields: Fields, found: Iterable[Value | Reject]
) -> Iterator[Document | Reject]:
    """The document in each record, or the reason why there is none."""
    place = _place(piece.path)
    names = (fields.id, fields.source, fields.category, fields.licence, "license")
    for item in found:
        if isinstance(item, Reject):
            yield item
            continue
        number, record, line, is_unicode = item
        text = record.get(fields.text) if isinstance(record, dict) else None
        if not isinstance(text, str) or not (is_unicode or _is_unicode(text)):
            yield Reject(piece.path, number, _why_not(record, fields.text), show(line))
            continue
        get = record.get
        identity, source, category, licence, license_ = [
            "" if (value := get(name)) is None else _label(value) for name in names
        ]
        yield Document(
            text,
            identity or f"{place}:{number}",
            source or place,
            category,
            piece.encoding,
            licence or license_,
        )


def _why_not(record: Any, text_field: str) -> str:
    if record is None:
        return "null"
    if not isinstance(record, dict):
        return "not a JSON object"
    if text_field not in record:
        return f"no field {text_field!r}"
    if record[text_field] is None:
        return f"field {text_field!r} is null"
    if not isinstance(record[text_field], str):
        return f"field {text_field!r} is not text"
    return f"field {text_field!r} holds half a surrogate pair"


def _label(value: object) -> str:
    """A field that should be a short text; numbers count as their digits, the rest as absent."""
    if isinstance(value, str) and (value.isascii() or _is_unicode(value)):
        return value
    return str(value) if isinstance(value, int) else ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@functools.lru_cache(maxsize=16)  # asked for every piece of a file
def _place(name: str) -> str:
    return Source(name).place
