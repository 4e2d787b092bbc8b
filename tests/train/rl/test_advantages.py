"""Advantages, whitening and KL control against tables worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from hanllama.train.parallel import World
from hanllama.train.rl.advantages import (
    adapted_kl_coefficient,
    gae,
    group_advantages,
    kl_estimate,
    token_rewards,
    whiten,
)

ALONE = World()


def close(found: torch.Tensor, expected: list[float] | list[list[float]]) -> None:
    torch.testing.assert_close(found, tensor(expected, dtype=found.dtype), rtol=0, atol=1e-6)


def test_gae_equals_the_table_worked_by_hand() -> None:
    """gamma 0.9, lambda 0.8; the first answer has three tokens, the second one.

    t   r   V    delta                      A                            return
    2   1   0.6  1 - 0.6          =  0.4    0.4                          1.0
    1   0   0.4  0.9 x 0.6 - 0.4  =  0.14   0.14 + 0.72 x 0.4  = 0.428   0.828
    0   0   0.5  0.9 x 0.4 - 0.5  = -0.14  -0.14 + 0.72 x 0.428 = 0.16816  0.66816
    0  -1   0.25 -1 - 0.25        = -1.25  -1.25                        -1.0
    """
    rewards = tensor([[0.0, 0.0, 1.0], [-1.0, 7.0, 7.0]])
    values = tensor([[0.5, 0.4, 0.6], [0.25, 9.0, 9.0]])  # 7 and 9: beyond the end, never seen
    advantages, returns = gae(rewards, values, tensor([3, 1]), 0.9, 0.8)
    close(advantages, [[0.16816, 0.428, 0.4], [-1.25, 0.0, 0.0]])
    close(returns, [[0.66816, 0.828, 1.0], [-1.0, 0.0, 0.0]])


def test_gae_with_lambda_1_is_the_reward_to_come_less_the_value() -> None:
    generator = torch.Generator().manual_seed(3)
    rewards, values = torch.randn(2, 4, 6, generator=generator)
    lengths = tensor([6, 3, 1, 5])
    advantages, returns = gae(rewards, values, lengths, 0.95, 1.0)
    for a, length in enumerate(lengths.tolist()):
        for t in range(length):
            to_come = sum(0.95 ** (s - t) * float(rewards[a, s]) for s in range(t, length))
            assert float(returns[a, t]) == pytest.approx(to_come, abs=1e-5)
            assert float(advantages[a, t]) == pytest.approx(to_come - float(values[a, t]), abs=1e-5)


def test_gae_with_lambda_0_is_one_step_of_temporal_difference() -> None:
    advantages, _ = gae(tensor([[0.0, 2.0]]), tensor([[1.0, 4.0]]), tensor([2]), 0.5, 0.0)
    close(advantages, [[0.5 * 4 - 1, 2 - 4]])


def test_the_score_comes_at_the_last_token_and_every_token_pays_for_its_kl() -> None:
    kl = tensor([[0.5, -0.25, 0.0], [1.0, 100.0, 100.0]])
    rewards = token_rewards(kl, tensor([2.0, -1.0]), tensor([3, 1]), 0.2)
    close(rewards, [[-0.1, 0.05, 2.0], [-1.2, 0.0, 0.0]])


def test_kl_estimates() -> None:
    """p = 0.5, q = 0.25: k1 = log 2; k3 = (1/2 - 1) + log 2. Where p = q both are 0."""
    ours, reference = tensor([0.5, 0.25]).log(), tensor([0.25, 0.25]).log()
    close(kl_estimate(ours, reference, "k1"), [math.log(2), 0.0])
    close(kl_estimate(ours, reference, "k3"), [math.log(2) - 0.5, 0.0])


def test_both_kl_estimates_have_the_kl_as_their_mean() -> None:
    p, q = tensor([0.7, 0.2, 0.1]), tensor([0.3, 0.3, 0.4])
    exact = float((p * (p / q).log()).sum())
    for estimator in ("k1", "k3"):
        mean = float((p * kl_estimate(p.log(), q.log(), estimator)).sum())  # type: ignore[arg-type]
        assert mean == pytest.approx(exact, abs=1e-6)


def test_whitening_equals_the_numbers_worked_by_hand() -> None:
    """1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14, variance 14/3."""
    scale = math.sqrt(14 / 3 + 1e-8)
    close(whiten(tensor([1.0, 2.0, 3.0, 6.0]), ALONE), [-2 / scale, -1 / scale, 0.0, 3 / scale])


def test_whitening_of_equal_values_is_zero() -> None:
    close(whiten(tensor([0.3, 0.3, 0.3]), ALONE), [0.0, 0.0, 0.0])


def test_group_advantages_equal_the_numbers_worked_by_hand() -> None:
    """Scores 1, 3 | 2, 2 | 0, 4: group means 2, 2, 2; group deviations sqrt 2, 0, sqrt 8;
    all scores: squares 1+1+0+0+4+4 = 10, deviation sqrt(10/5)."""
    scores = tensor([1.0, 3.0, 2.0, 2.0, 0.0, 4.0])
    a, b, c = math.sqrt(2) + 1e-4, math.sqrt(8) + 1e-4, math.sqrt(2) + 1e-4
    group = [-1 / a, 1 / a, 0.0, 0.0, -2 / b, 2 / b]
    close(group_advantages(scores, 2, "group", ALONE), group)
    batch = [-1 / c, 1 / c, 0.0, 0.0, -2 / c, 2 / c]
    close(group_advantages(scores, 2, "batch", ALONE), batch)
    close(group_advantages(scores, 2, "none", ALONE), [-1.0, 1.0, 0.0, 0.0, -2.0, 2.0])


def test_the_kl_coefficient_follows_the_target_and_never_by_more_than_a_fifth() -> None:
    assert adapted_kl_coefficient(0.2, 6.0, 6.0, 10_000, 256) == pytest.approx(0.2)
    # 10 % above the target: 1 + 0.1 x 256/10000.
    assert adapted_kl_coefficient(0.2, 6.6, 6.0, 10_000, 256) == pytest.approx(0.2 * 1.00256)
    assert adapted_kl_coefficient(0.2, 600.0, 6.0, 10_000, 256) == pytest.approx(0.2 * 1.00512)
    assert adapted_kl_coefficient(0.2, 0.0, 6.0, 10_000, 256) == pytest.approx(0.2 * 0.99488)
