"""Which characters of a text count when texts are compared: Han, letters and digits, folded.

Editions of one text differ in white space, punctuation, full and half width and in case; what is
left after that is what `folded` keeps.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_WIDE = range(0xFF01, 0xFF5F)  # full-width forms of the ASCII characters
_WIDE_TO_ASCII = 0xFEE0


@functools.cache
def folded() -> NDArray[np.uint32]:
    """[0x110000] the code point that a code point is compared as; 0 for what does not count.

    What counts is `str.isalnum` (Han, letters, digits). Beyond the first plane everything counts
    as itself: nearly all of it is Han, and asking a million times would cost more than a novel.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    for code in range(0x10000):
        character = chr(code - _WIDE_TO_ASCII if code in _WIDE else code)
        lower = character.lower()
        table[code] = ord(lower if len(lower) == 1 else character) if character.isalnum() else 0
    return table


@functools.cache
def counted() -> NDArray[np.bool_]:
    """[0x110000] whether a code point counts; a smaller table than `folded`, so quicker to ask."""
    table: NDArray[np.bool_] = folded() != 0
    return table
