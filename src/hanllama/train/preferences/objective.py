"""What learning from preferences shares, whether a language model learns or a reward model: rows of
two answers, cut into steps and micro-batches, and figures that say whether it goes well.

A step is `loop.batch_size` rows. Its loss is a mean over them, while its micro-batches weigh what
they have of answers' tokens, known beforehand: so `tokens` in the metrics counts what it does in
other trainings.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hanllama.base.errors import ConfigError
from hanllama.batches.mix import rows_of_step
from hanllama.model.llama import Llama
from hanllama.train.figures import Figures
from hanllama.train.objective import Micro, Objective
from hanllama.train.parallel import World
from hanllama.train.preferences.data import Row
from hanllama.train.preferences.losses import WholeStep

Array = NDArray[np.int64]
# A batch of a few pairs is ranked right as a whole now and then; so many in a row mean something.
_STEPS_OF_ONE_KIND = 20
# exp(-0.5): chosen answers are 0.6 times as probable a token as they were.
_FALL_NATS_PER_TOKEN = 0.5


@dataclass(frozen=True)
class Split:
    """Rows with log p of their two sequences under the reference, [rows, 2], if there is one."""

    rows: Sequence[Row]
    references: NDArray[np.float32] | None = None

    def references_of(self, part: Array) -> NDArray[np.float32]:
        """Those of some rows; zeros where there is no reference."""
        if self.references is None:
            return np.zeros((len(part), 2), dtype=np.float32)
        return self.references[part]


@dataclass(frozen=True)
class Course:
    """How the rows are gone through.

    Attributes:
        batch_size: rows of a step, over all processes.
        micro_batch_size: rows of one pass.
        eval_rows: held-out rows of an evaluation; 0 means all.
        seed: of the order.
        pad: any token, to fill packed rows with.
        dtype: of the passes that are made outside of the loop's own.
    """

    batch_size: int
    micro_batch_size: int
    eval_rows: int
    seed: int
    pad: int
    dtype: torch.dtype


class PreferenceObjective(Objective):
    """An objective on rows of two answers; a subclass says what the loss of some rows is.

    Args:
        model: on its device.
        train, heldout: the rows of the two splits; without held-out rows nothing is evaluated.
        fingerprint: what a resume must find unchanged.
    """

    names: Sequence[str]
    """Of the figures: `loss`, `accuracy`, `reward_chosen`, `reward_rejected` and further ones."""

    def __init__(
        self,
        model: Llama,
        train: Split,
        heldout: Split,
        course: Course,
        world: World,
        fingerprint: Mapping[str, str],
    ) -> None:
        if course.batch_size < world.size:
            raise ConfigError(
                f"loop.batch_size {course.batch_size} is smaller than the {world.size} processes:"
                " each needs a pair of every step"
            )
        self.model, self.micro_batch_size = model, course.micro_batch_size
        self.train, self.heldout = train, heldout
        self.course, self.world = course, world
        self.device = next(model.parameters()).device
        self._fingerprint = dict(fingerprint)
        self._figures = Figures(self.names)
        self._metrics: Mapping[str, float] = {}
        self._micros_left = 0
        self._watch = Watch()

    @abstractmethod
    def row_losses(self, split: Split, part: Array, whole: WholeStep, figures: Figures) -> Tensor:
        """The losses of some rows; what they say is added to the figures."""

    @abstractmethod
    def answer_tokens(self, row: Row) -> int:
        """Tokens of the answers of a row that are learned from."""

    def kl(self, split: Split, rows: Array) -> float:
        """How far the model has moved, where the loss wants to know."""
        return 0.0

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's rows of the step, in micro-batches."""
        split = self.train
        rows = rows_of_step(step, self.course.batch_size, len(split.rows), self.course.seed)
        whole = self._whole_step(split, rows)
        parts = self.parts(rows)
        self._figures, self._micros_left = Figures(self.names), len(parts)
        tokens = {int(i): self.answer_tokens(split.rows[i]) for i in rows}
        # The loop divides by the step's tokens; the loss is a mean over its rows.
        scale = sum(tokens[int(i)] for i in rows) / len(rows)
        return [
            Micro(
                float(sum(tokens[int(i)] for i in part)),
                part.tolist(),
                (split, part, whole, scale),
            )
            for part in parts
        ]

    def loss(self, micro: Micro) -> Tensor:
        """The sum of the losses of the micro-batch's rows, scaled to the step's tokens."""
        split, part, whole, scale = micro.data
        loss_sum: Tensor = self.row_losses(split, part, whole, self._figures).sum() * scale
        self._micros_left -= 1
        if self._micros_left == 0:  # on every process: the figures become those of the whole step
            self._metrics = with_margin(self._figures.means(self.world, self.device))
        return loss_sum

    def step_metrics(self) -> Mapping[str, float]:
        """Rewards, accuracy, margin and the like of the last step."""
        return {name: value for name, value in self._metrics.items() if name != "loss"}

    def alarms(self) -> Sequence[str]:
        """What is wrong with the last steps."""
        return self._watch.look_at(self._metrics)

    def state(self) -> Mapping[str, Any]:
        """What the alarms of the next steps depend on."""
        return self._watch.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self._watch.restore(state)

    def evaluate(self) -> Mapping[str, float]:
        """Held-out loss, accuracy and margin."""
        if not self.heldout.rows:
            return {}
        rows = self.heldout_rows()
        whole = self._whole_step(self.heldout, rows)
        figures = Figures(self.names)
        for part in self.parts(rows):
            self.row_losses(self.heldout, part, whole, figures)
        found = with_margin(figures.means(self.world, self.device))
        wanted = ("loss", "accuracy", "margin")
        return {f"heldout_{name}": found[name] for name in wanted if name in found}

    def row_names(
        self, rows: Sequence[int], decode: Callable[[Sequence[int]], str]
    ) -> Sequence[str]:
        """The ids of the records."""
        return [self.train.rows[row].id for row in rows]

    def heldout_rows(self) -> Array:
        """Which held-out rows an evaluation looks at, over all processes."""
        n_rows = len(self.heldout.rows)
        count = min(self.course.eval_rows or n_rows, n_rows)
        return rows_of_step(0, count, n_rows, self.course.seed)

    def fingerprint(self) -> Mapping[str, str]:
        """Data, tokenizer, template, model, and the reference where there is one."""
        return self._fingerprint

    def parts(self, rows: Array) -> list[Array]:
        """This process's share of some rows, in micro-batches."""
        mine, size = rows[self.world.rank :: self.world.size], self.micro_batch_size
        return [mine[start : start + size] for start in range(0, len(mine), size)]

    def _whole_step(self, split: Split, rows: Array) -> WholeStep:
        """What the losses must know of all rows of a step, wherever they are computed."""
        good = [split.rows[i] for i in rows if split.rows[i].good]
        chosen_tokens = sum(row.answer_tokens[0] for row in good)
        return WholeStep(len(rows), float(chosen_tokens), self.kl(split, rows))


def with_margin(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures and the margin between the sides, where there are answers on both: a step of
    judged answers may have good ones alone."""
    if not {"reward_chosen", "reward_rejected"} <= figures.keys():
        return dict(figures)
    return {**figures, "margin": figures["reward_chosen"] - figures["reward_rejected"]}


class Watch:
    """What the figures of the last steps warn of."""

    def __init__(self) -> None:
        self._accuracies: deque[float] = deque(maxlen=_STEPS_OF_ONE_KIND)
        self._fall = _FALL_NATS_PER_TOKEN

    def state(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint."""
        return {"accuracies": list(self._accuracies), "fall": self._fall}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there; a checkpoint of an earlier version remembers nothing."""
        self._accuracies.extend(state.get("accuracies", ()))
        self._fall = state.get("fall", self._fall)

    def look_at(self, figures: Mapping[str, float]) -> list[str]:
        """The alarms after a step; each is raised again only when it has become worse."""
        if not figures:
            return []
        found = []
        self._accuracies.append(figures["accuracy"])
        if len(self._accuracies) == _STEPS_OF_ONE_KIND and len(set(self._accuracies)) == 1:
            steps = f"in the last {_STEPS_OF_ONE_KIND} steps every answer was"
            if self._accuracies[0] == 1:
                found.append(
                    f"{steps} ranked right: nothing is left to learn here but the pairs by heart"
                )
                self._accuracies.clear()
            elif self._accuracies[0] == 0:
                found.append(f"{steps} ranked wrong: are chosen and rejected the wrong way round?")
                self._accuracies.clear()
        drift = figures.get("drift_chosen", 0.0)
        if drift < -self._fall:
            found.append(
                f"the chosen answers have become less probable by {-drift:.2f} nats a token than"
                " they are to the reference: lower optim.learning_rate or raise beta"
            )
            self._fall *= 2
        return found
