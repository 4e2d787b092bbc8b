"""Drop lines that are shorter than `minimum` or longer than `maximum` characters.

The rule of baby-llama2-chinese: it keeps the lines of 10 to 4,096 characters of 429 web novels. It
removes page furniture and headings, but also every short line of dialogue (“好。”) and every blank
line, hence the ends of paragraphs and stanzas. So it belongs to the preset `baby-llama2` and not to
`default`. White space around a line does not count.
"""

from __future__ import annotations

from hanllama.base.config import Natural, checked, option
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import Drop


@checked
class Rule:
    minimum: Natural = option(10, help="the fewest characters of a line that is kept")
    maximum: int = option(4096, help="the most characters of a line that is kept")

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ConfigError(f"minimum {self.minimum} and maximum {self.maximum} leave no line")

    def __call__(self, text: str) -> str | Drop:
        lines = text.split("\n")
        kept = [line for line in lines if self.minimum <= len(line.strip()) <= self.maximum]
        if not kept:
            return Drop("no line of the right length")
        return "\n".join(kept)


EXAMPLES = [
    (
        "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。",
        "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。",
    ),
    (
        "第一章\n\n　　我们所要介绍的是祥子，不是骆驼。\n“好。”",
        "　　我们所要介绍的是祥子，不是骆驼。",
    ),
    ("一二三四五六七八九十\n一二三四五六七八九", "一二三四五六七八九十"),
    ("长" * 4096 + "\n" + "长" * 4097, "长" * 4096),
    ("第一章\n“好。”", Drop("no line of the right length")),
    ("第一章\n“好。”", {"minimum": 4}, "“好。”"),
]
