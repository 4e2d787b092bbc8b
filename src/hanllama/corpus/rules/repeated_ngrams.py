"""Drop a document that repeats itself too much, by shares of repeated character n-grams.

Spam for search engines, texts caught in a loop of a scraper or of a language model, lists in which
one word changes: a model trained on them learns to loop. Only Han, letters and digits count:
otherwise the most frequent trigram of every novel would be a full stop and two quotes.

Source: Gopher, Rae et al. 2021, table A1: the share of the most frequent word n-gram (n = 2, 3, 4)
and the share of characters in duplicate word n-grams (n = 5 to 10). A Chinese word has about 1.6
characters in running text, so these became 3, 5, 6 and 8, 10, 11, 13, 14, 16 characters. Each
threshold is 1.2 times the highest 99.9th percentile of any clean corpus measured (novels, prose,
articles, statutes, poems; numbers in docs/rules.md), rounded up to 0.05. Gopher's own 0.15 to 0.10
for duplicates would drop 85 % of the technical articles and statutes, which repeat their terms.
"""

from __future__ import annotations

import numpy as np

from hanllama.base.config import Natural, Share, checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._characters import word_points
from hanllama.corpus.rules._ngrams import check_installed, repetition

TOP = (3, 5, 6)
DUPLICATE = (8, 10, 11, 13, 14, 16)


@checked
class Rule:
    top_3: Share = option(0.2, help="the largest share of the most frequent 3 characters")
    top_5: Share = option(0.25, help="the same of 5 characters")
    top_6: Share = option(0.25, help="the same of 6 characters")
    duplicate_8: Share = option(0.65, help="the largest share inside 8 characters seen before")
    duplicate_10: Share = option(0.6, help="the same for 10 characters")
    duplicate_11: Share = option(0.6, help="the same for 11 characters")
    duplicate_13: Share = option(0.6, help="the same for 13 characters")
    duplicate_14: Share = option(0.6, help="the same for 14 characters")
    duplicate_16: Share = option(0.55, help="the same for 16 characters")
    shortest: Natural = option(100, help="texts of fewer Han, letters and digits are not judged")

    def __post_init__(self) -> None:
        check_installed()

    def __call__(self, text: str) -> str | Drop:
        if len(text) < self.shortest:
            return text
        points = word_points(text)
        if len(points) < max(self.shortest, 1):
            return text
        shares = np.concatenate(repetition(points, TOP, DUPLICATE))
        for (kind, n, limit), share in zip(self._limits(), shares, strict=True):
            if share > limit:
                return Drop(f"{kind} {n}-grams")
        return text

    def _limits(self) -> list[tuple[str, int, float]]:
        """(kind, n, largest share), in the order in which they are measured."""
        lengths = [("top", n) for n in TOP] + [("duplicate", n) for n in DUPLICATE]
        return [(kind, n, getattr(self, f"{kind}_{n}")) for kind, n in lengths]


_PROSE = (
    "院子里的石榴树开花了，老人搬一把竹椅坐在树下，手里拿着昨天的报纸，一个字也没有看进去。"
    "隔壁的孩子隔着墙头喊他，问风筝挂在哪里；他抬起头来，只看见一片云慢慢地从屋脊上走过。"
    "“你等着，”他说，“我去拿梯子。”梯子在柴房里，柴房的门锁着，钥匙却不知道放到什么地方去了。"
)

EXAMPLES = [
    (_PROSE, _PROSE),
    ("新书上架！" * 4, "新书上架！" * 4),  # too short to judge
    ("限时特价，" * 40, Drop("top 3-grams")),
    ("限时特价，" * 40, {"top_3": 1.0}, Drop("top 5-grams")),
    (_PROSE * 4, Drop("duplicate 8-grams")),
    (_PROSE * 2, _PROSE * 2),  # half of it is said for the first time
    (_PROSE * 2, {"duplicate_8": 0.3}, Drop("duplicate 8-grams")),
]
