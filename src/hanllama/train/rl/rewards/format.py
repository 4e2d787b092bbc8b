"""Reward an answer that matches a regular expression; 1 or 0.

The default pattern is a finished text: it ends with closing punctuation, and no line looks like
another turn of the conversation (`用户:`, `### Instruction`), which models trained on transcripts
tend to write. `complete` also requires that the model ended the answer before the token limit.

Source: the format reward of DeepSeek-R1 (2025, arXiv:2501.12948). The pattern must match the whole
answer without white space at its ends; `.` matches a line break too.
"""

from __future__ import annotations

import re

from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError
from hanllama.train.rl.rewards import Answer

_NEXT_TURN = r"(?:###|(?:用户|助手|人类|Human|Assistant|User)\s*[:：])"
FINISHED = rf"(?!.*(?:^|\n)\s*{_NEXT_TURN}).*[。！？…!?.”’」』）)】》]"


@checked
class Reward:
    pattern: str = option("", help="a regular expression of the whole answer; empty: finished text")
    complete: bool = option(True, help="the model must have ended the answer itself")

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"format: pattern {self.pattern!r}: {error}") from error

    def __call__(self, answer: Answer) -> float:
        if self.complete and not answer.complete:
            return 0.0
        pattern = self.pattern or FINISHED
        return float(re.fullmatch(pattern, answer.text.strip(), re.DOTALL) is not None)


EXAMPLES = [
    (Answer("他说：“明天见！”"), 1.0),
    (Answer("他说明天"), 0.0),
    (Answer("明天见。", complete=False), 0.0),
    (Answer("明天见。\n用户：好的。"), 0.0),
    (Answer(""), 0.0),
    (Answer("想了想。\n答案：12"), {"pattern": r".*答案：\d+"}, 1.0),
    (Answer("大概是十二吧。"), {"pattern": r".*答案：\d+"}, 0.0),
]
