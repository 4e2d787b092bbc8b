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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hanllama.model.device import choose_dtype
from hanllama.model.llama import Llama
from hanllama.train.config import LoopConfig
from hanllama.train.parallel import World


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


class RowObjective(Objective):
    """What the objectives here share: rows in micro-batches, and the figures of a step.

    Args:
        model: on its device.
        loop: its batch and micro-batch size, seed, dtype and rows of an evaluation count here.
        fingerprint: what a resume must find unchanged.
    """

    names: Sequence[str] = ()
    """Of the figures that the passes of a step give."""

    def __init__(
        self, model: Llama, loop: LoopConfig, world: World, fingerprint: Mapping[str, str]
    ) -> None:
        self.model, self.settings, self.world = model, loop, world
        self.micro_batch_size = min(loop.micro_batch_size, loop.batch_size)
        self.device = next(model.parameters()).device
        self.dtype = choose_dtype(loop.dtype, self.device)
        self._fingerprint = dict(fingerprint)
        self.figures, self._passes_left = Figures(self.names), 0
        self.means: dict[str, float] = {}

    def fingerprint(self) -> Mapping[str, str]:
        """As it was given."""
        return self._fingerprint

    def parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """This process's share of some rows, in micro-batches."""
        mine, size = rows[self.world.rank :: self.world.size], self.micro_batch_size
        return [mine[start : start + size] for start in range(0, len(mine), size)]

    def evaluated(self, rows: int) -> int:
        """How many of the held-out rows an evaluation looks at, over all processes."""
        return min(self.settings.eval_rows or rows, rows)

    def begin_passes(self, count: int) -> None:
        """A step of so many micro-batches begins: its figures are new."""
        self.figures, self._passes_left = Figures(self.names), count

    def end_pass(self) -> None:
        """After each micro-batch; the last one makes `means`, on every process those of all."""
        self._passes_left -= 1
        if self._passes_left == 0:
            self.means = self.figures.means(self.world, self.device)


class Figures:
    """Means over all micro-batches and processes, kept as sums until all are there.

    Args:
        names: every name that may be added, the same on every process.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._sums: list[tuple[int, Tensor]] = []

    @torch.no_grad()
    def add(self, name: str, values_S: Tensor, counts_S: Tensor | None = None) -> None:
        """Add values, each a sum over as many things as `counts_S` says (one, without)."""
        count = values_S.new_tensor(values_S.numel()) if counts_S is None else counts_S.sum()
        pair = torch.stack((values_S.sum().float(), count.float()))
        self._sums.append((self._numbers[name], pair))

    def means(self, world: World, device: torch.device) -> dict[str, float]:
        """Each name's mean over all processes; a name that nothing was added to has none."""
        totals = torch.zeros(len(self._numbers), 2, dtype=torch.float64)
        for number, pair in self._sums:
            totals[number] += pair.cpu()
        summed = world.sum(totals.ravel().tolist(), device)
        counts = {name: summed[2 * number + 1] for name, number in self._numbers.items()}
        return {
            name: summed[2 * number] / counts[name]
            for name, number in self._numbers.items()
            if counts[name]
        }
