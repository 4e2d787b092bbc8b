"""The losses of PPO and GRPO, token by token, as pure functions of log-probabilities.

`ppo.py` and `grpo.py` add these up; `tests/train/rl/test_policy_losses.py` works them by hand,
`tests/parity/test_rl_parity.py` compares them with TRL's.

Shapes: N tokens of all answers end to end, A answers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["grpo", "dapo", "bnpo", "dr_grpo", "luspo"]


def clipped_policy_loss(
    log_ratio_N: Tensor, advantages_N: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """The loss, and whether the clip removed the gradient, each [N].

    -min(r A, clip(r, 1 - low, 1 + high) A) with r = exp(log_ratio) (Schulman et al. 2017, PPO,
    arXiv:1707.06347, eq. 7; a higher upper limit: Yu et al. 2025, DAPO, arXiv:2503.14476).

    Args:
        log_ratio_N: the log-probability now, less that when the answer was written.
    """
    ratio_N = log_ratio_N.exp()
    free_N = -ratio_N * advantages_N
    held_N = -ratio_N.clamp(1 - low, 1 + high) * advantages_N
    return torch.maximum(free_N, held_N), held_N.detach() > free_N.detach()


def clipped_value_loss(
    values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, clip: float
) -> Tensor:
    """Half the squared error of the values [N], or of the values held within `clip` of the old
    ones, if that is larger (as in OpenAI's PPO; 0 never clips)."""
    error_N = (values_N - returns_N).square()
    if clip:
        held_N = torch.clamp(values_N, old_values_N - clip, old_values_N + clip)
        error_N = torch.maximum(error_N, (held_N - returns_N).square())
    return 0.5 * error_N


def sequence_log_ratio(log_ratio_N: Tensor, answer_of_N: Tensor, lengths_A: Tensor) -> Tensor:
    """The mean log ratio of each token's answer [N] (Zheng et al. 2025, GSPO, arXiv:2507.18071):
    one clip per answer instead of one per token."""
    sums_A = torch.zeros(len(lengths_A), dtype=log_ratio_N.dtype, device=log_ratio_N.device)
    means_A = sums_A.index_add(0, answer_of_N, log_ratio_N) / lengths_A
    return means_A[answer_of_N]


def aggregation_weights(
    aggregation: Aggregation, lengths_A: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """The weight of a token of each answer, and each answer's part of the divisor, both [A].

    | aggregation | weight of a token | divisor of the sum |
    | grpo    | 1 / length of its answer | answers (Shao et al. 2024, arXiv:2402.03300) |
    | dapo    | 1 | tokens of the step (Yu et al. 2025, arXiv:2503.14476) |
    | bnpo    | 1 | the same; in TRL, the tokens of a micro-batch |
    | dr_grpo | 1 | answers x `limit`, the most tokens of an answer (Liu et al. 2025) |
    | luspo   | 1 | answers |
    """
    one_A = torch.ones_like(lengths_A)
    token_A = 1 / lengths_A if aggregation == "grpo" else one_A
    if aggregation in ("dapo", "bnpo"):
        return token_A, lengths_A
    return token_A, one_A * limit if aggregation == "dr_grpo" else one_A
