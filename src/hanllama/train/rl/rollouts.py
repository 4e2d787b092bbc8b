"""A policy's answers, with the log-probabilities and values of their tokens.

The batched decoder writes the answers. Log-probabilities and values are then computed for whole
answers, packed (`sequences.py`), by the function that the loss uses. So an answer's probability
ratio is 1 before the first update, up to rounding; with `lora.dropout` near 1, since only the loss
drops inputs. Answers are drawn from the whole distribution: with top-k or top-p they would come
from another policy than the trained one.

Shapes: A answers, N tokens of all answers end to end, n tokens of one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hanllama.model.batches import FittingBatches
from hanllama.model.decode import generate_tokens
from hanllama.model.llama import Llama
from hanllama.model.reward import RewardModel
from hanllama.model.sampling import Sampling
from hanllama.train.rl.config import RolloutConfig
from hanllama.train.sequences import (
    SequenceBatch,
    TokenSequence,
    counted,
    last_hidden,
    log_probs,
    pack_sequences,
)


@dataclass(frozen=True)
class Rollout:
    """One answer.

    Attributes:
        prompt: the number of its prompt among those given to `roll_out`.
        sequence: prompt and answer; the answer's tokens count, its end token included.
        answer_ids: the answer's tokens.
        complete: the model ended the answer; false where the token limit cut it.
    """

    prompt: int
    sequence: TokenSequence
    answer_ids: list[int]
    complete: bool


def roll_out(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    config: RolloutConfig,
    end_ids: Sequence[int],
    *,
    streams: Sequence[int],
    seed: int,
    vocab_size: int,
    batches: FittingBatches | None = None,
) -> list[Rollout]:
    """Write an answer to each prompt (token ids), in order.

    Args:
        end_ids: tokens that end an answer.
        streams: each answer's random stream, so that it does not depend on its batch.
        vocab_size: the tokenizer's; the model may have more rows.
        batches: writes the answers in batches; None for the config's batch size.
    """
    batches = batches or FittingBatches(config.batch, "rollout.batch")
    sampling = Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=0,
        top_p=1.0,
        seed=seed,
    )

    def write(rows: Sequence[int]) -> list[Rollout]:
        answers = generate_tokens(
            model,
            [prompts[row] for row in rows],
            sampling,
            end_ids,
            streams=[streams[row] for row in rows],
            vocab_size=vocab_size,
        )
        return [
            Rollout(row, _sequence(prompts[row], answer), answer, answer[-1] in end_ids)
            for row, answer in zip(rows, answers, strict=True)
        ]

    # Sorted by length, because a batch is as wide as its longest prompt.
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    written = [rollout for part in batches(order, write) for rollout in part]
    return sorted(written, key=lambda rollout: rollout.prompt)


def _sequence(prompt: Sequence[int], answer: Sequence[int]) -> TokenSequence:
    mask = np.zeros(len(prompt) + len(answer), dtype=np.bool_)
    mask[len(prompt) :] = True
    return TokenSequence(np.array([*prompt, *answer], dtype=np.int64), mask)


def answer_values(model: RewardModel, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """The value of the state in which each answer token was chosen [N], and its sequence [N]."""
    hidden_ND, _, sequence_N = counted(model, batch)
    return model.scores(hidden_ND), sequence_N


@torch.no_grad()
def log_probs_of(
    model: Llama, rollouts: Sequence[Rollout], *, size: int, pad: int, temperature: float
) -> list[Tensor]:
    """The log-probabilities of each answer's tokens, [n] each; `size` answers at a time."""
    found: list[Tensor] = []
    for batch in _batches(rollouts, size, pad, model.output_weight().device):
        found += apart(*log_probs(model, batch, temperature), batch.n_sequences)
    return found


@torch.no_grad()
def values_of(
    model: RewardModel, rollouts: Sequence[Rollout], *, size: int, pad: int
) -> list[Tensor]:
    """The values of each answer's states, [n] each."""
    found: list[Tensor] = []
    for batch in _batches(rollouts, size, pad, model.score.weight.device):
        found += apart(*answer_values(model, batch), batch.n_sequences)
    return found


@torch.no_grad()
def scores_of(model: RewardModel, rollouts: Sequence[Rollout], *, size: int, pad: int) -> Tensor:
    """The reward model's score of each prompt with its answer, [A]."""
    found = []
    for batch in _batches(rollouts, size, pad, model.score.weight.device):
        found.append(model.scores(last_hidden(model, batch)))
    return torch.cat(found) if found else torch.zeros(0)


def apart(values_N: Tensor, sequence_N: Tensor, n_sequences: int) -> list[Tensor]:
    """Split the values of packed tokens by sequence; inside one they keep their order."""
    order = torch.argsort(sequence_N, stable=True)
    counts = torch.bincount(sequence_N, minlength=n_sequences)
    return list(torch.split(values_N[order], counts.tolist()))


def together(values: Sequence[Tensor], sequence_N: Tensor) -> Tensor:
    """Undo `apart`: the values in the order of the packed tokens."""
    order = torch.argsort(sequence_N, stable=True)
    packed_N = torch.cat(list(values))
    return torch.empty_like(packed_N).index_copy(0, order, packed_N)


def _batches(
    rollouts: Sequence[Rollout], size: int, pad: int, device: torch.device
) -> list[SequenceBatch]:
    return [
        pack_sequences([r.sequence for r in rollouts[start : start + size]], pad, device)
        for start in range(0, len(rollouts), size)
    ]
