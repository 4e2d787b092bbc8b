"""Drop a document that is mostly punctuation, or a long one with almost none.

A text in which every second character is a mark is a table of contents with dot leaders, a frame
drawn in characters, a list of file names. A long text without marks is a list of key words for
search engines, the output of speech recognition, or a text that lost its punctuation in a
conversion; from it a model learns sentences that never end. A line end also closes a sentence, so
poems without marks stay.

Source: the bullet and ellipsis limits of Gopher (Rae et al. 2021, appendix A.1.1) and the
terminal punctuation rule of C4 (Raffel et al. 2020), restated as shares of characters;
thresholds measured on Chinese, see docs/rules.md.
"""

from __future__ import annotations

from hanllama.base.config import Natural, Share, checked, option
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._characters import count


@checked
class Rule:
    maximum: Share = option(0.5, help="the largest share of punctuation among characters, 0 to 1")
    minimum: Share = option(
        0.01, help="the smallest share of punctuation and line ends in a long document, 0 to 1"
    )
    shortest: Natural = option(20, help="documents of fewer characters are not judged")
    long: Natural = option(500, help="from this many characters on, `minimum` applies")

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ConfigError(f"minimum {self.minimum} is above maximum {self.maximum}")

    def __call__(self, text: str) -> str | Drop:
        found = count(text)
        if found.total >= max(self.shortest, 1) and found.punctuation > self.maximum * found.total:
            return Drop("too much punctuation")
        pauses = found.punctuation + text.count("\n")
        if found.total >= max(self.long, 1) and pauses < self.minimum * found.total:
            return Drop("hardly any punctuation")
        return text


EXAMPLES = [
    ("“走吗？”\n“……走！”", "“走吗？”\n“……走！”"),
    ("雨停了，街上没有人。", "雨停了，街上没有人。"),
    ("一………………………………3\n二………………………………9", Drop("too much punctuation")),
    ("免费小说在线阅读" * 80, Drop("hardly any punctuation")),
    ("免费小说在线阅读" * 80, {"minimum": 0}, "免费小说在线阅读" * 80),
    ("月落乌啼霜满天\n" * 100, "月落乌啼霜满天\n" * 100),
]
