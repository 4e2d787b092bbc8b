"""Rule rewards: one file each; a reward's name in a config is its file name.

A rule can check that an answer keeps to a length, does not repeat itself, is Chinese, or ends with
the right number. It is exact, costs nothing and cannot be fooled as a reward model can (rule-based
rewards, Mu et al. 2024, arXiv:2411.01111).

A file holds
- a docstring: what is rewarded, why, and the source of the idea;
- `@checked class Reward`: its parameters as fields with defaults, and
  `__call__(answer) -> float`, a function of the answer alone, from 0 (bad) to 1 (good), so that the
  weights of several rewards can be compared;
- `EXAMPLES`: pairs (answer, reward with the default parameters), or triples with the parameters in
  the middle. They document the rule and are its tests;
- `NEEDS_REFERENCE = True`, if the rule compares with the right answer in the data: a run is refused
  before it begins when a prompt has none.

To use a file of your own, give its path, ending in `.py`, in place of the name.
`train/rl/scoring.py` builds the rules from a config and adds up their rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """A model's answer, as a rule sees it.

    Attributes:
        text: the answer without special tokens.
        prompt: the messages before the answer.
        reference: the right answer in the data; empty without one.
        complete: the model ended the answer; false where the token limit cut it.
        ids: the answer's tokens, its end token included; empty if unknown.
    """

    text: str
    prompt: Sequence[Mapping[str, Any]] = ()
    reference: str = ""
    complete: bool = True
    ids: Sequence[int] = ()


class RuleReward(Protocol):
    """The interface of a file's `Reward`."""

    def __call__(self, answer: Answer) -> float: ...
