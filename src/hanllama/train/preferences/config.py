"""The options of `hanllama dpo` and `hanllama reward`. Imports no torch."""

from __future__ import annotations

from hanllama.base.config import Count, Natural, NonNegative, Positive, Share, checked, option
from hanllama.train.config import OptimConfig, RaggedLoopConfig, RecordsConfig


@checked
class DpoOptimConfig(OptimConfig):
    """AdamW, with defaults that keep what the model knows."""

    learning_rate: Positive = option(
        2e-6,
        help="peak learning rate: 5e-7 for 7B, 1e-5 and more for small models; LoRA and orpo take"
        " ten times as much",
    )
    warmup: Share = 0.1
    weight_decay: NonNegative = 0.0


@checked
class RewardOptimConfig(OptimConfig):
    """AdamW for a reward model, which memorises the pairs after more than one epoch."""

    learning_rate: Positive = option(1e-5, help="peak learning rate; 1e-4 for small models, LoRA")
    warmup: Share = 0.05
    weight_decay: NonNegative = 0.0


@checked
class PreferenceLoopConfig(RaggedLoopConfig):
    """The loop, counted in pairs."""

    batch_size: Count = option(32, help="pairs of one optimizer step, over all processes")
    micro_batch_size: Count = option(8, help="pairs of one forward and backward pass on one device")
    eval_rows: Natural = option(256, help="held-out pairs of one evaluation; 0 means all")


@checked
class PreferenceConfig(RecordsConfig):
    """The options of both commands."""

    template: str = option("", help="chat template by name; empty: the model's own")
    context: Natural = option(0, help="tokens of a prompt and its answer; 0: the model's positions")
    heldout_share: Share = 0.05
    layout: str = option("", help="layout of the records by name; empty: found out for each")
    loop: PreferenceLoopConfig = option(PreferenceLoopConfig(), help="the training loop")


@checked
class DpoConfig(PreferenceConfig):
    """`hanllama dpo`."""

    reference_model: str = option("", help="what the loss compares with; empty: base_model")
    loss: str = option("dpo", help="dpo, ipo, kto, orpo, simpo or a .py file (docs/preferences.md)")
    loss_options: tuple[str, ...] = option(
        (), help="parameters of the loss as name=value: beta=0.1 label_smoothing=0.1"
    )
    optim: DpoOptimConfig = option(DpoOptimConfig(), help="optimizer and learning rate")


@checked
class RewardConfig(PreferenceConfig):
    """`hanllama reward`."""

    base_model: str = option(help="the language or reward model folder to begin with")
    centring: NonNegative = option(
        0.01, help="weight of (chosen + rejected reward)^2, which holds rewards around 0; 0: none"
    )
    margin: bool = option(True, help="use the margins in the data")
    optim: RewardOptimConfig = option(RewardOptimConfig(), help="optimizer and learning rate")
