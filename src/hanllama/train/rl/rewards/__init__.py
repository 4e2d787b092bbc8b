"""Rule rewards: one file each; a reward's name in a config is its file name.

What can be said by a rule need not be learned: that an answer keeps to a length, does not repeat
itself, is Chinese, ends with the right number. A rule is exact, costs nothing and cannot be talked
into a good mood, which a reward model can (rule-based rewards, Mu et al. 2024, arXiv:2411.01111).

A file holds
- a docstring: what is rewarded, why, and where the idea comes from;
- `@checked class Reward`: its parameters as fields with defaults, and
  `__call__(answer) -> float`, a function of the answer alone, from 0 (not at all) to 1 (fully what
  is wanted), so that weights of several rewards can be compared;
- `EXAMPLES`: pairs (answer, reward with the default parameters), or triples with the parameters in
  the middle. They document the rule and are its tests;
- where the rule compares with the answer that the data gives, `NEEDS_REFERENCE = True`: a run is
  then refused before it begins when a prompt has none.

A file of your own works as well: give its path, ending in `.py`, where the name would stand.
`train/rl/scoring.py` builds them from a config and weighs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """What a model answered, as a rule sees it.

    Attributes:
        text: the answer without special tokens.
        prompt: the messages that asked for it.
        reference: the answer that the data gives, empty where it gives none.
        complete: whether the model ended it, rather than the limit of tokens.
        ids: the answer's tokens, its end token included; empty where nobody has them.
    """

    text: str
    prompt: Sequence[Mapping[str, Any]] = ()
    reference: str = ""
    complete: bool = True
    ids: Sequence[int] = ()


class RuleReward(Protocol):
    """What a file's `Reward` is."""

    def __call__(self, answer: Answer) -> float: ...
