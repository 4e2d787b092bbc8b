"""Reward an answer of the form that a regular expression describes; 1 or 0.

The default form is a finished text: it ends with a closing mark of punctuation, and no line looks
like a further turn of the conversation (`用户:`, `### Instruction`), which a model trained on
transcripts likes to write by itself. `complete` asks that the model ended the answer, too, and was
not cut off at the limit.

Source: the format reward of DeepSeek-R1 (2025, arXiv:2501.12948): a pattern that has to match
whole. A pattern of your own is matched against the answer without white space at its ends;
`.` matches a line break, too.
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
