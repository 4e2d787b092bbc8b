"""A record with fields (of JSON, CSV, Parquet) -> a document, or the reason why it is none."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import orjson

from hanllama.reading.formats import Document, Fields, Piece, Reject, Source, show


def parse_lines(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The documents of a piece whose lines are JSON objects; empty lines are no records."""
    for number, line in enumerate(piece.lines, piece.first):
        if isinstance(line, Reject):
            yield line
        elif line.strip():
            item = _parse_line(piece.source, number, line, fields)
            if isinstance(item, Document):
                item.encoding = piece.encoding
            yield item


def document(
    source: Source,
    number: int,
    record: Any,
    fields: Fields,
    raw: bytes | str = "",
    *,
    is_unicode: bool = False,
) -> Document | Reject:
    """The document in record `number` of a file; `raw` is shown when there is none.

    `is_unicode` says that no text of it holds half a surrogate pair; else that is looked at.
    """
    text = record.get(fields.text) if isinstance(record, dict) else None
    if not isinstance(text, str) or not (is_unicode or _is_unicode(text)):
        return Reject(source.name, number, _why_not(record, fields.text), show(raw))
    place = _place(source.name)
    return Document(
        text,
        id=_label(record, fields.id) or f"{place}:{number}",
        source=_label(record, fields.source) or place,
        category=_label(record, fields.category),
        licence=_label(record, fields.licence) or _label(record, "license"),
    )


def _parse_line(source: Source, number: int, line: bytes, fields: Fields) -> Document | Reject:
    is_unicode = True  # orjson refuses half pairs
    try:
        record = orjson.loads(line)
        # Beyond 64 bits orjson makes a float of an integer, and an id must keep its digits.
        exact = not (isinstance(record, dict) and isinstance(record.get(fields.id), float))
    except orjson.JSONDecodeError:
        exact = False
    if not exact:
        # The standard library is the judge: it allows NaN and half pairs, and tells bad bytes
        # from bad JSON.
        try:
            record = json.loads(line.decode("utf-8"))
            is_unicode = False
        except UnicodeDecodeError:
            return Reject(source.name, number, "line is not valid UTF-8", show(line))
        except (ValueError, RecursionError):
            return Reject(source.name, number, "invalid JSON", show(line))
    return document(source, number, record, fields, line, is_unicode=is_unicode)


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


def _label(record: dict[str, Any], name: str) -> str:
    """A field that should be a short text; numbers count as their digits, the rest as absent."""
    value = record.get(name)
    if isinstance(value, str) and _is_unicode(value):
        return value
    return str(value) if isinstance(value, int) else ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@functools.lru_cache(maxsize=16)  # asked for every record of a file
def _place(name: str) -> str:
    return Source(name).place
