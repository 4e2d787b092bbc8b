"""Reward the right answer, compared with the one that the data gives; 1 or 0.

For questions with one answer: arithmetic, a choice of letters, a name. What is compared is what
`pattern` finds in both texts (its first group, the last place where it occurs), or else the whole
text; case, full width, white space and punctuation at the ends do not count, and numbers are
compared as numbers (`1,200` is `1200.0`). With `contained` it is enough that the answer holds the
reference.

Source: the accuracy reward of DeepSeek-R1 (2025, arXiv:2501.12948).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from hanllama.config import option
from hanllama.errors import ConfigError
from hanllama.train.rewards import Answer

NEEDS_REFERENCE = True


@dataclass(frozen=True)
class Reward:
    pattern: str = option("", help="a regular expression with one group that finds the answer")
    contained: bool = option(False, help="enough that the answer holds the reference")

    def __post_init__(self) -> None:
        if not self.pattern:
            return
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ConfigError(f"exact_answer: pattern {self.pattern!r}: {error}") from error
        if groups != 1:
            raise ConfigError(f"exact_answer: pattern {self.pattern!r} must have one group ( )")

    def __call__(self, answer: Answer) -> float:
        given, wanted = self._found(answer.text), self._found(answer.reference)
        if not wanted:
            return 0.0
        if self.contained and wanted in given:
            return 1.0
        number, right = _number(given), _number(wanted)
        if number is not None and right is not None:
            return float(number == right)
        return float(given == wanted)

    def _found(self, text: str) -> str:
        if self.pattern and (found := re.findall(self.pattern, text, re.DOTALL)):
            text = found[-1]
        return _plain(text)


def _plain(text: str) -> str:
    """Folded, without white space, and without punctuation or symbols at its ends."""
    text = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    first = next((i for i, c in enumerate(text) if _counts(c) or _is_sign(text, i)), len(text))
    last = next((i for i in range(len(text), first, -1) if _counts(text[i - 1])), first)
    return text[first:last]


def _counts(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def _is_sign(text: str, i: int) -> bool:
    return text[i] == "-" and i + 1 < len(text) and text[i + 1].isdigit()


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "")) if re.fullmatch(r"-?[\d,]+(\.\d+)?", text) else None
    except ValueError:
        return None


EXAMPLES = [
    (Answer("北京。", reference="北京"), 1.0),
    (Answer("上海。", reference="北京"), 0.0),
    (Answer("１,200", reference="1200.0"), 1.0),
    (Answer("-3", reference="3"), 0.0),
    (Answer("北京", reference=""), 0.0),
    (Answer("先算乘法。答案：14", reference="答案：14。"), {"pattern": r"答案：(\S+)"}, 1.0),
    (Answer("首都是北京。", reference="北京"), 0.0),
    (Answer("首都是北京。", reference="北京"), {"contained": True}, 1.0),
]
