"""Preference losses: one file each; a loss's name in a config is its file name.

A language model holds a preference already, in how probable it finds an answer; these losses teach
it the one that people have, from pairs of answers or from single judged ones, without a reward
model and without sampling (Rafailov et al. 2023, arXiv:2305.18290, and what followed).

A file holds
- a docstring: what is minimised, the formula, and the paper it comes from;
- `@checked class Loss`: its parameters as fields with defaults, and
  `__call__(chosen, rejected, step) -> Tensor`, a pure function of log-probabilities: a loss for
  each pair (or each answer), of which the caller takes the sum over the whole step, divided by
  `step.items`;
- `rewards(answers) -> Tensor`: what the loss thinks of answers, for the curves;
- `NEEDS_REFERENCE`: whether it compares with a reference model; where False none is computed;
- `PAIRED`: whether `chosen[i]` and `rejected[i]` answer the same prompt. Where False they are
  judged answers, as many of each as there happen to be, and `step.kl` is computed.

A file of your own works as well: give its path, ending in `.py`, where the name would stand.
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
    """Answers by what two models think of them; S answers.

    Attributes:
        log_probs_S: log p(answer | prompt) in nats under the model that is trained, differentiable.
        tokens_S: tokens of each answer, its end token included.
        reference_S: log p(answer | prompt) under the reference; None for losses without one.
    """

    log_probs_S: Tensor
    tokens_S: Tensor
    reference_S: Tensor | None = None

    @property
    def log_ratios_S(self) -> Tensor:
        """How much more probable each answer has become than it is under the reference, in nats."""
        assert self.reference_S is not None, "a loss with NEEDS_REFERENCE = False asked for it"
        return self.log_probs_S - self.reference_S

    @property
    def means_S(self) -> Tensor:
        """Log-probability per token of each answer."""
        return self.log_probs_S / self.tokens_S


@dataclass(frozen=True)
class WholeStep:
    """What is known of the whole step, over all micro-batches and processes.

    Attributes:
        items: its pairs, or for unpaired losses its answers: what the sum of losses is divided by.
        chosen_tokens: tokens of its chosen answers.
        kl: how far the model has moved from the reference, in nats an answer, never negative:
            the mean of the log-ratios of answers to prompts that they do not belong to. Unpaired
            losses only; no gradient passes through it.
    """

    items: float
    chosen_tokens: float
    kl: float = 0.0


def chosen_nll(chosen: Answers, step: WholeStep) -> Tensor:
    """The chosen answers' negative log-likelihoods, whose sum over the step, divided by its pairs,
    is a mean over its tokens as in SFT."""
    return -chosen.log_probs_S * (step.items / step.chosen_tokens)


class PreferenceLoss(Protocol):
    """What a file's `Loss` is."""

    @property
    def NEEDS_REFERENCE(self) -> bool: ...

    @property
    def PAIRED(self) -> bool: ...

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor: ...

    def rewards(self, answers: Answers) -> Tensor: ...


def build(name: str, options: Sequence[str] = ()) -> PreferenceLoss:
    """The loss `name` with `options` of the form `parameter=value`.

    Raises ConfigError for a loss, a parameter or a value that does not exist.
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
