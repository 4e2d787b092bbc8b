"""Token shards -> training batches, as a pure function of (seed, step).

Every document is cut into windows of at most `row_length` predictions; shorter windows are packed
together, best fit first, so rows are full and no text is lost. The packing is a plan of (document
offset, length) pairs, computed once from the documents' lengths, and the order of the rows is a
keyed permutation per epoch. Nothing is a stream: batch 1,000 is the same whether it is asked for
first, last, or after a crash, and on any number of ranks.

A row has a position (from the start of its window) and a document number for each token, so that
attention stays inside a document. Where the split has a mask (conversations), a label that is not
trained is -100, and a row's weight is its number of trained labels.

Shapes: R rows, T tokens of a row, P windows (pieces), N tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hanllama.base.errors import InputError

Array = npt.NDArray[Any]
IGNORE = -100  # no loss on this label
PADDING = -1  # the document number of padding
_BLOCK_WINDOWS = 1 << 12


class TokenSource(Protocol):
    """The part of a split (`batches/shards.py`) that the packer uses."""

    def document_starts(self) -> Array: ...
    def copy_into(self, out: Array, positions: Array, starts: Array, lengths: Array) -> None: ...

    @property
    def masked(self) -> bool:
        """Whether only the tokens that `trained_at` names are trained."""
        return False

    def trained_at(self, tokens: Array) -> Array:
        """bool, of the shape of `tokens` (offsets in the split)."""
        return np.ones(tokens.shape, np.bool_)


@dataclass(frozen=True)
class RowBatch:
    """R packed rows of T tokens.

    tokens_RT: the inputs; padding is `pad`.
    labels_RT: the token each input should predict, already shifted; -100 where there is none.
    positions_RT: counted from 0 at the start of each window.
    documents_RT: the number of each token's window in the row, -1 for padding; None when no row of
        the whole split holds more than one window (causal attention is then enough).
    """

    tokens_RT: Array
    labels_RT: Array
    positions_RT: Array
    documents_RT: Array | None


class Rows(Protocol):
    """The training data, row by row: `PackedRows`, or several of them in stages."""

    n_rows: int
    row_length: int

    @property
    def n_tokens(self) -> int: ...
    @property
    def n_predictions(self) -> int: ...
    @property
    def padding_share(self) -> float: ...
    def batch(self, step: int, size: int) -> Array: ...
    def weights(self, rows: Array) -> Array: ...
    def rows(self, rows: Array) -> RowBatch: ...


class PackedRows:
    """The rows of a split, packed once, addressed by number."""

    def __init__(
        self,
        split: TokenSource,
        row_length: int,
        seed: int,
        pad: int,
        *,
        packing: bool = True,
    ) -> None:
        """
        Args:
            split: the documents; each ends with EOS and has at least two tokens.
            row_length: predictions (= input tokens) of a row, T.
            seed: the order of the rows.
            pad: the token that fills the unused end of a row.
            packing: put several windows into a row; if false, one window per row.

        Raises InputError when the split holds no document of at least two tokens.
        """
        self._split, self.row_length, self._seed, self._pad = split, row_length, seed, pad
        starts_D = split.document_starts()
        piece_starts, piece_lengths = _windows(starts_D, row_length)
        trained = piece_lengths
        if split.masked:
            trained = _trained(split, piece_starts, piece_lengths)
            # A window without a trained label would be computed for nothing.
            keep = trained > 0
            piece_starts, piece_lengths, trained = (
                a[keep] for a in (piece_starts, piece_lengths, trained)
            )
        if not len(piece_starts):
            raise InputError("the split holds no document of at least two tokens")
        alone = np.arange(len(piece_lengths))
        row_of_piece = pack(piece_lengths, row_length) if packing else alone
        order = np.argsort(row_of_piece, kind="stable")
        self._starts, self._lengths = piece_starts[order], piece_lengths[order]
        counts = np.bincount(row_of_piece)
        self._row_pieces = np.concatenate([[0], np.cumsum(counts)])
        self.n_rows = len(counts)
        self._multi = bool((counts > 1).any())
        self._weights = np.add.reduceat(trained[order], self._row_pieces[:-1])

    @property
    def n_tokens(self) -> int:
        """Input tokens of one epoch, trained or not, without padding."""
        return int(self._lengths.sum())

    @property
    def n_predictions(self) -> int:
        """Trained predictions of one epoch; without a mask, every token but the first of each
        document."""
        return int(self._weights.sum())

    @property
    def padding_share(self) -> float:
        """The share of row positions that hold padding."""
        return 1 - self.n_tokens / (self.n_rows * self.row_length)

    def batch(self, step: int, size: int) -> Array:
        """The row numbers [size] of a step: every row once per epoch, one epoch after another."""
        return rows_of_step(step, size, self.n_rows, self._seed)

    def weights(self, rows: Array) -> Array:
        """The number of trained predictions of each row [R], without reading the rows."""
        return self._weights[rows]

    def rows(self, rows: Array) -> RowBatch:
        """Read rows by number."""
        n_rows, length = len(rows), self.row_length
        firsts, lasts = self._row_pieces[rows], self._row_pieces[rows + 1]
        counts = lasts - firsts
        total = int(counts.sum())
        # The windows of all rows as one flat list: its entry i is window `pieces[i]`.
        pieces = np.repeat(firsts - np.cumsum(counts) + counts, counts) + np.arange(total)
        starts, lengths = self._starts[pieces], self._lengths[pieces]
        row_of = np.repeat(np.arange(n_rows), counts)
        ends_flat = np.cumsum(lengths)
        before_row = np.concatenate([[0], ends_flat])[np.cumsum(counts) - counts]
        places = row_of * length + (ends_flat - lengths) - before_row[row_of]

        tokens = np.full(n_rows * length, self._pad, dtype=np.int64)
        labels = np.full(n_rows * length, IGNORE, dtype=np.int64)
        self._split.copy_into(tokens, places, starts, lengths)
        self._split.copy_into(labels, places, starts + 1, lengths)

        positions = np.zeros(n_rows * length, dtype=np.int64)
        flat = np.repeat(places, lengths)
        offsets = np.arange(len(flat)) - np.repeat(ends_flat - lengths, lengths)
        positions[flat + offsets] = offsets
        if self._split.masked:
            targets = np.repeat(starts + 1, lengths) + offsets
            labels[(flat + offsets)[~self._split.trained_at(targets)]] = IGNORE
        documents: Array | None = None
        if self._multi:
            documents = np.full(n_rows * length, PADDING, dtype=np.int64)
            number = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
            documents[flat + offsets] = np.repeat(number, lengths)
            documents = documents.reshape(n_rows, length)
        shape = (n_rows, length)
        return RowBatch(
            tokens.reshape(shape), labels.reshape(shape), positions.reshape(shape), documents
        )


def pack(lengths_P: Array, capacity: int) -> Array:
    """Best-fit-decreasing bin packing: the row number of each piece [P].

    Each piece, longest first, goes into the fullest row that has room for it (Ding et al. 2024,
    "Fewer Truncations Improve Language Modeling", arXiv:2404.10830). Rows with equal room form a
    class, and pieces of equal length are placed together: the cost grows with the capacity, hardly
    with the number of pieces.
    """
    row_of_piece = np.empty(len(lengths_P), dtype=np.int64)
    by_length = np.argsort(-lengths_P, kind="stable")
    sorted_lengths = lengths_P[by_length]
    lengths, firsts = np.unique(-sorted_lengths, return_index=True)
    bounds = np.append(firsts, len(by_length))
    room: dict[int, list[Array]] = {}  # room left -> row numbers, in groups
    n_rows = 0
    for k, negative in enumerate(lengths):
        length = int(-negative)
        waiting = by_length[bounds[k] : bounds[k + 1]]
        while len(waiting):
            fitting = [r for r in room if r >= length]
            if not fitting:
                # No row has room: new rows, each with as many pieces of this length as fit.
                each = capacity // length
                fresh = -(-len(waiting) // each)
                row_of_piece[waiting] = n_rows + np.arange(len(waiting)) // each
                last = len(waiting) - (fresh - 1) * each
                if fresh > 1:
                    full = np.arange(n_rows, n_rows + fresh - 1)
                    room.setdefault(capacity - each * length, []).append(full)
                tail = np.array([n_rows + fresh - 1])
                room.setdefault(capacity - last * length, []).append(tail)
                n_rows += fresh
                break
            tightest = min(fitting)
            group = room[tightest].pop()
            if not room[tightest]:
                del room[tightest]
            used, group = group[: len(waiting)], group[len(waiting) :]
            if len(group):
                room.setdefault(tightest, []).append(group)
            row_of_piece[waiting[: len(used)]] = used
            room.setdefault(tightest - length, []).append(used)
            waiting = waiting[len(used) :]
        room.pop(0, None)
    return row_of_piece


def rows_of_step(step: int, size: int, n_rows: int, seed: int) -> Array:
    """The row numbers [size] of a step: every row once per epoch, one epoch after another."""
    indices = np.arange(step * size, (step + 1) * size, dtype=np.int64)
    rows = np.empty(size, dtype=np.int64)
    for epoch in np.unique(indices // n_rows):
        here = indices // n_rows == epoch
        rows[here] = permutation(n_rows, seed, int(epoch))[indices[here] % n_rows]
    return rows


@lru_cache(maxsize=4)
def permutation(n: int, seed: int, epoch: int) -> Array:
    """A permutation of range(n), the same on every machine and in every NumPy release.

    The numbers are sorted by a hash of (seed, epoch, number): NumPy guarantees its bit streams, but
    not the result of `Generator.permutation`.
    """
    salt = splitmix64(np.array([seed, epoch], dtype=np.uint64))
    keys = splitmix64(np.arange(n, dtype=np.uint64) ^ salt[0]) ^ salt[1]
    return np.argsort(splitmix64(keys), kind="stable")


def splitmix64(x: Array) -> Array:
    """The finaliser of SplitMix64 (Steele et al. 2014): a good 64-bit mixing function."""
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _windows(starts_D: Array, row_length: int) -> tuple[Array, Array]:
    """Cut documents into windows: (offset of the first input, number of predictions) of each.

    A document of n tokens holds n - 1 predictions. A window of m inputs reads m + 1 tokens, the
    last only as a label, so each prediction of a document is in exactly one window.
    """
    predictions = np.maximum(np.diff(starts_D) - 1, 0)
    counts = -(-predictions // row_length)
    document = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = starts_D[:-1][document] + number * row_length
    lengths = np.minimum(predictions[document] - number * row_length, row_length)
    return starts.astype(np.int64), lengths.astype(np.int64)


def _trained(split: TokenSource, starts: Array, lengths: Array) -> Array:
    """The number of trained labels of each window, [windows]; a block of windows at a time."""
    counts = np.empty(len(starts), dtype=np.int64)
    for begin in range(0, len(starts), _BLOCK_WINDOWS):
        n = lengths[begin : begin + _BLOCK_WINDOWS]
        ends = np.cumsum(n)
        labels = np.repeat(starts[begin : begin + _BLOCK_WINDOWS] + 1 - (ends - n), n)
        labels += np.arange(len(labels))
        trained = split.trained_at(labels).astype(np.int64)
        counts[begin : begin + _BLOCK_WINDOWS] = np.add.reduceat(trained, ends - n)
    return counts
