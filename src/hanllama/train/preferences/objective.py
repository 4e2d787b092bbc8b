"""Shared by the objectives on preferences, for language and reward models: rows of two answers, cut
into steps and micro-batches, and the figures that show whether training goes well.

A step is `loop.batch_size` rows. Its loss is a mean over them, but a micro-batch's weight is its
number of answer tokens, so that `tokens` in the metrics counts the same as in other trainings.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hanllama.batches.mix import rows_of_step
from hanllama.model.llama import Llama
from hanllama.train.config import LoopConfig
from hanllama.train.objective import Figures, Micro, RowObjective
from hanllama.train.parallel import World
from hanllama.train.preferences.data import Row
from hanllama.train.preferences.losses import WholeStep

Array = NDArray[np.int64]
# A small batch may be ranked right as a whole by chance, but not so many in a row.
_STEPS_OF_ONE_KIND = 20
# exp(-0.5): chosen answers are 0.6 times as probable a token as they were.
_FALL_NATS_PER_TOKEN = 0.5


@dataclass(frozen=True)
class Split:
    """Rows with log p of their two sequences under the reference, [rows, 2], if there is one."""

    rows: Sequence[Row]
    references: NDArray[np.float32] | None = None

    def references_of(self, part: Array) -> NDArray[np.float32]:
        """The log-probabilities of the rows in `part`; zeros without a reference."""
        if self.references is None:
            return np.zeros((len(part), 2), dtype=np.float32)
        return self.references[part]


class PreferenceObjective(RowObjective):
    """An objective on rows of two answers; a subclass computes the losses of rows.

    The figures are `loss`, `accuracy`, `reward_chosen`, `reward_rejected` and further ones.

    Args:
        train, heldout: the rows of the two splits; without held-out rows nothing is evaluated.
        model, loop, world, fingerprint: see `RowObjective`.
    """

    def __init__(
        self,
        model: Llama,
        train: Split,
        heldout: Split,
        loop: LoopConfig,
        world: World,
        fingerprint: Mapping[str, str],
    ) -> None:
        super().__init__(model, loop, world, fingerprint)
        self.train, self.heldout = train, heldout
        self.pad = model.config.pad_token_id or 0  # fills packed rows; any token would do
        self._watch = Watch()

    @abstractmethod
    def row_losses(self, split: Split, part: Array, whole: WholeStep, figures: Figures) -> Tensor:
        """The losses of the rows in `part`; adds to the figures."""

    @abstractmethod
    def answer_tokens(self, row: Row) -> int:
        """The number of tokens of a row's trained answers."""

    def kl(self, split: Split, rows: Array) -> float:
        """The model's distance from the reference, for losses that use it."""
        return 0.0

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's rows of the step, in micro-batches."""
        split = self.train
        loop = self.settings
        rows = rows_of_step(step, loop.batch_size, len(split.rows), loop.seed)
        whole = self._whole_step(split, rows)
        parts = self.parts(rows)
        self.begin_passes(len(parts))
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
        loss_sum: Tensor = self.row_losses(split, part, whole, self.figures).sum() * scale
        self.end_pass()
        return loss_sum

    def step_metrics(self) -> Mapping[str, float]:
        """The figures of the last step, without the loss."""
        return {name: value for name, value in with_margin(self.means).items() if name != "loss"}

    def alarms(self) -> Sequence[str]:
        """Warnings about the last steps."""
        return self._watch.look_at(self.means)

    def state(self) -> Mapping[str, Any]:
        """The state of the alarms."""
        return self._watch.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the alarms."""
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
        """The held-out rows of an evaluation, over all processes."""
        n_rows = len(self.heldout.rows)
        return rows_of_step(0, self.evaluated(n_rows), n_rows, self.settings.seed)

    def _whole_step(self, split: Split, rows: Array) -> WholeStep:
        """The numbers of a whole step that the losses need."""
        good = [split.rows[i] for i in rows if split.rows[i].good]
        chosen_tokens = sum(row.answer_tokens[0] for row in good)
        return WholeStep(len(rows), float(chosen_tokens), self.kl(split, rows))


def with_margin(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures and the margin between the sides, if both have answers: a step of judged answers
    may have only good ones."""
    if not {"reward_chosen", "reward_rejected"} <= figures.keys():
        return dict(figures)
    return {**figures, "margin": figures["reward_chosen"] - figures["reward_rejected"]}


class Watch:
    """Alarms from the figures of the last steps."""

    def __init__(self) -> None:
        self._accuracies: deque[float] = deque(maxlen=_STEPS_OF_ONE_KIND)
        self._fall = _FALL_NATS_PER_TOKEN

    def state(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"accuracies": list(self._accuracies), "fall": self._fall}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; a checkpoint of an earlier version has none."""
        self._accuracies.extend(state.get("accuracies", ()))
        self._fall = state.get("fall", self._fall)

    def look_at(self, figures: Mapping[str, float]) -> list[str]:
        """The alarms after a step; an alarm comes again only when it has become worse."""
        if not figures:
            return []
        found = []
        self._accuracies.append(figures["accuracy"])
        if len(self._accuracies) == _STEPS_OF_ONE_KIND and len(set(self._accuracies)) == 1:
            steps = f"in the last {_STEPS_OF_ONE_KIND} steps every answer was"
            if self._accuracies[0] == 1:
                found.append(
                    f"{steps} ranked right: training further would only memorise the pairs"
                )
                self._accuracies.clear()
            elif self._accuracies[0] == 0:
                found.append(f"{steps} ranked wrong: are chosen and rejected swapped?")
                self._accuracies.clear()
        drift = figures.get("drift_chosen", 0.0)
        if drift < -self._fall:
            found.append(
                f"the chosen answers are less probable than under the reference, by {-drift:.2f}"
                " nats per token: lower optim.learning_rate or raise beta"
            )
            self._fall *= 2
        return found
