"""Alarms for the silent failures of reinforcement learning, each raised once, when it begins.

- Equal rewards: nothing can be learnt from answers that all get the same.
- A growing KL: the policy has left the region where the reward is meaningful.
- A falling entropy: the policy writes one answer and explores no more.
- Growing answers: the first weakness of a reward model to be exploited (Singhal et al. 2023).

An experience may have only a few prompts, some of which ask for long answers and some for short
ones. So lengths, entropies and equal rewards are measured over `_PROMPTS` prompts at least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from hanllama.train.rl.config import AlarmConfig

# Rewards that differ by less are equal.
_SAME_REWARD = 1e-6
_PROMPTS = 32
_KEPT = ("reward_std", "groups_without_signal", "entropy", "answer_tokens")

Figures = Mapping[str, float]
"""The figures of an experience (`experience.py`)."""


class Watch:
    """Finds the alarms of one experience after another.

    Args:
        prompts: the number of prompts of an experience.
    """

    def __init__(self, config: AlarmConfig, prompts: int) -> None:
        self._config, self._span = config, math.ceil(_PROMPTS / prompts)
        self._first: list[Figures] = []
        self._last: list[Figures] = []
        self._raised: list[str] = []

    def look_at(self, figures: Figures) -> list[str]:
        """The alarms that begin with this experience."""
        kept = {name: figures[name] for name in _KEPT if name in figures}
        if len(self._first) < self._span:
            self._first.append(kept)
        self._last = [*self._last, kept][-self._span :]
        enough = len(self._last) == self._span
        alarms = found(figures, self._last, self._first, self._config, enough=enough)
        begun = [text for kind, text in alarms.items() if kind not in self._raised]
        self._raised = list(alarms)
        return begun

    def state(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"first": self._first, "last": self._last, "raised": self._raised}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; a checkpoint of an earlier version has no experiences in it."""
        if "last" in state:
            self._first, self._last = list(state["first"]), list(state["last"])
        self._raised = list(state["raised"])


def found(
    figures: Figures,
    last: Sequence[Figures],
    first: Sequence[Figures],
    config: AlarmConfig,
    *,
    enough: bool = True,
) -> dict[str, str]:
    """The alarms, as kind -> sentence.

    Args:
        figures: the figures of the last experience.
        last: those of the last experiences, including it.
        first: those of as many experiences at the run's beginning.
        enough: whether `last` has `_PROMPTS` prompts: a few easy ones prove nothing.
    """
    alarms = {}
    if all(_without_signal(one) for one in last):
        if figures["reward_std"] < _SAME_REWARD:
            alarms["reward"] = (
                f"every answer got the reward {figures['reward']:.4g}: nothing can be learnt from"
                " it; check the rewards on a few answers"
            )
        elif enough:
            alarms["reward"] = (
                "in every group all answers got the same reward: nothing can be learnt from it;"
                " raise rollout.temperature or group_size, or check the rewards"
            )
    if figures.get("kl", 0.0) > config.kl:
        alarms["kl"] = (
            f"the KL to the reference is {figures['kl']:.1f} nats an answer, above alarm.kl"
            f" {config.kl:g}: raise kl_coefficient or lower optim.learning_rate"
        )
    entropy, at_first = (mean(one["entropy"] for one in part) for part in (last, first))
    if entropy < config.entropy * at_first:
        alarms["entropy"] = (
            f"the entropy fell to {entropy:.3g} nats a token, from {at_first:.3g}: the policy"
            " hardly explores; lower optim.learning_rate or raise kl_coefficient"
        )
    length, at_first = (mean(one["answer_tokens"] for one in part) for part in (last, first))
    if length > config.length * at_first:
        alarms["length"] = (
            f"answers grew to {length:.0f} tokens, from {at_first:.0f}: check whether the reward"
            " favours length; the rule `length` or reward.missing_end_penalty limits them"
        )
    return alarms


def _without_signal(figures: Figures) -> bool:
    return figures["reward_std"] < _SAME_REWARD or figures.get("groups_without_signal", 0.0) == 1
