"""JSON: the elements of an array one by one, however long it is; or lines; or a single object.

To a JSON reader an array is one value, and a broken element costs all that follow it. Here the
reading goes on where the next element begins as its fellows do: `{"text"` stands inside of no
string, where its quotation marks would be escaped. Where none begins so any more, the lost stretch
counts as the number of elements that it had room for.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from hanllama.reading.formats import Piece, Reject, Source, _lines, _records, _source, show

SUFFIXES = (".json",)
parse, values = _records.parse, _records.values

_BETWEEN = re.compile(r"[ \t\r\n,\ufeff]*")
_BEGINNING = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"')  # of an object: its first field's name
_ANY_BEGINNING = re.compile(r',\s*(\{\s*")')
_BEGINNINGS = 16  # so many are remembered
_USUAL_CHARACTERS = 1024  # of an element, while none was read
_BROKEN = "invalid JSON"
_LOST = "invalid JSON: the array cannot be read from this element on"


def cut(source: Source) -> Iterator[Piece]:
    """Runs of elements, each a line of JSON for `values`."""
    head, chunks = _source.peek(source.chunks(), 2**16)
    is_array = head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    elements = _array if is_array else _objects
    return _lines.runs(source, "json", elements(source.name, chunks))


def _array(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """The elements of an array, or of several that stand end to end."""
    # A byte that is no UTF-8 travels through, so that only its own element is rejected.
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    scan = json.JSONDecoder().raw_decode
    fellows = _Fellows()
    buffer, at, number, wanted, is_open = "", 0, 1, 0, False
    chunk, damage = b"", ""
    while True:
        try:
            chunk = next(chunks, b"")
        except _source.DAMAGE as error:
            chunk, damage = b"", _source.broken(error)
        buffer, at = buffer[at:] + decoder.decode(chunk, final=not chunk), 0
        # An element longer than a chunk is scanned again only once the buffer has doubled.
        if chunk and len(buffer) < wanted:
            continue
        while (at := _BETWEEN.match(buffer, at).end()) < len(buffer):  # type: ignore[union-attr]
            if buffer[at] == ("]" if is_open else "["):
                at, is_open = at + 1, not is_open
                continue
            try:
                end = scan(buffer, at)[1]
            except (ValueError, RecursionError) as error:
                goes_on = _goes_on(error, buffer)
                if damage and goes_on:
                    break
                end = fellows.next(buffer, at)
                if chunk and (goes_on or end < 0) and len(buffer) - at <= _lines.MAX_RECORD_BYTES:
                    break
                lost, why = (buffer[at:end], _BROKEN) if end >= 0 else (buffer[at:], _LOST)
                for part in fellows.parts(lost, has_next=end >= 0):
                    yield Reject(file, number, why, show(part))
                    number += 1
                at += len(lost)
                is_open = is_open and bool(chunk or end >= 0)
            else:
                if chunk and end == len(buffer):
                    break  # a number may go on in the next chunk
                fellows.add(buffer, at, end)
                yield buffer[at:end].encode("utf-8", "surrogateescape")
                at, number = end, number + 1
        wanted = 2 * (len(buffer) - at)
        if not chunk:
            break
    if damage:
        yield Reject(file, number, damage, show(buffer[at:]))
    elif is_open:
        yield Reject(file, number, _LOST)


def _goes_on(error: Exception, text: str) -> bool:
    """Whether a text that is no JSON may be the beginning of one."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated") or error.pos > len(text) - len(r"\ud83d\ude00")


class _Fellows:
    """How the elements that were read begin, and how long they are."""

    def __init__(self) -> None:
        self._beginnings = dict[str, None]()
        self._last = "never yet"
        self._number = self._characters = 0

    def add(self, buffer: str, at: int, end: int) -> None:
        """An element that could be read."""
        self._number += 1
        self._characters += end - at
        if not buffer.startswith(self._last, at) and (found := _BEGINNING.match(buffer, at)):
            self._last = found[0]
            if len(self._beginnings) < _BEGINNINGS:
                self._beginnings[self._last] = None

    def next(self, buffer: str, at: int) -> int:
        """Where the element after a broken one begins, -1 when it is not in sight."""
        own = _BEGINNING.match(buffer, at)
        known = self._beginnings or ([own[0]] if own else [])
        places = [buffer.find(beginning, at + 1) for beginning in known]
        if not self._number and max(places, default=-1) < 0:
            places = [found.start(1) for found in [_ANY_BEGINNING.search(buffer, at)] if found]
        return min((place for place in places if place >= 0), default=-1)

    def parts(self, lost: str, *, has_next: bool) -> Iterator[str]:
        """A stretch that could not be read, in as many parts as it may have held elements."""
        mean = self._characters / self._number if self._number else _USUAL_CHARACTERS
        is_usual = has_next and (not self._number or len(lost) <= 8 * mean)
        if is_usual or not _ANY_BEGINNING.search(lost):
            mean = len(lost)
        size = -(-len(lost) // max(1, round(len(lost) / mean)))
        return (lost[start : start + size] for start in range(0, len(lost), size))


def _objects(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """A `.json` file without an array: JSON lines, or one object over many lines."""
    lines = _lines.lines(file, chunks)
    for first in lines:
        if isinstance(first, Reject) or first.strip():
            break
        yield first  # empty, and counted as a line
    else:
        yield Reject(file, 1, "empty file")
        return
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
