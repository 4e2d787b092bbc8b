"""Sequences of uneven length through a model, without paying for padding.

Preference pairs, answers to be scored and rollouts are sequences, each with a prompt that is only
looked at and an answer whose tokens count. Here a batch of them is packed into rows as long as the
longest (best fit), attention kept apart by documents, and what comes out is taken apart again by
sequence: the log-probabilities of the tokens that count, and the last hidden state.

Shapes: S sequences, R rows of T tokens, N tokens that count, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hanllama.batches.mix import IGNORE, PADDING, pack
from hanllama.model.losses import token_log_probs

Hidden = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""tokens_RT, positions_RT, documents_RT -> hidden_RTD: `Llama.hidden`, or it compiled."""


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and an answer as ids.

    Attributes:
        ids: int [tokens].
        mask: bool [tokens], true on the tokens that count (an answer's, with its end token). The
            first token is predicted by nothing and never counts.
    """

    ids: NDArray[np.integer]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class SequenceBatch:
    """S sequences in R rows of T tokens, on a device.

    Attributes:
        tokens_RT, positions_RT: the inputs; positions count from 0 in each sequence.
        labels_RT: the token each input should predict where that counts, else -100.
        sequences_RT: the number 0 … S-1 of each token's sequence, -1 on padding.
        documents_RT: the same for attention; None where no row holds two sequences, since causal
            attention then suffices.
        last_S: where in the flattened rows each sequence's last token lies.
    """

    tokens_RT: Tensor
    positions_RT: Tensor
    labels_RT: Tensor
    sequences_RT: Tensor
    documents_RT: Tensor | None
    last_S: Tensor

    @property
    def n_sequences(self) -> int:
        return self.last_S.shape[0]


def pack_sequences(
    sequences: Sequence[TokenSequence], pad: int, device: torch.device | str = "cpu"
) -> SequenceBatch:
    """Pack sequences, each of one token at least, into as few rows as the longest allows."""
    lengths = np.array([s.ids.size for s in sequences], dtype=np.int64)
    width = int(lengths.max())
    row_of = pack(lengths, width)
    shape = (int(row_of.max()) + 1, width)
    tokens = np.full(shape, pad, dtype=np.int64)
    labels = np.full(shape, IGNORE, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    numbers = np.full(shape, PADDING, dtype=np.int64)
    last = np.zeros(len(sequences), dtype=np.int64)
    used = np.zeros(shape[0], dtype=np.int64)
    for number, (sequence, row) in enumerate(zip(sequences, row_of.tolist(), strict=True)):
        n, start = sequence.ids.size, int(used[row])
        here = slice(start, start + n)
        tokens[row, here] = sequence.ids
        positions[row, here] = np.arange(n)
        numbers[row, here] = number
        labels[row, start : start + n - 1] = np.where(sequence.mask, sequence.ids, IGNORE)[1:]
        last[number] = row * width + start + n - 1
        used[row] += n
    alone = shape[0] == len(sequences)
    arrays = [torch.from_numpy(a).to(device) for a in (tokens, positions, labels, numbers, last)]
    tokens_RT, positions_RT, labels_RT, sequences_RT, last_S = arrays
    documents_RT = None if alone else sequences_RT
    return SequenceBatch(tokens_RT, positions_RT, labels_RT, sequences_RT, documents_RT, last_S)


def log_probs(hidden: Hidden, weight_VD: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """The log-probability of every token that counts, and which sequence it belongs to.

    Returns: float32 [N], differentiable, and int64 [N]. Within a sequence the tokens keep their
    order; sequences come in the order of the rows.
    """
    hidden_RTD = hidden(batch.tokens_RT, batch.positions_RT, batch.documents_RT)
    return log_probs_of_hidden(hidden_RTD, weight_VD, batch)


def log_probs_of_hidden(
    hidden_RTD: Tensor, weight_VD: Tensor, batch: SequenceBatch
) -> tuple[Tensor, Tensor]:
    """`log_probs` of hidden states that are there already."""
    labels = batch.labels_RT.reshape(-1)
    counted = labels != IGNORE
    hidden_ND = hidden_RTD.reshape(-1, hidden_RTD.shape[-1])[counted]
    values_N = token_log_probs(hidden_ND, weight_VD, labels[counted])
    return values_N, batch.sequences_RT.reshape(-1)[counted]


def sum_by_sequence(values_N: Tensor, sequence_N: Tensor, n_sequences: int) -> Tensor:
    """The sum of each sequence's values, [S]."""
    return values_N.new_zeros(n_sequences).index_add(0, sequence_N, values_N)


def sequence_log_probs(
    hidden: Hidden, weight_VD: Tensor, batch: SequenceBatch
) -> tuple[Tensor, Tensor]:
    """Each sequence's log-probability, summed over the tokens that count, and their number.

    Returns: float32 [S], differentiable, and float32 [S].
    """
    values_N, sequence_N = log_probs(hidden, weight_VD, batch)
    sums_S = sum_by_sequence(values_N, sequence_N, batch.n_sequences)
    counts_S = sum_by_sequence(torch.ones_like(values_N), sequence_N, batch.n_sequences)
    return sums_S, counts_S


def last_hidden(hidden_RTD: Tensor, batch: SequenceBatch) -> Tensor:
    """The hidden state at each sequence's last token, [S, D]."""
    return hidden_RTD.reshape(-1, hidden_RTD.shape[-1])[batch.last_S]
