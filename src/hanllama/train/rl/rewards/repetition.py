"""Reward an answer that does not repeat itself: the share of distinct n-grams.

A small model that is rewarded for length, or trained on its own answers, falls into loops. The
reward is the share of distinct runs among all runs of `n` Han characters, letters and digits. A
share `free` of repetition costs nothing, since names and terms recur in any text. Answers shorter
than `n` repeat nothing.

Source: distinct-n (Li et al. 2016, arXiv:1510.03055), on characters, which need no word boundaries.
"""

from __future__ import annotations

from hanllama.base.config import Count, checked, option
from hanllama.train.rl.rewards import Answer


@checked
class Reward:
    n: Count = option(4, help="characters of a run that must not recur")
    free: float = option(0.1, ge=0, lt=1, help="the share of repeated runs that costs nothing")

    def __call__(self, answer: Answer) -> float:
        characters = "".join(c for c in answer.text if c.isalnum())
        runs = [characters[i : i + self.n] for i in range(len(characters) - self.n + 1)]
        if not runs:
            return 1.0
        repeated = 1 - len(set(runs)) / len(runs)
        return min(1.0, (1 - repeated) / (1 - self.free))


EXAMPLES = [
    (Answer("春天来了，小草从土里钻了出来。"), 1.0),
    (Answer("好。"), 1.0),
    # 9 runs of two, of which 2 differ: 2/9 over 0.9.
    (Answer("哈哈哈哈哈，哈哈哈哈嘻"), {"n": 2}, 20 / 81),
    (Answer("高高兴兴，高高兴兴"), {"n": 2, "free": 0.0}, 4 / 7),
]
