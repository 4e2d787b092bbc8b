"""The similarity of a text to all texts kept before: ROUGE-L, as in Self-Instruct's filter.

ROUGE-L (Lin 2004) is the F1 of the longest common subsequence. Chinese is compared by characters; a
run of Latin letters or digits is one symbol. Punctuation, width and case do not count
(`text/letters.py`). The comparison is exact and against all texts: no sample, no index.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from hanllama.text.letters import folded

_SYMBOLS = re.compile(r"[a-z0-9]+|.", re.DOTALL)


class Kept:
    """Kept texts, and the similarity of another text to the nearest of them.

    Raises ConfigError when numba is not installed.
    """

    def __init__(self) -> None:
        from hanllama.text.lcs import lcs_lengths

        self._lcs_lengths = lcs_lengths
        self._numbers: dict[str, int] = {}
        self._symbols = np.zeros(1024, dtype=np.int32)
        self._starts = np.zeros(257, dtype=np.int64)
        self._slots = np.full(1024, -1, dtype=np.int32)
        self.count = 0

    def add(self, text: str) -> None:
        """Keep a text."""
        symbols = self._of(text)
        begin = int(self._starts[self.count])
        while self._symbols.size < begin + symbols.size:
            self._symbols = np.concatenate([self._symbols, np.zeros_like(self._symbols)])
        if self.count + 1 == self._starts.size:
            self._starts = np.concatenate([self._starts, np.zeros_like(self._starts)])
        self._symbols[begin : begin + symbols.size] = symbols
        self.count += 1
        self._starts[self.count] = begin + symbols.size

    def nearest(self, text: str, least: float = 0.0) -> tuple[float, int]:
        """(ROUGE-L of the most similar text, its number); (0.0, -1) where none reaches `least`."""
        symbols = self._of(text)
        if not self.count or not symbols.size:
            return 0.0, -1
        n = symbols.size
        # F1 = 2 L / (n + m) with L <= min(n, m): texts of other lengths cannot reach `least`.
        ratio = least / (2 - least)
        common = np.zeros(self.count, dtype=np.int32)
        starts = self._starts[: self.count + 1]
        self._lcs_lengths(
            symbols,
            self._slots,
            self._symbols,
            starts,
            common,
            int(n * ratio),
            round(n / ratio) if ratio else 2**31 - 1,
        )
        scores = 2 * common / (n + np.diff(starts))
        best = int(scores.argmax())
        score = float(scores[best])
        return (score, best) if score >= least and score > 0 else (0.0, -1)

    def _of(self, text: str) -> NDArray[np.int32]:
        numbers = [self._numbers.setdefault(s, len(self._numbers)) for s in symbols_of(text)]
        if len(self._numbers) > self._slots.size:
            self._slots = np.full(2 * len(self._numbers), -1, dtype=np.int32)
        return np.array(numbers, dtype=np.int32)


def symbols_of(text: str) -> list[str]:
    """The symbols of a text: Han characters, and runs of Latin letters or digits."""
    table = folded()
    # Other characters separate two Latin words and are no symbols.
    plain = "".join(chr(code) if (code := table[ord(c)]) else " " for c in text)
    return [symbol for symbol in _SYMBOLS.findall(plain) if symbol != " "]
