"""JSON lines that are as plain as those of a corpus folder, read by one compiled pass.

A general JSON reader makes a dictionary, a str and its bytes of every record, in each pass, and the
writer makes JSON of them again: many times the work of hashing. Most lines are a flat object of
strings without exotic escapes. Of those only places are noted; their texts are unescaped end to end
into one buffer, and those that stay are written from the bytes they were read from, which are the
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


@dataclass
class Block:
    """A run of plain lines.

    Attributes:
        raw, ends: the lines end to end, and where each ends.
        places: [lines, 10] begin and end in its line of each one's text, id, source, category and
            licence; -1 where it has none.
        first: the number of the first line in its file.
        place: where the file is: the source of lines that name none.
        texts: their texts as UTF-8 end to end.
        sizes: [lines, 2] bytes and characters of each text.
    """

    raw: NDArray[np.uint8]
    ends: NDArray[np.int64]
    places: NDArray[np.int64]
    first: int
    place: str
    texts: NDArray[np.uint8]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def document(self, number: int, text: str) -> Document:
        """The labels of a line with a text."""
        start = int(self.ends[number - 1]) if number else 0
        labels = [
            self.raw[start + begin : start + end].tobytes().decode("utf-8") if begin >= 0 else ""
            for begin, end in self.places[number, 2:].reshape(-1, 2).tolist()
        ]
        identity, source, category, licence = labels
        identity = identity or f"{self.place}:{self.first + number}"
        return Document(text, identity, source or self.place, category, licence=licence)

    def corpus_lines(self, wanted: NDArray[np.bool_]) -> list[bytes]:
        """What `records.document_line` gives for each line; nothing for one that is not wanted."""
        body = json.dumps(self.place, ensure_ascii=False).encode("utf-8", "backslashreplace")
        place = np.frombuffer(body[1:-1], dtype=np.uint8)
        # Of each line its bytes, the frame, and the place and its number in place of labels.
        room = len(self.raw) + len(self) * (len(_FRAME) + 2 * len(place) + 20)
        out, sizes = np.empty(room, dtype=np.uint8), np.empty(len(self), dtype=np.int64)
        kernels.corpus_lines(
            self.raw, self.ends, self.places, wanted, self.first, place, _FRAME, _FRAME_ENDS, out,
            sizes,
        )  # fmt: skip
        ends = np.cumsum(sizes)
        data = out[: ends[-1]].tobytes()
        return [data[a:b] for a, b in pairwise([0, *ends.tolist()])]


_FRAME_PARTS = (b'{"text": "', *(f'", "{name}": "'.encode() for name in _LABELS), b'"}\n')
_FRAME = np.frombuffer(b"".join(_FRAME_PARTS), dtype=np.uint8)
_FRAME_ENDS = np.cumsum([len(part) for part in _FRAME_PARTS], dtype=np.int64)


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject | Block]:
    """A piece in order: runs of plain lines, and what `records.parse` makes of the others."""
    names = [fields.text, *(getattr(fields, name) for name in _LABELS)]
    if piece.format != FORMAT or len({*names, "license"}) < 6:
        yield from records.parse(piece, fields)
        return
    lines = [b"" if isinstance(line, Reject) else line for line in piece.lines]
    raw = np.frombuffer(b"".join(lines), dtype=np.uint8)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    key_ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    keys = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    places = np.empty((len(lines), 2 * len(names)), dtype=np.int64)
    sizes = np.empty((len(lines), 2), dtype=np.int64)
    texts = np.empty(len(raw) + kernels.BLOCK, dtype=np.uint8)
    kernels.plain_lines(raw, ends, keys, key_ends, places, sizes, texts)
    odd = np.flatnonzero(sizes[:, 0] < 0).tolist()
    text_ends = np.concatenate([[0], np.cumsum(np.maximum(sizes[:, 0], 0))])
    starts = np.concatenate([[0], ends])
    for before, here in pairwise([-1, *odd, len(lines)]):
        if here > before + 1:
            run = slice(before + 1, here)
            yield Block(
                raw[starts[run.start] : starts[here]],
                ends[run] - starts[run.start],
                places[run],
                piece.first + run.start,
                piece.source.place,
                texts[text_ends[run.start] : text_ends[here]],
                sizes[run],
            )
        if here < len(lines):
            one = replace(piece, first=piece.first + here, lines=(piece.lines[here],))
            yield from records.parse(one, fields)
