"""Reward an answer in Chinese: the share of Han among its letters.

A model trained on several languages may fall into English or kana. Digits, punctuation and white
space belong to any language and are not counted; an answer without letters counts as Chinese, since
`12。` is a good answer. `free` leaves room for names and units.

Source: the language consistency reward of DeepSeek-R1 (2025, arXiv:2501.12948), a share of words;
here of characters, which need no word boundaries.
"""

from __future__ import annotations

from hanllama.base.config import checked, option
from hanllama.text.scripts import SCRIPTS, counts_of
from hanllama.train.rl.rewards import Answer

_HAN = [i for i, name in enumerate(SCRIPTS) if name.startswith("Han")]
_OTHER_LETTERS = [i for i, name in enumerate(SCRIPTS) if name in ("Kana", "Latin", "other")]


@checked
class Reward:
    free: float = option(0.0, ge=0, lt=1, help="the share of other letters that costs nothing")

    def __call__(self, answer: Answer) -> float:
        counts = counts_of(answer.text)
        han, others = int(counts[_HAN].sum()), int(counts[_OTHER_LETTERS].sum())
        if not han + others:
            return 1.0
        return min(1.0, han / (han + others) / (1 - self.free))


EXAMPLES = [
    (Answer("一共 12 个苹果。"), 1.0),
    (Answer("12。"), 1.0),
    (Answer("There are 12."), 0.0),
    (Answer("用 Go 写"), 0.5),
    (Answer("用 Go 写"), {"free": 0.5}, 1.0),
    (Answer("りんご两个"), 0.4),
]
