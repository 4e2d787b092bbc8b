"""Packed sequences give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig
from hanllama.train.sequences import (
    TokenSequence,
    last_hidden,
    log_probs,
    pack_sequences,
    sequence_log_probs,
)


@pytest.fixture(scope="module")
def model() -> Llama:
    config = LlamaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    return Llama(config, torch.Generator().manual_seed(0))


def sequences(lengths: list[int], seed: int = 0) -> list[TokenSequence]:
    rng = np.random.default_rng(seed)
    made = []
    for n in lengths:
        mask = np.arange(n) >= max(1, n // 2)
        made.append(TokenSequence(rng.integers(0, 61, n), mask))
    return made


@pytest.mark.parametrize("lengths", [[9], [7, 7], [20, 3, 5, 11, 2, 9, 20, 1]])
def test_a_packed_sequence_scores_as_it_does_alone(model: Llama, lengths: list[int]) -> None:
    batch = pack_sequences(sequences(lengths), pad=0)
    sums, counts = sequence_log_probs(model, batch)
    ends = last_hidden(model, batch)
    for number, sequence in enumerate(sequences(lengths)):
        ids = torch.from_numpy(sequence.ids)[None]
        logs = model(ids).log_softmax(-1)[0]
        expected = sum(
            (logs[t - 1, ids[0, t]] for t in range(1, ids.shape[1]) if sequence.mask[t]),
            torch.zeros(()),
        )
        assert counts[number] == sequence.mask[1:].sum()
        torch.testing.assert_close(sums[number], expected, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(ends[number], model.hidden(ids)[0, -1], atol=1e-4, rtol=1e-4)


def test_tokens_of_a_sequence_come_in_their_order(model: Llama) -> None:
    lengths = [6, 12, 4, 9]
    batch = pack_sequences(sequences(lengths), pad=0)
    values, owner = log_probs(model, batch)
    for number, sequence in enumerate(sequences(lengths)):
        alone, _ = log_probs(model, pack_sequences([sequence], 0))
        torch.testing.assert_close(values[owner == number], alone, atol=1e-4, rtol=1e-5)


def test_rows_are_full_where_lengths_allow_it() -> None:
    batch = pack_sequences(sequences([10, 5, 5, 4, 6]), pad=0)
    assert batch.tokens_RT.shape == (3, 10)
    assert (batch.sequences_RT >= 0).all()


def test_the_last_token_of_one_never_predicts_the_first_of_the_next() -> None:
    everything = [TokenSequence(np.arange(5), np.ones(5, np.bool_)) for _ in range(2)]
    wide = TokenSequence(np.arange(10), np.ones(10, np.bool_))
    batch = pack_sequences([*everything, wide], pad=0)
    assert int((batch.labels_RT >= 0).sum()) == 4 + 4 + 9
