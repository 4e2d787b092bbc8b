"""What `hanllama sft` can be told. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.config import option
from hanllama.base.errors import ConfigError
from hanllama.model.lora_config import LoraConfig
from hanllama.train.config import LoopConfig, OptimConfig


@dataclass(frozen=True)
class SftOptimConfig(OptimConfig):
    """AdamW as fine-tuning wants it."""

    learning_rate: float = option(
        2e-5, help="peak learning rate; 2e-4 with LoRA, 1e-4 to 1e-3 for models below 100M"
    )
    warmup: float = option(0.03, help="share of the steps spent warming up")
    weight_decay: float = option(0.0, help="AdamW weight decay, on matrices only")


@dataclass(frozen=True)
class SftLoopConfig(LoopConfig):
    """The loop, with defaults for conversations."""

    epochs: float = option(3.0, help="passes over the data, where max_steps is 0")
    batch_size: int = option(16, help="rows of one optimizer step, over all processes")
    sample_prompts: tuple[str, ...] = option(
        ("你好，请介绍一下你自己。", "用三句话讲一个小故事。"),
        help="what a user asks for the samples",
    )


@dataclass(frozen=True)
class SftConfig:
    """`hanllama sft`."""

    data: tuple[str, ...] = option(
        help="files, folders or globs of conversations, in any known layout", positional=True
    )
    output: str = option(help="the run folder; the same folder again resumes")
    base_model: str = option(help="the model folder to fine-tune")
    template: str = option(
        "", help="chat template by name or .jinja file; the base model's own when left out"
    )
    layout: str = option("", help="the layout of the data, where it is not to be found out")
    fill: tuple[str, ...] = option((), help="name=value for each {{name}} in the data")
    max_quarantine_share: float = option(
        0.05, help="fail when more of the records than this cannot be used"
    )
    heldout: tuple[str, ...] = option((), help="files to evaluate on, instead of a share")
    heldout_share: float = option(
        0.02, help="share of the prompts that is held out; 0 for none, without --heldout"
    )
    context: int = option(0, help="tokens of a row; 0 takes the model's positions")
    packing: bool = option(
        True, help="several conversations in a row, kept apart; false: one a row"
    )
    neftune_alpha: float = option(
        0.0, help="NEFTune: strength of the noise on the embeddings while training; 5 is usual"
    )
    curriculum: str = option(
        "", help="field of the records by which to train from low to high, a stage after another"
    )
    curriculum_stages: int = option(
        0, help="cut the field's range into so many stages of equal size; 0: one a value"
    )
    lora: LoraConfig = option(LoraConfig(), help="adapters instead of full tuning")
    optim: SftOptimConfig = option(SftOptimConfig(), help="optimizer and learning rate")
    loop: SftLoopConfig = option(SftLoopConfig(), help="the training loop")

    def __post_init__(self) -> None:
        for name in ("max_quarantine_share", "heldout_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.context < 0 or self.context == 1:
            raise ConfigError(f"context must be 0 or at least 2, not {self.context}")
        if self.neftune_alpha < 0:
            raise ConfigError(f"neftune_alpha must be 0 or more, not {self.neftune_alpha}")
        if self.curriculum_stages < 0:
            raise ConfigError(f"curriculum_stages must be 0 or more, not {self.curriculum_stages}")
        if self.curriculum_stages and not self.curriculum:
            raise ConfigError("curriculum_stages needs curriculum, the field to order by")
