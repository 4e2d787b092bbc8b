"""Drop a document in which Han characters are less than `minimum` of the characters.

A folder of Chinese text also holds English pages, code, tables of numbers and text in a wrong
encoding. Four fifths of Chinese prose are Han. White space does not count. A short document says
too little about its share, hence `shortest`.

Source: the alphabetic share of Gopher (Rae et al. 2021, appendix A.1.1: 80 % of the words); the
threshold is measured on Chinese, see docs/rules.md.
"""

from __future__ import annotations

from hanllama.base.config import Natural, Share, checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._characters import count


@checked
class Rule:
    minimum: Share = option(0.5, help="the smallest share of Han among characters, 0 to 1")
    shortest: Natural = option(20, help="documents of fewer characters are not judged")

    def __call__(self, text: str) -> str | Drop:
        found = count(text)
        if found.total < max(self.shortest, 1) or found.han >= self.minimum * found.total:
            return text
        return Drop("too few Han characters")


EXAMPLES = [
    (
        "老陈把 Linux 装好，敲了一行 ls -l，才发现桌上的茶早就凉了。",
        "老陈把 Linux 装好，敲了一行 ls -l，才发现桌上的茶早就凉了。",
    ),
    ("The kettle was cold when old Chen sat down.", Drop("too few Han characters")),
    ("OK, bye!", "OK, bye!"),  # too short to judge
    ("　\n", "　\n"),
    ("OK, bye!", {"shortest": 1}, Drop("too few Han characters")),
    ("甲 = 1.25, 乙 = 3.50, 丙 = 4.75, 丁 = 6.00", Drop("too few Han characters")),
    ("甲 = 1.25, 乙 = 3.50", {"minimum": 0.1}, "甲 = 1.25, 乙 = 3.50"),
]
