"""PPO: reinforcement learning with a value model, as in InstructGPT.

`hanllama ppo` lets a chat model answer prompts, scores the answers with a reward model, rules, or
both, and makes the better ones likelier. A value model spreads an answer's score over its tokens
(GAE), the reward of each token is reduced by its KL to the model before training, and clipping
limits how far probability ratios and values move in an experience (Schulman et al. 2017,
arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hanllama.base import fs
from hanllama.model.checkpoint import save_model
from hanllama.model.llama import Llama
from hanllama.model.reward import RewardModel, is_reward_model, reward_model_from
from hanllama.train.command import training
from hanllama.train.rl.advantages import (
    adapted_kl_coefficient,
    gae,
    kl_estimate,
    token_rewards,
    whiten,
    within,
)
from hanllama.train.rl.command import Opened, check_reads_alike, open_policy
from hanllama.train.rl.config import PpoConfig
from hanllama.train.rl.experience import Experience, Learnable, LearnsFromAnswers, Setting
from hanllama.train.rl.policy_loss import clipped_policy_loss, clipped_value_loss
from hanllama.train.rl.rollouts import answer_values, together, values_of
from hanllama.train.sequences import log_probs

VALUE = "value"


class Ppo(LearnsFromAnswers):
    """PPO's objective: the sum of each token's policy loss and value loss."""

    name = "ppo"
    names = ("policy_loss", "value_loss", "clipped")

    def __init__(
        self, model: Llama, value_model: RewardModel, setting: Setting, config: PpoConfig
    ) -> None:
        """
        Args:
            model, value_model: on their device.
            config: with `loop.max_steps` set.
        """
        super().__init__(model, setting, config)
        self.value_model, self.config = value_model, config
        self.kl_coefficient = config.kl_coefficient
        self._values: list[Tensor] = []
        self._advantages: list[Tensor] = []
        self._returns: list[Tensor] = []

    def further_models(self) -> Mapping[str, nn.Module]:
        """The value model."""
        return {VALUE: self.value_model}

    def learning_rate_scales(self) -> Mapping[str, float]:
        """The value model's own learning rate, as a multiple of the policy's."""
        own = self.config.value_learning_rate
        return {VALUE: own / self.config.optim.learning_rate if own else 1.0}

    def weigh(self, experience: Experience) -> None:
        """Compute values, the rewards of tokens, advantages and returns."""
        config = self.config
        self._values = values_of(
            self.value_model,
            experience.rollouts,
            size=self.micro_batch_size,
            pad=self.setting.pad,
        )
        values_AT = pad_sequence(self._values, batch_first=True)
        lengths_A = torch.tensor([len(v) for v in self._values], device=self.device)
        kl_AT = torch.zeros_like(values_AT)
        if experience.reference is not None:
            pairs = zip(experience.log_probs, experience.reference, strict=True)
            kl = [kl_estimate(ours, its, config.kl_estimator) for ours, its in pairs]
            kl_AT = pad_sequence(kl, batch_first=True)
        scores_A = experience.scores_A.to(self.device)
        rewards_AT = token_rewards(kl_AT, scores_A, lengths_A, self.kl_coefficient)
        advantages_AT, returns_AT = gae(rewards_AT, values_AT, lengths_A, config.gamma, config.lam)
        inside_AT = within(lengths_A, values_AT.shape[1])
        advantages_N = advantages_AT[inside_AT]
        if config.whiten:
            advantages_N = whiten(advantages_N, self.world)
        lengths = lengths_A.tolist()
        self._advantages = list(torch.split(advantages_N, lengths))
        self._returns = list(torch.split(returns_AT[inside_AT], lengths))
        self._report(experience, returns_AT[inside_AT], values_AT[inside_AT])

    def _report(self, experience: Experience, returns_N: Tensor, values_N: Tensor) -> None:
        """Add PPO's figures, and adapt the KL coefficient to its target."""
        figures = experience.figures
        error_N = (returns_N - values_N).double()
        sums = [
            float(len(error_N)),
            float(error_N.sum()),
            float(error_N.square().sum()),
            float(returns_N.double().sum()),
            float(returns_N.double().square().sum()),
        ]
        n, error, squares, total, total_squares = self.world.sum(sums, self.device)
        spread = total_squares / n - (total / n) ** 2
        unexplained = squares / n - (error / n) ** 2
        figures["value_explained"] = 1 - unexplained / spread if spread > 0 else 0.0
        figures["kl_coefficient"] = self.kl_coefficient
        if self.config.kl_target and "kl" in figures:
            self.kl_coefficient = adapted_kl_coefficient(
                self.kl_coefficient,
                figures["kl"],
                self.config.kl_target,
                self.config.kl_horizon,
                self.answers,
            )

    def loss_of(self, learnable: Learnable) -> Tensor:
        """The sum of the policy loss and the weighted value loss over the answers' tokens."""
        batch, config = learnable.batch, self.config
        log_probs_N, sequence_N = log_probs(self.model, batch, self.rollout.temperature)

        def now(values: Sequence[Tensor]) -> Tensor:
            return together(learnable.pick(values), sequence_N)

        log_ratio_N = log_probs_N - now(self.experience.log_probs)
        policy_N, clipped_N = clipped_policy_loss(
            log_ratio_N, now(self._advantages), config.clip, config.clip
        )
        value_N = clipped_value_loss(
            answer_values(self.value_model, batch)[0],
            now(self._values),
            now(self._returns),
            config.value_clip,
        )
        self.figures.add("policy_loss", policy_N)
        self.figures.add("value_loss", value_N)
        self.figures.add("clipped", clipped_N.float())
        return policy_N.sum() + config.value_weight * value_N.sum()

    def state(self) -> Mapping[str, Any]:
        """The KL coefficient of the next experience, and the state of the alarms."""
        return {**super().state(), "kl_coefficient": self.kl_coefficient}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        super().restore(state)
        self.kl_coefficient = float(state["kl_coefficient"])


def ppo(config: PpoConfig) -> None:
    """Run `hanllama ppo`: begin, resume, or report that the run is complete."""
    with training(config, config.loop) as session:
        opened = open_policy(config, session)
        value_model = _value_model(config, opened)
        session.adopt(value_model)
        config = replace(config, loop=opened.loop)
        opened.train(Ppo(opened.model, value_model, opened.setting, config), session, config)
        if session.run is not None:
            folder = session.output / VALUE
            with fs.publish(folder, replace=True) as beside:
                save_model(beside, value_model, opened.tokenizer.folder, opened.card)
            print(f"value model: {folder}")


def _value_model(config: PpoConfig, opened: Opened) -> RewardModel:
    """The value model at the beginning; a new head gives 0 for everything, so that the first
    advantages come from the rewards alone."""
    folder = config.value_model or config.reward.model or config.base_model
    model = reward_model_from(folder, config.loop.seed, opened.setting.pad)
    check_reads_alike("value", Path(folder), model, opened.model, opened.template, opened.tokenizer)
    if not is_reward_model(folder):
        torch.nn.init.zeros_(model.score.weight)
    return model
