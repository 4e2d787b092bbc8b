"""The options of `hanllama ppo` and `hanllama grpo`. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from hanllama.base.config import Count, Natural, NonNegative, Positive, Share, checked, option
from hanllama.base.errors import ConfigError
from hanllama.train.config import OptimConfig, RaggedLoopConfig, RecordsConfig


@checked
class RlOptimConfig(OptimConfig):
    """AdamW, with small steps for a policy."""

    learning_rate: Positive = option(1e-6, help="peak learning rate; 1e-5 or more for small models")
    warmup: Share = 0.05
    weight_decay: NonNegative = 0.0


@checked
class RlLoopConfig(RaggedLoopConfig):
    """The loop, counted in answers."""

    epochs: float = option(1.0, help="passes over the prompts, where max_steps is 0")
    batch_size: Count = option(32, help="answers of one optimizer step, over all processes")
    micro_batch_size: Count = option(8, help="answers of one forward and backward pass")
    eval_rows: Natural = option(256, help="held-out prompts of one evaluation; 0 means all")
    result: Literal["best", "last"] = option(
        "last", help="which checkpoint becomes model/: the last; best is refused (docs/rl.md)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.result == "best":
            raise ConfigError(
                "loop.result best: reinforcement learning has no held-out loss to rank checkpoints,"
                " and the highest reward may come from a weakness of the reward; leave it out, and"
                " the last checkpoint becomes model/"
            )


@checked
class RolloutConfig:
    """How answers are written."""

    max_new_tokens: Count = option(128, help="tokens of an answer at most")
    temperature: Positive = option(1.0, help="temperature of sampling and of log-probabilities")
    batch: Count = option(
        16,
        help="answers written at a time; more use more memory; halved on out-of-memory where"
        " loop.auto_micro_batch allows it (answers do not change)",
    )


@checked
class ScoringConfig:
    """The score of an answer: rules, a reward model, or both."""

    rules: tuple[str | dict[str, Any], ...] = option(
        (),
        help="rules (see docs/rewards.md) or .py files, with parameters as"
        " 'length: {weight: 0.5, maximum: 100}'",
    )
    model: str = option("", help="a reward model's folder (hanllama reward)")
    model_weight: float = option(1.0, help="weight of the reward model's score")
    missing_end_penalty: NonNegative = option(
        0.0, help="subtracted from the score of an answer that the token limit cut off"
    )

    def __post_init__(self) -> None:
        if not self.rules and not self.model:
            raise ConfigError("nothing scores the answers: give reward.rules, reward.model or both")


@checked
class AlarmConfig:
    """When a run warns that something goes wrong. It goes on; a person decides."""

    kl: float = option(30.0, help="alarm above this KL to the reference, in nats an answer")
    entropy: float = option(0.2, help="alarm below this share of the first experience's entropy")
    length: float = option(2.0, help="alarm above this multiple of the first answers' mean length")


@checked
class RlConfig(RecordsConfig):
    """The options of both commands."""

    data: tuple[str, ...] = option(help="files of prompts, chats or preferences", positional=True)
    base_model: str = option(help="folder of the chat model that is trained; also the reference")
    reward: ScoringConfig = option(help="the score of an answer")
    mini_batches: Count = option(1, help="steps of loop.batch_size answers per experience")
    kl_coefficient: NonNegative = option(0.04, help="cost of a nat of KL to the reference")
    rollout: RolloutConfig = option(RolloutConfig(), help="how answers are written")
    alarm: AlarmConfig = option(AlarmConfig(), help="when to raise an alarm")
    optim: RlOptimConfig = option(RlOptimConfig(), help="optimizer and learning rate")
    loop: RlLoopConfig = option(RlLoopConfig(), help="the training loop")


@checked
class PpoConfig(RlConfig):
    """`hanllama ppo`."""

    mini_batches: Count = 4
    ppo_epochs: Count = option(2, help="passes over an experience")
    kl_coefficient: NonNegative = 0.05
    kl_target: NonNegative = option(
        0.0, help="adapt kl_coefficient to this KL in nats an answer; 0 keeps it fixed"
    )
    kl_horizon: Count = option(
        10_000, help="answers over which the coefficient adapts; at least an experience's"
    )
    kl_estimator: Literal["k1", "k3"] = option(
        "k1", help="KL in the reward: log p/q, or an estimate that is never negative"
    )
    gamma: Share = option(1.0, help="discount of a reward per token of delay")
    lam: Share = option(0.95, help="GAE's lambda: 1 trusts rewards alone, 0 the value model")
    clip: float = option(0.2, gt=0, lt=1, help="limit of the probability ratio, up and down")
    value_clip: NonNegative = option(0.2, help="limit of a value's change; 0 never clips")
    value_weight: NonNegative = option(0.1, help="weight of the value loss")
    value_learning_rate: NonNegative = option(
        0.0, help="peak learning rate of the value model; 0: optim.learning_rate"
    )
    value_model: str = option(
        "", help="folder the value model begins from; empty: the reward model, else the policy"
    )
    whiten: bool = option(True, help="shift and scale advantages to mean 0, variance 1")

    def __post_init__(self) -> None:
        if self.kl_target and not self.kl_coefficient:
            raise ConfigError("kl_target adapts kl_coefficient, which must be above 0")
        answers = self.loop.batch_size * self.mini_batches
        if self.kl_target and self.kl_horizon < answers:
            raise ConfigError(
                f"kl_horizon {self.kl_horizon} is below the {answers} answers of an experience"
                " (loop.batch_size x mini_batches), after which kl_coefficient adapts"
            )

    @property
    def group_size(self) -> int:
        """Answers to each prompt."""
        return 1

    @property
    def passes(self) -> int:
        """Passes over an experience."""
        return self.ppo_epochs


@checked
class GrpoConfig(RlConfig):
    """`hanllama grpo`."""

    group_size: int = option(8, ge=2, help="answers to each prompt, compared with each other")
    iterations: Count = option(1, help="passes over an experience")
    kl_coefficient: NonNegative = option(0.04, help="cost of a nat of KL to the reference (k3)")
    kl_correction: bool = option(
        True, help="weight the KL by the probability ratio, which makes its gradient unbiased"
    )
    clip_low: float = option(0.2, gt=0, le=1, help="limit of the probability ratio below 1")
    clip_high: NonNegative = option(0.2, help="limit of the probability ratio above 1")
    ratio: Literal["token", "answer"] = option(
        "token", help="probability ratio of each token, or of each answer (GSPO)"
    )
    aggregation: Literal["grpo", "dapo", "bnpo", "dr_grpo", "luspo"] = option(
        "dapo", help="how tokens' losses become one number: TRL's loss_type (docs/rl.md)"
    )
    scale_rewards: Literal["group", "batch", "none"] = option(
        "group", help="divide advantages by the group's standard deviation, by that of all, or not"
    )

    def __post_init__(self) -> None:
        if self.loop.batch_size * self.mini_batches % self.group_size:
            raise ConfigError(
                f"loop.batch_size {self.loop.batch_size} x mini_batches {self.mini_batches} answers"
                f" cannot be divided into groups of {self.group_size}; change one of them"
            )

    @property
    def passes(self) -> int:
        """Passes over an experience."""
        return self.iterations
