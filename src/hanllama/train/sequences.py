"""Sequences of uneven length through a model, without paying for padding.

Preference pairs, answers to be scored and rollouts are sequences: a prompt, and an answer whose
tokens count. A batch of them is packed into rows as long as the longest (best fit), with attention
inside each sequence. The results are split by sequence again: the log-probabilities of the tokens
that count, and the last hidden state.

Shapes: S sequences, R rows of T tokens, N tokens that count, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hanllama.batches.mix import IGNORE, PADDING, pack
from hanllama.model.llama import Llama
from hanllama.model.losses import token_log_probs


@dataclass(frozen=True)
class TokenSequence:
    """A prompt and an answer as ids.

    Attributes:
        ids: int [tokens].
        mask: bool [tokens], true on the tokens that count (an answer's, with its end token). The
            first token is never predicted, so it never counts.
    """

    ids: NDArray[np.integer]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class SequenceBatch:
    """S sequences in R rows of T tokens, on a device.

    Attributes:
        tokens_RT, positions_RT: the inputs; positions count from 0 in each sequence.
        labels_RT: the token that each input should predict, if it counts, else -100.
        sequences_RT: the number 0 … S-1 of each token's sequence, -1 on padding.
        documents_RT: the same for attention; None when no row holds two sequences, since causal
            attention is then enough.
        last_S: the place of each sequence's last token in the flattened rows.
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
    """Pack sequences of at least one token into few rows, each as long as the longest."""
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


def counted(model: Llama, batch: SequenceBatch) -> tuple[Tensor, Tensor, Tensor]:
    """For every token that counts: the hidden state that predicts it, its id, its sequence.

    Returns: [N, D], differentiable, int64 [N] and int64 [N]. Tokens keep their order inside a
    sequence; sequences come in the order of the rows.
    """
    hidden_RTD = model.hidden(batch.tokens_RT, batch.positions_RT, batch.documents_RT)
    here = batch.labels_RT != IGNORE
    return hidden_RTD[here], batch.labels_RT[here], batch.sequences_RT[here]


def log_probs(
    model: Llama, batch: SequenceBatch, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The log-probability of every token that counts [N], float32, and its sequence [N]."""
    hidden_ND, labels_N, sequence_N = counted(model, batch)
    if temperature != 1:  # logits, never whole in memory, are linear in the hidden states
        hidden_ND = hidden_ND / temperature
    return token_log_probs(hidden_ND, model.output_weight(), labels_N), sequence_N


def sequence_log_probs(model: Llama, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Each sequence's log-probability, summed over the tokens that count, and their number.

    Returns: float32 [S], differentiable, and float32 [S].
    """
    values_N, sequence_N = log_probs(model, batch)
    zeros_S = values_N.new_zeros(batch.n_sequences)
    counts_S = zeros_S.index_add(0, sequence_N, torch.ones_like(values_N))
    return zeros_S.index_add(0, sequence_N, values_N), counts_S


def last_hidden(model: Llama, batch: SequenceBatch) -> Tensor:
    """The hidden state at each sequence's last token, [S, D]."""
    hidden_RTD = model.hidden(batch.tokens_RT, batch.positions_RT, batch.documents_RT)
    return hidden_RTD.reshape(-1, hidden_RTD.shape[-1])[batch.last_S]
