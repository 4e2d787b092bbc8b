"""The interface of an objective: pretraining, SFT, DPO, PPO … implement it for the loop.

`prepare(step)` does the work of the whole step (rollouts, statistics over the full batch) and cuts
it into micro-batches whose weights are known before any of them is computed. `loss` returns a SUM;
the loop divides it by the step's total weight, over all micro-batches and processes, before the
backward pass. So neither accumulation, data parallelism nor the fp16 scaler changes the gradient.
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

    weight: its weight in the step, usually the number of trained tokens.
    rows: its rows of the data, to name them when something goes wrong.
    data: the argument of the objective's `loss`.
    """

    weight: float
    rows: Sequence[int]
    data: Any


class Objective(ABC):
    """One way to train. A function of the step: only `state` passes from one step to the next.

    Most objectives keep the defaults below the line.
    """

    name: str
    """Its name in the model card and the progress bar; for DPO, the name of the loss."""

    model: Llama
    """The model that is trained, sampled and published."""

    micro_batch_size: int
    """Rows of one pass; the loop halves it on out-of-memory."""

    @abstractmethod
    def fingerprint(self) -> Mapping[str, str]:
        """Hashes that a resume requires to be the same, by field: data, tokenizer, model."""

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
        """Names by which a person finds rows of the data: their ids, or their text (`decode` makes
        it from tokens)."""

    # ------------------------------------------------------------------------------------------

    steps_per_experience: int = 1
    """Optimizer steps per experience (PPO's rollouts). A run is saved and stopped only between
    two experiences, so that none has to be saved."""

    def further_models(self) -> Mapping[str, nn.Module]:
        """Other trained models (a value model), by name; saved beside the first."""
        return {}

    def learning_rate_scales(self) -> Mapping[str, float]:
        """The factor of the learning rate of each further model; 1 if absent."""
        return {}

    def step_metrics(self) -> Mapping[str, float]:
        """Further metrics of the last step; the same on every process."""
        return {}

    def tables(self) -> Sequence[Mapping[str, Any]]:
        """Tables of the last evaluation, each with `title`, `headings` and `rows`."""
        return ()

    def alarms(self) -> Sequence[str]:
        """Warnings about the last step, each a sentence; they do not stop the run."""
        return ()

    def state(self) -> Mapping[str, Any]:
        """A small state for the checkpoint (JSON)."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        assert not state, "an objective that saves a state must take it back"


class RowObjective(Objective):
    """An objective over rows in micro-batches, with figures that are averaged over a step.

    Args:
        model: on its device.
        loop: gives batch and micro-batch size, seed, dtype and the rows of an evaluation.
        fingerprint: hashes that a resume requires to be the same.
    """

    names: Sequence[str] = ()
    """The names of the figures that the passes of a step add."""

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
        """The fingerprint given to the constructor."""
        return self._fingerprint

    def parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """This process's share of the rows, in micro-batches."""
        mine, size = rows[self.world.rank :: self.world.size], self.micro_batch_size
        return [mine[start : start + size] for start in range(0, len(mine), size)]

    def evaluated(self, rows: int) -> int:
        """How many of the held-out rows an evaluation uses, over all processes."""
        return min(self.settings.eval_rows or rows, rows)

    def begin_passes(self, count: int) -> None:
        """Begin a step of `count` micro-batches, with new figures."""
        self.figures, self._passes_left = Figures(self.names), count

    def end_pass(self) -> None:
        """End a micro-batch; the last one sets `means`, over all processes."""
        self._passes_left -= 1
        if self._passes_left == 0:
            self.means = self.figures.means(self.world, self.device)


class Figures:
    """Means over all micro-batches and processes, kept as sums until the step ends.

    Args:
        names: every name that may be added; the same on every process.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._sums: list[tuple[int, Tensor]] = []

    @torch.no_grad()
    def add(self, name: str, values_S: Tensor, counts_S: Tensor | None = None) -> None:
        """Add values, each a sum over `counts_S` things (one thing if None)."""
        count = values_S.new_tensor(values_S.numel()) if counts_S is None else counts_S.sum()
        pair = torch.stack((values_S.sum().float(), count.float()))
        self._sums.append((self._numbers[name], pair))

    def means(self, world: World, device: torch.device) -> dict[str, float]:
        """The mean of each name over all processes; names without a value are left out."""
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
