"""Packing: every prediction once, rows nearly full, documents apart, the same on any machine."""

from __future__ import annotations

import numpy as np
import pytest

from hanllama.base.errors import InputError
from hanllama.batches.mix import (
    IGNORE,
    PADDING,
    Array,
    PackedRows,
    TokenSource,
    pack,
    permutation,
    splitmix64,
)


class Counting(TokenSource):
    """A split whose token at offset i is i, so that a label must be its token plus one."""

    def __init__(self, lengths: list[int]) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def document_starts(self) -> Array:
        return self._starts

    def copy_into(self, out: Array, positions: Array, starts: Array, lengths: Array) -> None:
        for at, start, n in zip(positions, starts, lengths, strict=True):
            out[at : at + n] = np.arange(start, start + n)


def lengths(count: int, longest: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(1, longest, count).tolist()


@pytest.mark.parametrize("longest", [10, 40, 200])
def test_every_prediction_once_and_none_across_documents(longest: int) -> None:
    split = Counting(lengths(200, longest))
    rows = PackedRows(split, row_length=32, seed=0, pad=7)
    batch = rows.rows(np.arange(rows.n_rows))
    trained = batch.labels_RT != IGNORE
    assert (batch.labels_RT[trained] == batch.tokens_RT[trained] + 1).all()
    starts = split.document_starts()
    expected = set(range(int(starts[-1]))) - set(starts[:-1].tolist())
    assert sorted(batch.labels_RT[trained].tolist()) == sorted(expected)
    assert (rows.weights(np.arange(rows.n_rows)) == trained.sum(1)).all()
    assert rows.n_predictions == trained.sum()


def test_positions_and_documents_of_a_packed_row() -> None:
    rows = PackedRows(Counting([4, 3, 6]), row_length=8, seed=0, pad=99)
    batch = rows.rows(np.arange(rows.n_rows))
    assert batch.documents_RT is not None
    by_row = {tuple(r) for r in batch.documents_RT.tolist()}
    assert by_row == {(0, 0, 0, 1, 1, 1, 1, 1), (0, 0, *[PADDING] * 6)}
    first = batch.documents_RT[:, 7] == 1
    assert batch.positions_RT[first].tolist() == [[0, 1, 2, 0, 1, 2, 3, 4]]
    assert batch.tokens_RT[~first, 2:].tolist() == [[99] * 6]


def test_one_window_a_row_needs_no_document_numbers() -> None:
    rows = PackedRows(Counting([33, 65]), row_length=32, seed=0, pad=0)
    assert rows.n_rows == 3
    assert rows.rows(np.arange(3)).documents_RT is None


def test_packing_is_tight_and_never_overfull() -> None:
    pieces = np.array(lengths(20_000, 513, seed=3))
    row_of = pack(pieces, 512)
    filled = np.bincount(row_of, weights=pieces)
    assert filled.max() <= 512
    assert len(filled) * 512 <= 1.004 * pieces.sum() + 512
    assert pack(pieces, 512).tolist() == row_of.tolist()


def test_packing_by_hand() -> None:
    """6 5 4 3 2 into 10: the 4 goes to the 6, the 3 and the 2 to the 5."""
    row_of = pack(np.array([6, 5, 4, 3, 2]), 10)
    assert row_of[0] == row_of[2] and row_of[1] == row_of[3] == row_of[4]


def test_order_is_a_permutation_that_differs_by_epoch_and_seed() -> None:
    a, b, c = permutation(1000, 0, 0), permutation(1000, 0, 1), permutation(1000, 1, 0)
    assert sorted(a.tolist()) == list(range(1000))
    assert (a != b).mean() > 0.9 and (a != c).mean() > 0.9


def test_the_hash_is_splitmix64() -> None:
    """The generator's published first output for seed 0."""
    assert int(splitmix64(np.array([0], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF


def test_batches_follow_on_over_the_end_of_an_epoch() -> None:
    rows = PackedRows(Counting(lengths(50, 40)), row_length=32, seed=5, pad=0)
    flat = np.concatenate([rows.batch(step, 7) for step in range(rows.n_rows)])
    for epoch in range(7):
        part = flat[epoch * rows.n_rows : (epoch + 1) * rows.n_rows]
        assert sorted(part.tolist()) == list(range(rows.n_rows))


def test_nothing_to_predict_is_refused() -> None:
    with pytest.raises(InputError, match="two tokens"):
        PackedRows(Counting([1, 1, 1]), row_length=8, seed=0, pad=0)


class Masked(Counting):
    """Trains every third token only."""

    masked = True  # type: ignore[assignment]

    def trained_at(self, tokens: Array) -> Array:
        return tokens % 3 == 0


def test_masked_rows_train_and_weigh_only_what_the_mask_names() -> None:
    split = Masked([5, 2, 90, 31, 2, 17, 4])
    rows = PackedRows(split, row_length=16, seed=0, pad=7)
    batch = rows.rows(np.arange(rows.n_rows))
    trained = batch.labels_RT[batch.labels_RT != IGNORE]
    starts = split.document_starts()
    expected = {t for t in range(int(starts[-1])) if t % 3 == 0} - set(starts[:-1].tolist())
    assert sorted(trained.tolist()) == sorted(expected)
    assert (rows.weights(np.arange(rows.n_rows)) == (batch.labels_RT != IGNORE).sum(1)).all()
    assert rows.n_predictions == len(expected)


def test_a_window_without_a_trained_token_is_left_out() -> None:
    class First(Counting):
        masked = True  # type: ignore[assignment]

        def trained_at(self, tokens: Array) -> Array:
            return tokens < 4

    rows = PackedRows(First([6, 6, 6]), row_length=8, seed=0, pad=0)
    assert rows.n_tokens == 5  # of the first document; the others train nothing
    assert rows.n_predictions == 3
