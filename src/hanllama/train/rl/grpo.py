"""GRPO: reinforcement learning without a value model: answers to one prompt are compared.

`hanllama grpo` lets a chat model answer each prompt `group_size` times, scores the answers with
rules, a reward model, or both, and makes the answers above their group's mean likelier (Shao et al.
2024, arXiv:2402.03300). The KL to the model before training is part of the loss (k3), not of the
reward. The variants of later papers are options, with TRL's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hanllama.model.llama import Llama
from hanllama.train.command import training
from hanllama.train.rl.advantages import group_advantages, kl_estimate
from hanllama.train.rl.command import open_policy
from hanllama.train.rl.config import GrpoConfig
from hanllama.train.rl.experience import Experience, Learnable, LearnsFromAnswers, Setting
from hanllama.train.rl.policy_loss import (
    aggregation_weights,
    clipped_policy_loss,
    sequence_log_ratio,
)
from hanllama.train.rl.rollouts import Rollout, together
from hanllama.train.sequences import log_probs


class Grpo(LearnsFromAnswers):
    """GRPO's objective; `aggregation` gives the weight of a token (`policy_loss.py`)."""

    name = "grpo"
    names = ("policy_loss", "clipped", "kl_of_tokens")

    def __init__(self, model: Llama, setting: Setting, config: GrpoConfig) -> None:
        super().__init__(model, setting, config)
        self.config = config
        self._advantages_A = torch.zeros(0)
        self._scale = 1.0

    def weigh(self, experience: Experience) -> None:
        """Set each answer's advantage over its group."""
        size, world = self.group_size, self.world
        scores_A = experience.scores_A
        self._advantages_A = group_advantages(scores_A, size, self.config.scale_rewards, world).to(
            self.device
        )
        groups_GS = scores_A.view(-1, size)
        flat = (groups_GS.amax(1) - groups_GS.amin(1) < 1e-6).sum()
        same, groups = world.sum([float(flat), float(len(groups_GS))], self.device)
        experience.figures["groups_without_signal"] = same / groups

    def begin_step(self, rollouts: Sequence[Rollout]) -> None:
        """Set the scale of the loss: the loop divides by the step's tokens, but `aggregation` may
        need another divisor."""
        divisor = float(self._weights(rollouts)[1].sum())
        own_tokens = float(sum(len(r.answer_ids) for r in rollouts))
        tokens, total = self.world.sum([own_tokens, divisor], self.device)
        self._scale = tokens / total

    def _weights(self, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
        lengths_A = torch.tensor([float(len(r.answer_ids)) for r in rollouts])
        limit = self.rollout.max_new_tokens
        return aggregation_weights(self.config.aggregation, lengths_A, limit)

    def loss_of(self, learnable: Learnable) -> Tensor:
        """The weighted sum over the answers' tokens of policy loss and KL."""
        experience, config = self.experience, self.config
        log_probs_N, sequence_N = log_probs(self.model, learnable.batch, self.rollout.temperature)
        old_N = together(learnable.pick(experience.log_probs), sequence_N)
        log_ratio_N = log_probs_N - old_N
        token_A = self._weights([experience.rollouts[i] for i in learnable.answers])[0]
        if config.ratio == "answer":
            lengths_A = torch.bincount(sequence_N).to(log_ratio_N.dtype)
            log_ratio_N = sequence_log_ratio(log_ratio_N, sequence_N, lengths_A)
        advantages_N = self._advantages_A[learnable.answers][sequence_N]
        loss_N, clipped_N = clipped_policy_loss(
            log_ratio_N, advantages_N, config.clip_low, config.clip_high
        )
        self.figures.add("policy_loss", loss_N)
        self.figures.add("clipped", clipped_N.float())
        if config.kl_coefficient and experience.reference is not None:
            reference_N = together(learnable.pick(experience.reference), sequence_N)
            kl_N = kl_estimate(log_probs_N, reference_N, "k3")
            if config.kl_correction:
                kl_N = kl_N * log_ratio_N.exp()
            self.figures.add("kl_of_tokens", kl_N)
            loss_N = loss_N + config.kl_coefficient * kl_N
        return self._scale * (loss_N * token_A.to(self.device)[sequence_N]).sum()


def grpo(config: GrpoConfig) -> None:
    """Run `hanllama grpo`: begin, resume, or report that the run is complete."""
    with training(config, config.loop) as session:
        opened = open_policy(config, session)
        config = replace(config, loop=opened.loop)
        opened.train(Grpo(opened.model, opened.setting, config), session, config)
