"""The cost of a step of each kind of training, relative to pretraining on the same rows.

The unit is a training pass (forward and backward) over packed rows. A forward pass is a third of
one; LoRA's backward pass makes no gradients of the frozen weights, which saves a third. Lengths are
unknown before the data exists: a prompt with its answer is assumed to fill half of the context.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from hanllama.train.config import PretrainConfig
from hanllama.train.preferences.config import DpoConfig, RewardConfig
from hanllama.train.rl.config import GrpoConfig, PpoConfig
from hanllama.train.sft.config import SftConfig

_FORWARD = 1 / 3
_SEQUENCE = 0.5  # a prompt with its answer, as a share of the context
# A decoder makes one token at a time and waits for memory, not arithmetic. Assumed, not measured:
# it reaches a tenth of a forward pass's speed, and an answer is half of its sequence.
_DECODING = 10 * _FORWARD / 2
_NO_REFERENCE = ("orpo", "simpo")


@dataclass(frozen=True)
class Cost:
    """The cost of a stage.

    Attributes:
        rows: packed rows per unit of `loop.batch_size`.
        work: training passes over each row, by time.
        trained: models trained at once, each with its moments and gradients.
        frozen: other models, which only run forward.
        counts: the unit of the batch, in words.
    """

    rows: float = 1.0
    work: float = 1.0
    trained: int = 1
    frozen: int = 0
    counts: str = "packed rows"


@singledispatch
def cost(config: Any) -> Cost | None:
    """The cost of a command's config; None if the command trains nothing."""
    return None


@cost.register
def _(config: PretrainConfig) -> Cost:
    return Cost()


@cost.register
def _(config: SftConfig) -> Cost:
    return Cost(work=_pass(config.lora.rank))


@cost.register
def _(config: RewardConfig) -> Cost:
    return Cost(2 * _SEQUENCE, counts="pairs")


@cost.register
def _(config: DpoConfig) -> Cost:
    reference = 0.0 if config.loss in _NO_REFERENCE else _FORWARD
    work = _pass(config.lora.rank) + reference
    if config.loss == "kto":  # beside each answer, a forward pass over a mismatched one
        return Cost(_SEQUENCE, work + _FORWARD, counts="answers")
    return Cost(2 * _SEQUENCE, work, counts="pairs")


@cost.register
def _(config: PpoConfig) -> Cost:
    """Policy and value model train; first these two, the reference and the reward model run."""
    asked = 3 + bool(config.reward.model)
    rollout = asked * _FORWARD + _DECODING
    frozen = bool(config.reward.model) + (config.lora.rank == 0)
    work = 1 + _pass(config.lora.rank) + rollout / config.passes
    return Cost(_SEQUENCE, work, trained=2, frozen=frozen, counts="answers")


@cost.register
def _(config: GrpoConfig) -> Cost:
    refers = config.kl_coefficient > 0
    asked = 1 + bool(config.reward.model) + refers
    rollout = asked * _FORWARD + _DECODING
    frozen = bool(config.reward.model) + (refers and config.lora.rank == 0)
    work = _pass(config.lora.rank) + rollout / config.passes
    return Cost(_SEQUENCE, work, frozen=frozen, counts="answers")


def _pass(lora_rank: int) -> float:
    return 2 * _FORWARD if lora_rank else 1.0
