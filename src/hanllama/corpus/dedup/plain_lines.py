"""JSON lines that are as plain as those of a corpus folder, read by one compiled pass.

A general JSON reader makes a dictionary, a str and its bytes of every record, in each pass, and the
writer makes JSON of them again: many times the work of hashing. Most lines are a flat object of
strings without exotic escapes. Of those only places are noted, once; their texts are unescaped end
to end into one buffer, and those that stay are written from the bytes they were read from, which
are the bytes that `records.document_line` would write. Any other line, valid or not, is left to
`records.parse`: this file never rejects anything, and knows nothing that could differ from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import orjson
from numpy.typing import NDArray

from hanllama.corpus.dedup import kernels
from hanllama.corpus.dedup.arena import Arena
from hanllama.corpus.dedup.spans import FORMAT, Span
from hanllama.reading import records
from hanllama.reading.records import Document, Fields, Piece, Reject

_LABELS = ("id", "source", "category", "licence")  # as `document_line` orders them
PLACES = 2 * (1 + len(_LABELS))
Places = NDArray[np.int32]  # [lines, PLACES], see `Lines`


@dataclass
class Lines:
    """The lines of a part.

    Attributes:
        raw, ends: the lines end to end, and where each ends, its newline included.
        places: [lines, PLACES] begin and end in its line of each one's text, id, source, category
            and licence, -1 where it has none; all -1: the line is not plain.
    """

    part: Piece | Span
    raw: NDArray[np.uint8]
    ends: NDArray[np.int64]
    places: Places

    def __len__(self) -> int:
        return len(self.ends)

    def runs(self) -> Iterator[tuple[range, bool]]:
        """The lines in order: (numbers, whether they are plain); the others one by one."""
        odd = np.flatnonzero(self.places[:, 0] < 0).tolist()
        for before, here in pairwise([-1, *odd, len(self)]):
            if here > before + 1:
                yield range(before + 1, here), True
            if here < len(self):
                yield range(here, here + 1), False

    def parsed(self, number: int, fields: Fields) -> Iterator[Document | Reject]:
        """What the general reader makes of a line."""
        first = self.part.first + number
        if isinstance(self.part, Span):
            line = self._line(number).tobytes().removesuffix(b"\n")
            return records.parse(Piece(self.part.source, FORMAT, first, (line,)), fields)
        one = replace(self.part, first=first, lines=(self.part.lines[number],))
        return records.parse(one, fields)

    def text(self, number: int) -> str:
        """The text of a plain line.

        Raises json.JSONDecodeError when the line is no longer what it was when it was surveyed.
        """
        begin, end = self.places[number, :2].tolist()
        string: str = orjson.loads(b'"%b"' % self._line(number)[begin:end].tobytes())
        return string

    def document(self, number: int, text: str) -> Document:
        """The labels of a plain line with a text."""
        line = self._line(number).tobytes()
        identity, source, category, licence = [
            line[begin:end].decode("utf-8") if begin >= 0 else ""
            for begin, end in self.places[number, 2:].reshape(-1, 2).tolist()
        ]
        place = self.part.source.place
        identity = identity or f"{place}:{self.part.first + number}"
        return Document(text, identity, source or place, category, licence=licence)

    def corpus_lines(
        self,
        run: range,
        wanted: NDArray[np.bool_],
        cuts: NDArray[np.int64],
        bounds: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint8], list[int]]:
        """What `records.document_line` gives for those lines of a plain run that are wanted.

        Args:
            wanted: [lines]
            cuts, bounds: [cuts, 2] what is cut out of the texts, in bytes; [lines + 1] those of
                line n are cuts[bounds[n]:bounds[n + 1]].

        Returns them end to end, and the bytes of each.
        """
        start = self._start(run.start)
        raw = self.raw[start : int(self.ends[run.stop - 1])]
        place = self.part.source.place
        body = json.dumps(place, ensure_ascii=False).encode("utf-8", "backslashreplace")
        shown = np.frombuffer(body[1:-1], dtype=np.uint8)
        # Of each line its bytes, the frame, and the place and its number in place of labels.
        room = len(raw) + len(run) * (len(_FRAME) + 2 * len(shown) + 20)
        out, sizes = np.empty(room, dtype=np.uint8), np.empty(len(run), dtype=np.int64)
        lines = slice(run.start, run.stop)
        kernels.corpus_lines(
            raw, self.ends[lines] - start, self.places[lines], wanted, cuts, bounds,
            self.part.first + run.start, shown, _FRAME, _FRAME_ENDS, out, sizes,
        )  # fmt: skip
        return out[: int(sizes.sum())], sizes[wanted].tolist()

    def _start(self, number: int) -> int:
        return int(self.ends[number - 1]) if number else 0

    def _line(self, number: int) -> NDArray[np.uint8]:
        return self.raw[self._start(number) : int(self.ends[number])]


_FRAME_PARTS = (b'{"text": "', *(f'", "{name}": "'.encode() for name in _LABELS), b'"}\n')
_FRAME = np.frombuffer(b"".join(_FRAME_PARTS), dtype=np.uint8)
_FRAME_ENDS = np.cumsum([len(part) for part in _FRAME_PARTS], dtype=np.int64)


@dataclass
class Texts:
    """The texts of some plain lines.

    Attributes:
        utf8: end to end.
        sizes: [lines, 2] bytes and characters of each; 0 where a line is not plain.
    """

    utf8: NDArray[np.uint8]
    sizes: NDArray[np.int64]


def survey(part: Piece | Span, fields: Fields, arena: Arena) -> tuple[Lines, Texts] | None:
    """The lines of a part and the texts of the plain ones; None: all of it is for `pieces`.

    Their bytes are taken from the arena.
    """
    names = [fields.text, *(getattr(fields, name) for name in _LABELS)]
    raw = _raw(part, arena)
    if raw is None or not len(raw) or len({*names, "license"}) < 6:
        return None
    # A line has at least its newline.
    ends = kernels.line_ends(raw)
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    key_ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    keys = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    places = np.empty((len(ends), PLACES), dtype=np.int32)
    sizes = np.empty((len(ends), 2), dtype=np.int64)
    texts = arena.take(len(raw) + kernels.BLOCK)
    kernels.plain_lines(raw, ends, keys, key_ends, places, sizes, texts)
    return Lines(part, raw, ends, places), Texts(texts[: int(sizes[:, 0].sum())], sizes)


def surveyed(
    part: Piece | Span, sizes: NDArray[np.uint32], places: Places, arena: Arena
) -> Lines | None:
    """The same lines again, by what is known of them; None when the part is no longer the same.

    Their bytes are taken from the arena.

    Args:
        sizes: [lines] bytes of each.
    """
    raw = _raw(part, arena)
    ends = np.cumsum(sizes, dtype=np.int64)
    if raw is None or not len(raw) or len(raw) != ends[-1]:
        return None
    return Lines(part, raw, ends, places)


def pieces(part: Piece | Span) -> list[Piece]:
    """A part as the general reader takes it."""
    return list(part.pieces()) if isinstance(part, Span) else [part]


def _raw(part: Piece | Span, arena: Arena) -> NDArray[np.uint8] | None:
    """The lines of a part end to end; None when it has none, or none that may be held."""
    if isinstance(part, Span):
        return part.data(arena)
    if part.format != FORMAT:
        return None
    lines = [b"" if isinstance(line, Reject) else line for line in part.lines]
    data = b"\n".join([*lines, b""])
    raw = arena.take(len(data))
    raw[:] = np.frombuffer(data, dtype=np.uint8)
    return raw
