"""Shorten long runs of one or two repeated characters: 哈哈哈哈哈哈…, ------------, =-=-=-=-.

Laughter, screams and rows of dots may fill a line; frames and separators hold hundreds of dashes.
Only the first few say something, and a model learns to repeat them. A run keeps `maximum` repeats.
Digits stay (1000000000 is a number), and so does white space, which indents.

Source: ours; Gopher's n-gram share (`repeated_ngrams`) judges a document only as a whole. In the
clean corpora measured, hardly anything but separators and frames of tables is longer than the
default, and lost characters are written as up to ten □ (docs/rules.md).
"""

from __future__ import annotations

import re

import numpy as np

from hanllama.base.config import checked, option
from hanllama.corpus.rules import Drop
from hanllama.text.letters import code_points

_LONGEST_UNIT = 2


@checked
class Rule:
    maximum: int = option(10, ge=2, help="repeats that a run of one or two characters may keep")

    def __post_init__(self) -> None:
        pattern = re.compile(rf"([^\s\d]{{1,{_LONGEST_UNIT}}}?)\1{{{self.maximum},}}")
        object.__setattr__(self, "_pattern", pattern)

    def __call__(self, text: str) -> str | Drop:
        while True:  # a shortened run of two may end where a run of one begins
            shorter = self._shorten(text)
            if shorter == text:
                return text
            text = shorter

    def _shorten(self, text: str) -> str:
        pattern: re.Pattern[str] = self._pattern  # type: ignore[attr-defined]
        pieces: list[str] = []
        at = 0
        for start, end in _stretches(text, self.maximum):
            shorter = pattern.sub(lambda run: run[1] * self.maximum, text[start:end])
            pieces += [text[at:start], shorter]
            at = end
        return "".join([*pieces, text[at:]]) if pieces else text


def _stretches(text: str, maximum: int) -> list[tuple[int, int]]:
    """The spans of more than `maximum` repeats, found by comparing the text with itself shifted.

    The pattern alone would take ten times as long for a book.
    """
    points = code_points(text)
    found: list[tuple[int, int]] = []
    for unit in range(1, _LONGEST_UNIT + 1):
        equal = np.flatnonzero(points[unit:] == points[:-unit])  # to the character `unit` later
        edges = np.flatnonzero(np.diff(equal, prepend=-2, append=len(points) + 2) != 1)
        for k in np.flatnonzero(np.diff(edges) >= unit * maximum):
            first, last = int(equal[edges[k]]), int(equal[edges[k + 1] - 1])
            found.append((first, last + 1 + unit))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


EXAMPLES = [
    ("“哈哈哈哈！”他笑了……", "“哈哈哈哈！”他笑了……"),
    ("哈" * 30 + "！", "哈" * 10 + "！"),
    ("-" * 80 + "\n第二天", "-" * 10 + "\n第二天"),
    ("=-" * 40 + "=", "=-" * 10 + "="),
    ("欠了" + "1" * 20 + "元", "欠了" + "1" * 20 + "元"),
    ("　" * 20 + "题记", "　" * 20 + "题记"),
    ("啊啊啊啊啊！", {"maximum": 3}, "啊啊啊！"),
]
