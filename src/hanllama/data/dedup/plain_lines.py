"""JSON lines that are as plain as those of a corpus folder, read by one compiled pass.

A general JSON reader makes a dictionary, a str and its bytes of every record, in each pass, and the
writer makes JSON of them again: many times the work of hashing. Most lines are a flat object of
strings without exotic escapes. Of those only places are noted; their texts are unescaped end to end
into one buffer, and a document that stays is written from the bytes it was read from, which are the
bytes that `records.document_line` would write. Any other line, valid or not, is left to
`records.parse`: this file never rejects anything, and knows nothing that could differ from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hanllama import records
from hanllama.data.dedup import kernels
from hanllama.records import Document, Fields, Piece, Reject

FORMAT = "jsonl"  # the only kind of piece whose lines are looked at here
_LABELS = ("id", "source", "category", "licence")  # as `document_line` orders them


@dataclass(slots=True)
class Line:
    """A document as the places of its values in a line.

    Attributes:
        line: the JSON.
        places: begin and end of the text, then of each label; -1 where it has none.
        default_id, default_source: in place of a label that it does not have.
    """

    line: bytes
    places: list[int]
    default_id: str
    default_source: str

    @property
    def id(self) -> str:
        """As a Document's."""
        return self._label(0).decode("utf-8") or self.default_id

    @property
    def source(self) -> str:
        """As a Document's."""
        return self._label(1).decode("utf-8") or self.default_source

    def corpus_line(self) -> bytes:
        """What `records.document_line` gives for it."""
        line, at = self.line, self.places
        parts = [b'{"text": "', line[at[0] : at[1]]]
        for number, name in enumerate((b"id", b"source", b"category", b"licence")):
            if value := self._label(number):
                parts += (b'", "', name, b'": "', value)
            elif number < 2:
                default = self.default_source if number else self.default_id
                body = json.dumps(default, ensure_ascii=False).encode("utf-8", "backslashreplace")
                parts += (b'", "', name, b'": "', body[1:-1])
        parts.append(b'"}\n')
        return b"".join(parts)

    def document(self, text: str) -> Document:
        """The same with another text."""
        category, licence = (self._label(n).decode("utf-8") for n in (2, 3))
        return Document(text, self.id, self.source, category, licence=licence)

    def _label(self, number: int) -> bytes:
        begin, end = self.places[2 + 2 * number : 4 + 2 * number]
        return self.line[begin:end] if begin >= 0 else b""


Run = tuple[list[Line], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject | Run]:
    """What a piece holds, in order: runs of plain lines, and what `records.parse` makes of others.

    A run is (its lines, their texts as UTF-8 end to end, how long each is in bytes, and in
    characters).
    """
    names = [fields.text, *(getattr(fields, name) for name in _LABELS)]
    if piece.format != FORMAT or len({*names, "license"}) < 6:
        yield from records.parse(piece, fields)
        return
    place = piece.source.place
    lines = [b"" if isinstance(line, Reject) else line for line in piece.lines]
    raw = np.frombuffer(b"".join(lines), dtype=np.uint8)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    key_ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    keys = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    places = np.empty((len(lines), 2 * len(names)), dtype=np.int64)
    sizes = np.empty((len(lines), 2), dtype=np.int64)  # of the text: bytes, characters
    texts = np.empty(len(raw), dtype=np.uint8)
    kernels.plain_lines(raw, ends, keys, key_ends, places, sizes, texts)
    odd = np.flatnonzero(sizes[:, 0] < 0).tolist()
    text_ends = np.concatenate([[0], np.cumsum(np.maximum(sizes[:, 0], 0))])
    rows = places.tolist()
    for before, here in pairwise([-1, *odd, len(lines)]):
        if here > before + 1:
            run = slice(before + 1, here)
            found = [
                Line(line, row, f"{place}:{number}", place)
                for number, (line, row) in enumerate(
                    zip(lines[run], rows[run], strict=True), piece.first + run.start
                )
            ]
            span = texts[text_ends[run.start] : text_ends[here]]
            yield found, span, sizes[run, 0], sizes[run, 1]
        if here < len(lines):
            one = replace(piece, first=piece.first + here, lines=(piece.lines[here],))
            yield from records.parse(one, fields)
