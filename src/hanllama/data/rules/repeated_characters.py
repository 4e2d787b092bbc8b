"""Shorten what repeats one or two characters without end: 哈哈哈哈哈哈…, ------------, =-=-=-=-.

Laughter, screams and rows of dots may go on for a line; frames and separators are drawn with
hundreds of dashes. Nothing is said after the first few, and a model learns to go on with them. A
run keeps `maximum` repeats. Digits are left alone (1000000000 is a number), and so is white space,
which indents.

Source: our own; the paper's measure is the n-gram share of `repeated_ngrams`, which sees a document
only as a whole. In the clean corpora measured only separators and rules of tables are longer
than the default, and the longest run of □ for lost characters is as long (docs/rules.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from hanllama.config import option
from hanllama.data.rules import Drop
from hanllama.data.rules._characters import code_points
from hanllama.errors import ConfigError

_LONGEST_UNIT = 2


@dataclass(frozen=True)
class Rule:
    maximum: int = option(10, help="repeats that a run of one or two characters may keep")

    def __post_init__(self) -> None:
        if self.maximum < 2:
            raise ConfigError(f"repeated_characters: maximum must be 2 or more, not {self.maximum}")
        pattern = re.compile(rf"([^\s\d]{{1,{_LONGEST_UNIT}}}?)\1{{{self.maximum},}}")
        object.__setattr__(self, "_pattern", pattern)

    def __call__(self, text: str) -> str | Drop:
        if not _has_run(text, self.maximum):
            return text
        pattern: re.Pattern[str] = self._pattern  # type: ignore[attr-defined]
        while True:  # a shortened run of two may end where a run of one begins
            shorter = pattern.sub(lambda run: run[1] * self.maximum, text)
            if shorter == text:
                return text
            text = shorter


def _has_run(text: str, maximum: int) -> bool:
    """Whether more than `maximum` repeats may stand together; a tenth of the pattern's time."""
    points = code_points(text)
    for unit in range(1, _LONGEST_UNIT + 1):
        if len(points) <= unit * maximum:
            return False
        breaks = np.flatnonzero(points[unit:] != points[:-unit])
        edges = np.concatenate(([-1], breaks, [len(points) - unit]))
        if int(np.diff(edges).max()) > unit * maximum - (unit - 1):
            return True
    return False


EXAMPLES = [
    ("“哈哈哈哈！”他笑了……", "“哈哈哈哈！”他笑了……"),
    ("哈" * 30 + "！", "哈" * 10 + "！"),
    ("-" * 80 + "\n第二天", "-" * 10 + "\n第二天"),
    ("=-" * 40 + "=", "=-" * 10 + "="),
    ("欠了" + "1" * 20 + "元", "欠了" + "1" * 20 + "元"),
    ("　" * 20 + "题记", "　" * 20 + "题记"),
    ("啊啊啊啊啊！", {"maximum": 3}, "啊啊啊！"),
]
