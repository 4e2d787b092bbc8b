"""What `hanllama dpo` and `hanllama reward` can be told. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hanllama.base.config import option
from hanllama.base.errors import ConfigError
from hanllama.model.lora_config import LoraConfig
from hanllama.train.config import LoopConfig, OptimConfig, refuse_compile


@dataclass(frozen=True)
class DpoOptimConfig(OptimConfig):
    """AdamW as preferences want it: what the model knows is to be kept."""

    learning_rate: float = option(
        2e-6,
        help="peak learning rate: 5e-7 for 7B, 1e-5 and more for small models; LoRA and orpo take"
        " ten times as much",
    )
    warmup: float = option(0.1, help="share of the steps spent warming up")
    weight_decay: float = option(0.0, help="AdamW weight decay, on matrices only")


@dataclass(frozen=True)
class RewardOptimConfig(OptimConfig):
    """AdamW for a reward model: one epoch, or it learns the pairs by heart."""

    learning_rate: float = option(
        1e-5, help="peak learning rate; 1e-4 for small models and for LoRA"
    )
    warmup: float = option(0.05, help="share of the steps spent warming up")
    weight_decay: float = option(0.0, help="AdamW weight decay, on matrices only")


@dataclass(frozen=True)
class PreferenceLoopConfig(LoopConfig):
    """The loop, counted in pairs."""

    batch_size: int = option(32, help="pairs of one optimizer step, over all processes")
    micro_batch_size: int = option(8, help="pairs of one forward and backward pass on one device")
    eval_rows: int = option(256, help="held-out pairs of one evaluation; 0 means all")
    sample_prompts: tuple[str, ...] = option(
        ("请介绍一下你自己。", "给小朋友讲一个短故事。"), help="what the samples are asked"
    )


@dataclass(frozen=True)
class DpoConfig:
    """`hanllama dpo`."""

    data: tuple[str, ...] = option(help="files or folders of preferences", positional=True)
    output: str = option(help="the run folder; the same folder again resumes")
    base_model: str = option(help="the model folder to train")
    reference_model: str = option("", help="what the loss compares with; empty: base_model")
    loss: str = option(
        "dpo", help="dpo, ipo, kto, orpo, simpo, or a .py file (docs/preferences.md)"
    )
    loss_options: tuple[str, ...] = option(
        (), help="parameters of the loss as name=value: beta=0.1 label_smoothing=0.1"
    )
    template: str = option("", help="chat template by name; empty: the model's own")
    context: int = option(0, help="tokens of a prompt with its answer; 0: the model's positions")
    heldout_share: float = option(0.05, help="share of the prompts that is held out")
    layout: str = option("", help="layout of the records by name; empty: found out for each")
    fill: tuple[str, ...] = option((), help="name=value for each {{name}} in the data")
    max_quarantine_share: float = option(0.05, help="more unusable records than this end the run")
    lora: LoraConfig = option(LoraConfig(), help="adapters instead of the whole model")
    optim: DpoOptimConfig = option(DpoOptimConfig(), help="optimizer and learning rate")
    loop: PreferenceLoopConfig = option(PreferenceLoopConfig(), help="the training loop")

    def __post_init__(self) -> None:
        _check_shares(self)


@dataclass(frozen=True)
class RewardConfig:
    """`hanllama reward`."""

    data: tuple[str, ...] = option(help="files or folders of preferences", positional=True)
    output: str = option(help="the run folder; the same folder again resumes")
    base_model: str = option(help="the language or reward model folder to begin with")
    centring: float = option(
        0.01, help="what (chosen + rejected reward)^2 costs, which holds rewards around 0; 0: free"
    )
    margin: bool = option(True, help="use the margins that the data states")
    template: str = option("", help="chat template by name; empty: the model's own")
    context: int = option(0, help="tokens of a prompt with its answer; 0: the model's positions")
    heldout_share: float = option(0.05, help="share of the prompts that is held out")
    layout: str = option("", help="layout of the records by name; empty: found out for each")
    fill: tuple[str, ...] = option((), help="name=value for each {{name}} in the data")
    max_quarantine_share: float = option(0.05, help="more unusable records than this end the run")
    lora: LoraConfig = option(LoraConfig(), help="adapters instead of the whole model")
    optim: RewardOptimConfig = option(RewardOptimConfig(), help="optimizer and learning rate")
    loop: PreferenceLoopConfig = option(PreferenceLoopConfig(), help="the training loop")

    def __post_init__(self) -> None:
        _check_shares(self)
        if self.centring < 0:
            raise ConfigError(f"centring must be 0 or more, not {self.centring}")


def _check_shares(config: Any) -> None:
    for name in ("heldout_share", "max_quarantine_share"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"{name} must be from 0 to below 1, not {getattr(config, name)}")
    if config.context < 0:
        raise ConfigError(f"context must be 0 or more, not {config.context}")
    refuse_compile(config.loop, "preferences")
