"""Reward an answer without any of the forbidden words; 1 or 0.

For names, abuse, or the stock phrases of a teacher model (`作为一个人工智能`). Words come from
`words` and from `file`, one per line. Case, full width and white space are ignored, since a space
inside a word is the usual way around such a list.

Source: Sparrow's and OpenAI's rule rewards (Glaese et al. 2022, arXiv:2209.14375; Mu et al. 2024,
arXiv:2411.01111) begin with rules of this kind.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError
from hanllama.train.rl.rewards import Answer


@checked
class Reward:
    words: tuple[str, ...] = option((), help="words that must not occur")
    file: str = option("", help="a file with such words, one a line")

    def __post_init__(self) -> None:
        if not self.words and not self.file:
            raise ConfigError("forbidden_words: give words, or a file with a word a line")
        if not _folded_words(self.words, self.file):
            raise ConfigError(f"forbidden_words: no word in {self.file or self.words}")

    def __call__(self, answer: Answer) -> float:
        text = _folded(answer.text)
        return float(not any(word in text for word in _folded_words(self.words, self.file)))


@functools.cache
def _folded_words(words: tuple[str, ...], file: str) -> tuple[str, ...]:
    found = list(words)
    if file:
        try:
            # utf-8-sig, or a byte order mark would become part of the first word.
            found += Path(file).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"forbidden_words: file {file} cannot be read: {error}") from error
    return tuple(sorted({f for word in found if (f := _folded(word))}))


def _folded(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


EXAMPLES = [
    (Answer("我觉得可以。"), {"words": ["人工智能"]}, 1.0),
    (Answer("作为一个人工 智能，我不能。"), {"words": ["人工智能"]}, 0.0),
    (Answer("ＡＩ不能。"), {"words": ["ai"]}, 0.0),
]
