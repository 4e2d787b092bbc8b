"""Count the characters of a text by kind.

The rules that judge a document by shares (Han, punctuation, digits and symbols) count with one
look-up table over code points. A book of a megabyte takes a few milliseconds; a loop over its
characters would take longer than all other rules together.

Source of the kinds: the general categories of the Unicode character database; Han is the
Unicode property Script=Han without its radicals.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hanllama.text.letters import code_points

SPACE, HAN, LETTER, DIGIT, PUNCTUATION, SYMBOL, OTHER = range(7)
_BLOCK = 1 << 20  # characters counted at a time: memory does not grow with the book
_ASTRAL = 0x10000

# Unicode calls these symbols; a Chinese text uses them as punctuation.
_SYMBOLS_THAT_PUNCTUATE = "～"


@dataclass(frozen=True, slots=True)
class Counts:
    """Characters of a text by kind; white space is left out."""

    han: int
    letters: int
    digits: int
    punctuation: int
    symbols: int
    other: int

    @property
    def total(self) -> int:
        """All characters but white space."""
        return self.han + self.letters + self.digits + self.punctuation + self.symbols + self.other


def count(text: str) -> Counts:
    """Count the characters of `text` by kind."""
    table = _table()
    total = np.zeros(7, dtype=np.int64)
    for start in range(0, len(text), _BLOCK):
        kinds = table[code_points(text[start : start + _BLOCK])]
        total += np.bincount(kinds, minlength=7)
    han, letters, digits, punctuation, symbols, other = (int(n) for n in total[1:])
    return Counts(han, letters, digits, punctuation, symbols, other)


def word_points(text: str) -> NDArray[np.uint32]:
    """The code points of Han, letters and digits, without all others."""
    points = code_points(text)
    kinds = _table()[points]
    return points[(kinds >= HAN) & (kinds <= DIGIT)]


@cache
def _table() -> NDArray[np.uint8]:
    """[0x110000]: the kind of every code point."""
    table = np.full(0x110000, OTHER, dtype=np.uint8)
    for point in range(_ASTRAL):
        table[point] = _kind(chr(point))
    for start, end, kind in (
        (0x1D400, 0x1D7CE, LETTER),  # mathematical alphabets: adverts write addresses in them
        (0x1D7CE, 0x1D800, DIGIT),
        (0x1F000, 0x1FB00, SYMBOL),  # emoji, cards, arrows
        (0x20000, 0x40000, HAN),  # extensions from B
    ):
        table[start:end] = kind
    return table


def _kind(character: str) -> int:
    point = ord(character)
    if (
        0x4E00 <= point <= 0x9FFF
        or 0x3400 <= point <= 0x4DBF
        or 0xF900 <= point <= 0xFAFF
        or character in "〇々"
    ):
        return HAN
    if character.isspace():
        return SPACE
    if character in _SYMBOLS_THAT_PUNCTUATE:
        return PUNCTUATION
    major = unicodedata.category(character)[0]
    return {"L": LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL}.get(major, OTHER)
