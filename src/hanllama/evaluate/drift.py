"""Measure how far a model has moved from another, and its language.

KL is exact at every written token: it compares the whole distributions, not only the drawn tokens,
so a few hundred answers give a steady figure. Bits per byte do not depend on the tokenizer; each
document is scored alone, from its first token to its EOS.

Shapes: N tokens that count, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hanllama.model.llama import Llama
from hanllama.train.sequences import (
    SequenceBatch,
    TokenSequence,
    counted,
    log_probs,
    pack_sequences,
)

_BATCH = 16  # sequences at a time: their distributions are [N, V] in float32


@torch.inference_mode()
def kl_per_answer(model: Llama, other: Llama, answers: Sequence[TokenSequence]) -> float:
    """The mean over answers of KL(model || other), summed over each answer's tokens, in nats."""
    total = 0.0
    for batch in _batches(answers, model.output_weight().device):
        logs_NV = _log_distributions(model, batch)
        gap_NV = logs_NV - _log_distributions(other, batch)
        total += float((logs_NV.exp() * gap_NV).sum())
    return total / len(answers)


@torch.inference_mode()
def bits_per_byte(
    model: Llama, documents: Sequence[NDArray[np.integer]], token_bytes: NDArray[np.int32]
) -> float:
    """Bits per byte of documents, each cut at the end of the model's positions.

    Args:
        documents: ids from `Tokenizer.encode_documents`.
        token_bytes: [V] the number of UTF-8 bytes of each token.
    """
    most = model.config.max_position_embeddings + 1
    sequences = [TokenSequence(ids[:most], np.ones(ids[:most].size, np.bool_)) for ids in documents]
    n_bytes = sum(int(token_bytes[sequence.ids[1:]].sum()) for sequence in sequences)
    nats = 0.0
    for batch in _batches(sequences, model.output_weight().device):
        values_N, _ = log_probs(model, batch)
        nats -= float(values_N.sum())
    return nats / math.log(2) / n_bytes


def _batches(sequences: Sequence[TokenSequence], device: torch.device) -> Iterator[SequenceBatch]:
    for begin in range(0, len(sequences), _BATCH):
        yield pack_sequences(sequences[begin : begin + _BATCH], pad=0, device=device)


def _log_distributions(model: Llama, batch: SequenceBatch) -> Tensor:
    """[N, V] float32, at the positions whose next token counts."""
    hidden_ND, _, _ = counted(model, batch)
    return (hidden_ND @ model.output_weight().T).float().log_softmax(-1)
