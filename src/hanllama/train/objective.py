"""What the loop asks of an objective: pretraining, SFT, DPO, PPO … are objects of this shape.

The loop knows none of them by name. `prepare(step)` does what belongs to the whole step (rollouts,
statistics over the full batch) and cuts it into micro-batches whose weights are known before any
of them is computed; `loss` returns a SUM; the loop divides by the step's total weight, over all
micro-batches and all processes, before the backward pass. So neither accumulation, nor data
parallelism, nor the fp16 scaler can change the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from hanllama.model.llama import Llama


@dataclass(frozen=True)
class Micro:
    """One forward and backward pass.

    weight: what its loss counts for: usually the number of trained tokens.
    rows: which rows of the data it holds, to name them when something goes wrong.
    data: whatever the objective's `loss` wants.
    """

    weight: float
    rows: Sequence[int]
    data: Any


class Objective(Protocol):
    """One way to train. Pure in the step: nothing but `state` survives from one to the next."""

    name: str
    """Its file name in `train/objectives/`."""

    model: Llama
    """The model that is trained, sampled and published."""

    micro_batch_size: int
    """Rows of one pass; the loop halves it on out-of-memory."""

    def further_models(self) -> Mapping[str, nn.Module]:
        """Other models that are trained (a value model), by name; saved beside the first."""
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """What a resume must find unchanged, by field: data, tokenizer, model."""
        ...

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's micro-batches of a step, counted from 0."""
        ...

    def loss(self, micro: Micro) -> Tensor:
        """The sum of the losses of a micro-batch, a float32 scalar."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Held-out figures, the same on every process; `heldout_loss` ranks the checkpoints."""
        ...

    def state(self) -> Mapping[str, Any]:
        """The small state that is part of a checkpoint (JSON), empty for most."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        ...
