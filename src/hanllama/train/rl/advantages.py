"""From scores to advantages, as pure functions of tensors.

PPO spreads the score of a whole answer over its tokens with a value model (generalised advantage
estimation) and subtracts the KL to the reference model from the reward. GRPO compares the answers
to one prompt with each other. Each function is tested against a table worked by hand.

Shapes: A answers, T tokens of the longest answer, N tokens of all answers end to end.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from hanllama.train.parallel import World

KLEstimator = Literal["k1", "k3"]
# Added to a standard deviation of rewards, as in TRL, so that results can be compared.
_EPSILON = 1e-4


def kl_estimate(log_probs_N: Tensor, reference_N: Tensor, estimator: KLEstimator) -> Tensor:
    """An estimate of KL(policy || reference) at each sampled token, in nats.

    k1 is log p - log q: unbiased, and often negative. k3 is (q/p - 1) - log(q/p): unbiased, never
    negative and less noisy (Schulman 2020, joschu.net/blog/kl-approx.html).
    """
    log_ratio_N = reference_N - log_probs_N
    return -log_ratio_N if estimator == "k1" else torch.expm1(log_ratio_N) - log_ratio_N


def token_rewards(kl_AT: Tensor, scores_A: Tensor, lengths_A: Tensor, coefficient: float) -> Tensor:
    """InstructGPT's reward of each token [A, T]: minus `coefficient` times its KL, and the answer's
    score at the last one (Ouyang et al. 2022, arXiv:2203.02155).

    Args:
        kl_AT: the KL estimate of each token; places beyond an answer's end are ignored.
        lengths_A: tokens of each answer, at least 1.
    """
    rewards_AT = -coefficient * kl_AT
    rewards_AT = rewards_AT.masked_fill(~within(lengths_A, kl_AT.shape[1]), 0.0)
    last_A1 = (lengths_A - 1)[:, None]
    return rewards_AT.scatter_add(1, last_A1, scores_A[:, None].to(rewards_AT.dtype))


def gae(
    rewards_AT: Tensor, values_AT: Tensor, lengths_A: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns [A, T] by generalised advantage estimation (Schulman et al. 2016,
    arXiv:1506.02438).

    delta_t = r_t + gamma V_(t+1) - V_t, A_t = delta_t + gamma lam A_(t+1), return = A_t + V_t.
    After an answer's last token V and A are 0, whether the model ended the answer or the limit did,
    and so are both results.

    Args:
        values_AT: the value of the state in which each token was chosen.
        lengths_A: tokens of each answer.
    """
    width = rewards_AT.shape[1]
    inside_AT = within(lengths_A, width)
    rewards_AT = rewards_AT.masked_fill(~inside_AT, 0.0)
    values_AT = values_AT.masked_fill(~inside_AT, 0.0)
    advantages_AT = torch.zeros_like(values_AT)
    next_value_A = next_advantage_A = torch.zeros_like(values_AT[:, 0])
    for t in reversed(range(width)):
        delta_A = rewards_AT[:, t] + gamma * next_value_A - values_AT[:, t]
        # Zero beyond the end, so that nothing follows an answer's last token.
        next_advantage_A = (delta_A + gamma * lam * next_advantage_A) * inside_AT[:, t]
        advantages_AT[:, t] = next_advantage_A
        next_value_A = values_AT[:, t]
    return advantages_AT, advantages_AT + values_AT


def whiten(values_N: Tensor, world: World) -> Tensor:
    """The values shifted and scaled to mean 0 and variance 1 over all processes.

    The variance is unbiased, plus 1e-8, as in TRL's PPO. In float64, so that the result does not
    depend on the number of processes.
    """
    mean, variance = _moments(values_N, world)
    whitened_N = (values_N.double() - mean) / math.sqrt(variance + 1e-8)
    return whitened_N.to(values_N.dtype)


def group_advantages(
    scores_A: Tensor, group_size: int, scale: Literal["group", "batch", "none"], world: World
) -> Tensor:
    """GRPO's advantages [A]: each score less its group's mean (Shao et al. 2024, arXiv:2402.03300).

    Args:
        scores_A: the scores of `group_size` answers to a prompt, then those to the next one.
        scale: divide by the standard deviation of the group (GRPO), of all scores of all processes
            (Hu et al. 2025, REINFORCE++), or not at all (Liu et al. 2025, Dr. GRPO,
            arXiv:2503.20783: division favours prompts that are too easy or too hard).
    """
    groups_GS = scores_A.double().view(-1, group_size)
    centred_GS = groups_GS - groups_GS.mean(1, keepdim=True)
    if scale == "group":
        centred_GS = centred_GS / (groups_GS.std(1, keepdim=True) + _EPSILON)
    elif scale == "batch":
        centred_GS = centred_GS / (math.sqrt(_moments(scores_A, world)[1]) + _EPSILON)
    return centred_GS.reshape(-1).to(scores_A.dtype)


def adapted_kl_coefficient(
    coefficient: float, kl: float, target: float, horizon: int, answers: int
) -> float:
    """The KL coefficient after `answers` answers whose mean KL was `kl` nats.

    It rises if the KL is above the target and falls if below, by at most a fifth of answers/horizon
    (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    Args:
        horizon: at least `answers`; below a fifth of them the coefficient could change its sign.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * answers / horizon)


def within(lengths_A: Tensor, width: int) -> Tensor:
    """Whether each place lies inside its answer, bool [A, width]."""
    return torch.arange(width, device=lengths_A.device)[None] < lengths_A[:, None]


def _moments(values_N: Tensor, world: World) -> tuple[float, float]:
    """Mean and unbiased variance over all processes."""
    exact_N, device = values_N.double(), values_N.device
    total, count = world.sum([float(exact_N.sum()), float(exact_N.numel())], device)
    mean = total / max(count, 1.0)
    (squares,) = world.sum([float((exact_N - mean).square().sum())], device)
    return mean, squares / max(count - 1, 1.0)
