"""Reward the right answer, compared with the one in the data; 1 or 0.

For questions with one answer: arithmetic, a choice of letters, a name. `pattern` finds the answer
in both texts (its first group, at the last match); without a match the whole text is compared.
Case, full width, white space and punctuation at the ends do not count, and numbers are compared as
numbers (`1,200` equals `1200.0`). With `contained` it is enough that the answer contains the
reference as a separate number or word: neither 12 nor 2.5 contains 2, nor "category" "cat".

Source: the accuracy reward of DeepSeek-R1 (2025, arXiv:2501.12948).
"""

from __future__ import annotations

import re
import string
import unicodedata

from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError
from hanllama.train.rl.rewards import Answer

NEEDS_REFERENCE = True

# Han needs no space around it; Latin letters and digits do.
_WORD = string.ascii_lowercase + string.digits
_NO_WORD_BEFORE, _NO_WORD_AFTER = r"(?<![0-9a-z])", r"(?![0-9a-z])"
# A whole number, never a part of a number or version; a unit may follow. The 2 of 1-2 has no sign.
_NUMBER = re.compile(r"(?<![0-9a-z.])(?>-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)(?!\.?\d)")


@checked
class Reward:
    pattern: str = option("", help="a regular expression with one group that finds the answer")
    contained: bool = option(False, help="it is enough that the answer contains the reference")

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
        text, wanted = self._found(answer.text), _plain(self._found(answer.reference))
        if not wanted:
            return 0.0
        given = _plain(text)
        number, right = _number(given), _number(wanted)
        if number is not None and right is not None:
            return float(number == right)
        return float(given == wanted or (self.contained and _holds(text, wanted, right)))

    def _found(self, text: str) -> str:
        found = re.findall(self.pattern, text, re.DOTALL) if self.pattern else []
        return found[-1] if found else text


def _holds(text: str, wanted: str, number: float | None) -> bool:
    """Whether a text contains a plain text or a number without a letter or digit around it."""
    text = _folded(text)
    if number is not None:
        return number in [_number(found) for found in _NUMBER.findall(text)]
    spaced = r"\s*".join(re.escape(character) for character in wanted)
    before = _NO_WORD_BEFORE if wanted[0] in _WORD else ""
    after = _NO_WORD_AFTER if wanted[-1] in _WORD else ""
    return re.search(before + spaced + after, text) is not None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _plain(text: str) -> str:
    """Folded, without white space, and without punctuation or symbols at its ends."""
    text = "".join(_folded(text).split())
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
    (Answer("一共是 1,200 元。", reference="1200"), {"contained": True}, 1.0),
    (Answer("一共12个。", reference="2"), {"contained": True}, 0.0),
    (Answer("有2.5米。", reference="2"), {"contained": True}, 0.0),
    (Answer("重5kg。", reference="5"), {"contained": True}, 1.0),
    (Answer("版本1.2.5", reference="5"), {"contained": True}, 0.0),
    (Answer("Not a cat.", reference="cat"), {"contained": True}, 1.0),
    (Answer("A category.", reference="cat"), {"contained": True}, 0.0),
]
