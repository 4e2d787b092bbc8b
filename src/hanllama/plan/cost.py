"""What a step of each kind of training costs, beside a step of pretraining of the same rows.

`hanllama plan` knows what a pass over packed rows takes. The other objectives are counted in such
passes: a training pass is forward and backward, a forward pass a third of one; LoRA's backward pass
makes no gradients of the frozen weights, which saves a third. Lengths are not known before the data
is there: a prompt with its answer is assumed to fill half of the context.

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
_SEQUENCE = 0.5  # of the context: a prompt with its answer
# A decoder makes a token at a time and waits for memory, not for arithmetic. Assumed, not measured:
# it reaches a tenth of a forward pass's share of the device's peak, and an answer is half of its
# sequence.
_DECODING = 10 * _FORWARD / 2
_NO_REFERENCE = ("orpo", "simpo")


@dataclass(frozen=True)
class Cost:
    """The price of a stage.

    Attributes:
        rows: packed rows of the context that one unit of `loop.batch_size` stands for.
        work: training passes over each of them, by time.
        trained: models trained at once, each with its moments and gradients.
        frozen: models beside them that are only asked.
        counts: what a unit of the batch is, in words.
    """

    rows: float = 1.0
    work: float = 1.0
    trained: int = 1
    frozen: int = 0
    counts: str = "packed rows"


@singledispatch
def cost(config: Any) -> Cost | None:
    """The price of what a command's config describes; None where nothing is trained."""
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
    """Policy and value model train; before, both, the reference and the reward model are asked."""
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
