"""A curriculum: rows in stages, one after another, shuffled inside each.

Ziya (Zhang et al. 2022 and its model cards) fine-tunes on data graded by difficulty, easy before
hard. A stage's share of the run is its share of the rows, and all its epochs come before the next
stage: a pure function of the step, like any other order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hanllama.batches.mix import PADDING, Array, PackedRows, RowBatch, permutation


class Stages:
    """Several `PackedRows` as one, with their rows numbered one stage after another."""

    def __init__(self, stages: Sequence[PackedRows], total_rows: int, seed: int) -> None:
        """
        Args:
            stages: in the order of training, of one row length.
            total_rows: rows of the whole run, over all steps.
            seed: the order inside each stage.
        """
        self._stages, self._seed = list(stages), seed
        self.row_length = stages[0].row_length
        self._firsts = np.concatenate([[0], np.cumsum([s.n_rows for s in stages])])
        self.n_rows = int(self._firsts[-1])
        # The place in the run where each stage begins; the last ends with the run despite rounding.
        self._begins = np.rint(self._firsts * (total_rows / self.n_rows)).astype(np.int64)

    @property
    def n_tokens(self) -> int:
        """Input tokens of all rows."""
        return sum(stage.n_tokens for stage in self._stages)

    @property
    def n_predictions(self) -> int:
        """Trained predictions of all rows."""
        return sum(stage.n_predictions for stage in self._stages)

    @property
    def padding_share(self) -> float:
        """The share of row positions that hold padding."""
        return 1 - self.n_tokens / (self.n_rows * self.row_length)

    def batch(self, step: int, size: int) -> Array:
        """The row numbers [size] of a step."""
        rows = np.empty(size, dtype=np.int64)
        for place, index in enumerate(range(step * size, (step + 1) * size)):
            stage = int(np.searchsorted(self._begins[1:-1], index, side="right"))
            n = self._stages[stage].n_rows
            epoch, inside = divmod(index - int(self._begins[stage]), n)
            rows[place] = self._firsts[stage] + permutation(n, self._seed, epoch)[inside]
        return rows

    def weights(self, rows: Array) -> Array:
        """The number of trained predictions of each row [R]."""
        weights = np.empty(len(rows), dtype=np.int64)
        for here, stage, local in self._by_stage(rows):
            weights[here] = stage.weights(local)
        return weights

    def rows(self, rows: Array) -> RowBatch:
        """Read rows by number."""
        parts = [(here, stage.rows(local)) for here, stage, local in self._by_stage(rows)]
        if len(parts) == 1:
            return parts[0][1]
        shape = (len(rows), self.row_length)
        tokens, labels, positions, documents = (np.empty(shape, dtype=np.int64) for _ in range(4))
        for here, part in parts:
            tokens[here], labels[here] = part.tokens_RT, part.labels_RT
            positions[here], documents[here] = part.positions_RT, _documents(part)
        return RowBatch(tokens, labels, positions, documents)

    def _by_stage(self, rows: Array) -> list[tuple[Array, PackedRows, Array]]:
        """For each stage that occurs: the places in `rows`, the stage, the row numbers in it."""
        stage_of = np.searchsorted(self._firsts[1:], rows, side="right")
        return [
            (here, self._stages[stage], rows[here] - self._firsts[stage])
            for stage in np.unique(stage_of)
            for here in [np.flatnonzero(stage_of == stage)]
        ]


def _documents(batch: RowBatch) -> Array:
    """Document numbers, also for rows with one document: 0, and -1 on the padding."""
    if batch.documents_RT is not None:
        return batch.documents_RT
    token = batch.positions_RT > 0
    token[:, 0] = True
    return np.where(token, 0, PADDING)
