"""Reward an answer whose length lies between `minimum` and `maximum` characters.

Reward models tend to prefer long answers, and reinforcement learning exploits that first (Singhal
et al. 2023, arXiv:2310.03716); a limit is the simple remedy. Inside the limits the reward is 1.
Outside it falls linearly, to 0 for an empty answer and for one longer than the maximum by the share
`tolerance`, so that every step back is rewarded. White space does not count.
"""

from __future__ import annotations

from hanllama.base.config import Count, Natural, NonNegative, checked, option
from hanllama.base.errors import ConfigError
from hanllama.train.rl.rewards import Answer


@checked
class Reward:
    minimum: Natural = option(1, help="the fewest characters of a good answer")
    maximum: Count = option(300, help="the most characters of a good answer")
    tolerance: NonNegative = option(0.5, help="the share above the maximum at which it is 0")

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ConfigError(f"minimum {self.minimum} is above maximum {self.maximum}")

    def __call__(self, answer: Answer) -> float:
        characters = len("".join(answer.text.split()))
        if characters < self.minimum:
            return characters / self.minimum
        beyond = characters - self.maximum
        if beyond <= 0:
            return 1.0
        allowed = self.tolerance * self.maximum
        return max(0.0, 1 - beyond / allowed) if allowed else 0.0


EXAMPLES = [
    (Answer("小河弯弯，流向东海。"), 1.0),
    (Answer(" 　\n"), 0.0),
    (Answer("好的。"), {"minimum": 12}, 0.25),
    (Answer("一二三四五 六七八九十"), {"maximum": 8}, 0.5),
    (Answer("一二三四五六七八九十"), {"maximum": 5}, 0.0),
    (Answer("一二三"), {"maximum": 2, "tolerance": 0.0}, 0.0),
]
