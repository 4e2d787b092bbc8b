"""Fold the characters of a text and cut it into passages, for the quality models.

Digits become 0 (the value of a number says nothing about quality), full-width letters and digits
half-width, capitals small. A run of white space is one space. A line end ends the context, so
removing a line changes no other line's score.
Source: the normalisation of CCNet (Wenzek et al. 2020), for characters.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LINE_END, SPACE = 0x0A, 0x20
PASSAGE_CHARACTERS = 2000

Codes = NDArray[np.uint32]


@functools.cache
def folds() -> Codes:
    """[0x110000] the folded code point of each code point."""
    table = np.arange(0x110000, dtype=np.uint32)
    for code in range(0x10000):  # beyond: no white space and hardly any capital
        character = chr(code - 0xFEE0 if 0xFF10 <= code <= 0xFF5A else code)
        if 0xFF10 <= code <= 0xFF5A and not character.isalnum():
            continue
        if code != LINE_END and character.isspace():
            table[code] = SPACE
        elif character in "0123456789":
            table[code] = ord("0")
        elif len(character.lower()) == 1:
            table[code] = ord(character.lower())
    return table


def passages(text: str, characters: int = PASSAGE_CHARACTERS) -> Iterator[str]:
    """Runs of whole lines of about `characters` characters; a longer line is cut. No blank ones."""
    held: list[str] = []
    size = 0
    for line in text.split("\n"):
        for start in range(0, max(len(line), 1), characters):
            piece = line[start : start + characters]
            if size + len(piece) > characters and held:
                yield from _unless_blank(held)
                held, size = [], 0
            held.append(piece)
            size += len(piece) + 1
    yield from _unless_blank(held)


def _unless_blank(lines: list[str]) -> Iterator[str]:
    passage = "\n".join(lines)
    if passage.strip():
        yield passage
