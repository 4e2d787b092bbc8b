"""The options of `hanllama sft`. Imports no torch."""

from __future__ import annotations

from hanllama.base.config import Count, Natural, NonNegative, Positive, Share, checked, option
from hanllama.base.errors import ConfigError
from hanllama.train.config import LoopConfig, OptimConfig, RecordsConfig


@checked
class SftOptimConfig(OptimConfig):
    """AdamW, with defaults for fine-tuning."""

    learning_rate: Positive = option(
        2e-5, help="peak learning rate; 2e-4 with LoRA, 1e-4 to 1e-3 for models below 100M"
    )
    warmup: Share = 0.03
    weight_decay: NonNegative = 0.0


@checked
class SftLoopConfig(LoopConfig):
    """The loop, with defaults for conversations."""

    epochs: float = 3.0
    batch_size: Count = 16
    sample_prompts: tuple[str, ...] = option(
        ("你好，请介绍一下你自己。", "用三句话讲一个小故事。"),
        help="what a user asks for the samples",
    )


@checked
class SftConfig(RecordsConfig):
    """`hanllama sft`."""

    data: tuple[str, ...] = option(
        help="files, folders or globs of conversations, in any known layout", positional=True
    )
    template: str = option(
        "", help="chat template by name or .jinja file; the base model's own when left out"
    )
    layout: str = option("", help="layout of the records by name; empty: found out for each")
    heldout: tuple[str, ...] = option((), help="files to evaluate on, instead of a share")
    heldout_share: Share = option(
        0.02, help="share of the prompts that is held out; 0 for none, without --heldout"
    )
    context: Natural = option(0, help="tokens of a row; 0 takes the model's positions")
    packing: bool = option(True, help="several conversations a row, kept apart; false: one a row")
    neftune_alpha: NonNegative = option(
        0.0, help="NEFTune: strength of the noise on the embeddings while training; 5 is usual"
    )
    curriculum: str = option(
        "", help="field of the records by which to train from low to high, one stage per value"
    )
    curriculum_stages: Natural = option(
        0, help="cut the curriculum into this many stages of equal size; 0: one stage per value"
    )
    optim: SftOptimConfig = option(SftOptimConfig(), help="optimizer and learning rate")
    loop: SftLoopConfig = option(SftLoopConfig(), help="the training loop")

    def __post_init__(self) -> None:
        if self.context == 1:
            raise ConfigError("context must be at least 2: a token to read and one to predict")
        if self.curriculum_stages and not self.curriculum:
            raise ConfigError("curriculum_stages needs curriculum, the field to order by")
