"""Preference losses: one file each; a loss's name in a config is its file name.

A language model's probabilities of answers are a preference. These losses teach it people's, from
pairs of answers or from single judged ones, without a reward model and without sampling (Rafailov
et al. 2023, arXiv:2305.18290, and later papers).

A file holds
- a docstring: the formula that is minimised, and its paper;
- `@checked class Loss`: its parameters as fields with defaults, and
  `__call__(chosen, rejected, step) -> Tensor`, a pure function of log-probabilities: a loss for
  each pair (or each answer). The caller divides their sum over the step by `step.items`;
- `rewards(answers) -> Tensor`: the loss's rewards of answers, for the curves;
- `NEEDS_REFERENCE`: whether it compares with a reference model; if False none is computed;
- `PAIRED`: whether `chosen[i]` and `rejected[i]` answer the same prompt. If False they are judged
  answers, any number of each, and `step.kl` is computed.

To use a file of your own, give its path, ending in `.py`, in place of the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hanllama.base import config, plugins
from hanllama.base.errors import ConfigError

PACKAGE = "hanllama.train.preferences.losses"


@dataclass(frozen=True)
class Answers:
    """The log-probabilities of S answers under the trained model and the reference.

    Attributes:
        log_probs_S: log p(answer | prompt) in nats under the trained model, differentiable.
        tokens_S: tokens of each answer, its end token included.
        reference_S: log p(answer | prompt) under the reference; None for losses without one.
    """

    log_probs_S: Tensor
    tokens_S: Tensor
    reference_S: Tensor | None = None

    @property
    def log_ratios_S(self) -> Tensor:
        """log p of each answer less that under the reference, in nats."""
        assert self.reference_S is not None, "a loss with NEEDS_REFERENCE = False asked for it"
        return self.log_probs_S - self.reference_S

    @property
    def means_S(self) -> Tensor:
        """The log-probability per token of each answer."""
        return self.log_probs_S / self.tokens_S


@dataclass(frozen=True)
class WholeStep:
    """Numbers of the whole step, over all micro-batches and processes.

    Attributes:
        items: its pairs, or for unpaired losses its answers: the divisor of the sum of losses.
        chosen_tokens: tokens of its chosen answers.
        kl: for unpaired losses only, the model's distance from the reference in nats per answer:
            the mean log-ratio of answers to prompts that are not theirs, at least 0, without a
            gradient.
    """

    items: float
    chosen_tokens: float
    kl: float = 0.0


def chosen_nll(chosen: Answers, step: WholeStep) -> Tensor:
    """The negative log-likelihoods of the chosen answers, scaled so that their sum over the step,
    divided by its pairs, is the mean over tokens as in SFT."""
    return -chosen.log_probs_S * (step.items / step.chosen_tokens)


class PreferenceLoss(Protocol):
    """The interface of a file's `Loss`."""

    @property
    def NEEDS_REFERENCE(self) -> bool: ...

    @property
    def PAIRED(self) -> bool: ...

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor: ...

    def rewards(self, answers: Answers) -> Tensor: ...


def build(name: str, options: Sequence[str] = ()) -> PreferenceLoss:
    """The loss `name` with `options` of the form `parameter=value`.

    Raises ConfigError for an unknown loss or parameter, or an invalid value.
    """
    cls = plugins.member(PACKAGE, name, "Loss")
    values: dict[str, str] = {}
    for entry in options:
        key, equals, value = entry.partition("=")
        if not equals:
            raise ConfigError(f"loss_options: {entry!r} is not of the form parameter=value")
        values[key.strip()] = value.strip()
    loss: PreferenceLoss = config.load(cls, values, f"loss {name}")
    return loss
