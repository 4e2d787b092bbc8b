"""The characters that count when texts are compared: Han, letters and digits, folded.

Editions of one text differ in white space, punctuation, full and half width and case; `folded`
removes these differences.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_WIDE = range(0xFF01, 0xFF5F)  # full-width forms of the ASCII characters
_WIDE_TO_ASCII = 0xFEE0


@functools.cache
def folded() -> NDArray[np.uint32]:
    """[0x110000] the folded code point of each code point; 0 for one that does not count.

    Characters count by `str.isalnum` (Han, letters, digits). Beyond the first plane all count, as
    themselves: nearly all are Han, and a million tests would take longer than a novel.
    """
    table = np.arange(0x110000, dtype=np.uint32)
    for code in range(0x10000):
        character = chr(code - _WIDE_TO_ASCII if code in _WIDE else code)
        lower = character.lower()
        table[code] = ord(lower if len(lower) == 1 else character) if character.isalnum() else 0
    return table


@functools.cache
def counted() -> NDArray[np.bool_]:
    """[0x110000] whether a code point counts; a smaller and so faster table than `folded`."""
    table: NDArray[np.bool_] = folded() != 0
    return table


def code_points(text: str) -> NDArray[np.uint32]:
    """[characters] their code points; half a surrogate pair, which no file holds, is one, too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
