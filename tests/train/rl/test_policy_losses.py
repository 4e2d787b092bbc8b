"""The losses of PPO and GRPO against arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from hanllama.train.rl.policy_loss import (
    aggregation_weights,
    clipped_policy_loss,
    clipped_value_loss,
    sequence_log_ratio,
)


def close(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, tensor(expected), rtol=0, atol=1e-6)


def test_the_policy_loss_and_where_it_is_clipped() -> None:
    """Clip 0.8 to 1.2. r 1.5, A 2: min(3, 2.4), clipped. r 1.5, A -2: min(-3, -2.4), free.
    r 0.5, A 2: min(1, 1.6), free. r 0.5, A -2: min(-1, -1.6), clipped. r 1.1, A 2: 2.2, free."""
    ratios = tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = tensor([2.0, -2.0, 2.0, -2.0, 2.0])
    log_ratio = ratios.log().requires_grad_()
    loss, clipped = clipped_policy_loss(log_ratio, advantages, 0.2, 0.2)
    close(loss.detach(), [-2.4, 3.0, -1.0, 1.6, -2.2])
    assert clipped.tolist() == [True, False, False, True, False]
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert log_ratio.grad is not None
    close(log_ratio.grad, [0.0, 3.0, -1.0, 0.0, -2.2])


def test_the_upper_limit_may_be_higher() -> None:
    loss, clipped = clipped_policy_loss(tensor([math.log(1.25)]), tensor([1.0]), 0.2, 0.28)
    close(loss, [-1.25])
    assert not clipped.any()


def test_the_value_loss() -> None:
    """Old 1, clip 0.2. Now 1.1, return 2: (0.9^2)/2. Now 1.9, return 2: held at 1.2, (0.8^2)/2,
    not the smaller (0.1^2)/2. Now 1.9, return 0: free is larger, (1.9^2)/2."""
    now, old = tensor([1.1, 1.9, 1.9]), tensor([1.0, 1.0, 1.0])
    returns = tensor([2.0, 2.0, 0.0])
    close(clipped_value_loss(now, old, returns, 0.2), [0.405, 0.32, 1.805])
    close(clipped_value_loss(now, old, returns, 0.0), [0.405, 0.005, 1.805])


def test_an_answers_tokens_share_its_mean_log_ratio() -> None:
    found = sequence_log_ratio(tensor([0.1, 0.3, -0.6]), tensor([0, 0, 1]), tensor([2.0, 1.0]))
    close(found, [0.2, 0.2, -0.6])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        # Losses 1, 2, 3 of one answer and 5 of another; at most 10 tokens.
        ("grpo", (6 / 3 + 5) / 2),
        ("dapo", 11 / 4),
        ("bnpo", 11 / 4),
        ("dr_grpo", 11 / 20),
        ("luspo", 11 / 2),
    ],
)
def test_aggregations(aggregation: str, expected: float) -> None:
    lengths, answer_of = tensor([3.0, 1.0]), tensor([0, 0, 0, 1])
    token, divisor = aggregation_weights(aggregation, lengths, 10)  # type: ignore[arg-type]
    total = (tensor([1.0, 2.0, 3.0, 5.0]) * token[answer_of]).sum()
    assert float(total / divisor.sum()) == pytest.approx(expected)
