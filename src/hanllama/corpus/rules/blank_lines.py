"""Strip white space at line ends, and keep at most `maximum` blank lines in a row.

Converted pages hold lines of spaces and runs of ten empty lines, which teach a model to write
empty lines. Indents are kept: in Chinese books two U+3000 begin a paragraph.
"""

from __future__ import annotations

from hanllama.base.config import Natural, checked, option
from hanllama.corpus.rules import Drop


@checked
class Rule:
    maximum: Natural = option(1, help="the most blank lines in a row")

    def __call__(self, text: str) -> str | Drop:
        kept: list[str] = []
        blank = self.maximum  # no blank line at the beginning
        for line in text.split("\n"):
            line = line.rstrip()
            blank = 0 if line else blank + 1
            if line or (blank <= self.maximum and kept):
                kept.append(line)
        return "\n".join(kept).rstrip("\n")


EXAMPLES = [
    ("　　话说\n\n　　却说", "　　话说\n\n　　却说"),
    ("第一章  \n\n \t\n\n　　话说　\n", "第一章\n\n　　话说"),
    ("\n\n一\n二\n\n三", "一\n二\n\n三"),
    ("\n\n一\n\n\n\n二", {"maximum": 2}, "一\n\n\n二"),
    ("一\n\n二", {"maximum": 0}, "一\n二"),
    (" \n\n", ""),
]
