"""What the loop asks of an objective: pretraining, SFT, DPO, PPO … are objects of this shape.

The loop knows none of them by name. `prepare(step)` does what belongs to the whole step (rollouts,
statistics over the full batch) and cuts it into micro-batches whose weights are known before any
of them is computed; `loss` returns a SUM; the loop divides by the step's total weight, over all
micro-batches and all processes, before the backward pass. So neither accumulation, nor data
parallelism, nor the fp16 scaler can change the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


class Objective(ABC):
    """One way to train. Pure in the step: nothing but `state` survives from one to the next.

    Below the line are things that most objectives have no need of.
    """

    name: str
    """What the model card and the progress bar call it; of a preference loss its own name."""

    model: Llama
    """The model that is trained, sampled and published."""

    micro_batch_size: int
    """Rows of one pass; the loop halves it on out-of-memory."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """What a resume must find unchanged, by field: data, tokenizer, model."""

    @abstractmethod
    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's micro-batches of a step, counted from 0."""

    @abstractmethod
    def loss(self, micro: Micro) -> Tensor:
        """The sum of the losses of a micro-batch, a float32 scalar."""

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Held-out figures, the same on every process; `heldout_loss` ranks the checkpoints."""

    @abstractmethod
    def row_names(
        self, rows: Sequence[int], decode: Callable[[Sequence[int]], str]
    ) -> Sequence[str]:
        """What a person finds rows of the data by: their ids, or else their text (`decode` makes
        it from tokens)."""

    # ------------------------------------------------------------------------------------------

    steps_per_experience: int = 1
    """Optimizer steps made of one experience (PPO's rollouts). Checkpoints, and stops for a
    signal, fall only where an experience ends, so that none has to be saved."""

    def further_models(self) -> Mapping[str, nn.Module]:
        """Other models that are trained (a value model), by name; saved beside the first."""
        return {}

    def learning_rate_scales(self) -> Mapping[str, float]:
        """What multiplies the learning rate of each of the further models; 1 where absent."""
        return {}

    def step_metrics(self) -> Mapping[str, float]:
        """What the last step adds to its line of metrics; the same on every process."""
        return {}

    def tables(self) -> Sequence[Mapping[str, Any]]:
        """What the last evaluation says that is no curve: `title`, `headings`, `rows` of each."""
        return ()

    def alarms(self) -> Sequence[str]:
        """What went wrong in the last step without stopping it, each in a sentence."""
        return ()

    def state(self) -> Mapping[str, Any]:
        """The small state that is part of a checkpoint (JSON)."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        assert not state, "an objective that saves a state must take it back"
