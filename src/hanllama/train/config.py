"""The options of a training run. Imports no torch, so that help and recipes stay quick.

Every command has `OptimConfig` and `LoopConfig`, and adds options for its data and model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hanllama.base.config import Count, Natural, NonNegative, Positive, Share, checked, option
from hanllama.base.errors import ConfigError
from hanllama.model.adapter import LoraConfig
from hanllama.model.presets import LlamaConfig, preset

DEFAULT_CONTEXT = 512  # of a model given by explicit dimensions


@checked
class ModelShape:
    """A preset, explicit dimensions, or a preset with some of them changed."""

    preset: str = option("", help="a named size (hanllama plan --list shows them)")
    hidden_size: int | None = option(None, help="width of the model")
    intermediate_size: int | None = option(
        None, help="width of the feed-forward layer; 8/3 of hidden_size when left out"
    )
    num_hidden_layers: int | None = option(None, help="number of layers")
    num_attention_heads: int | None = option(None, help="attention heads")
    num_key_value_heads: int | None = option(
        None, help="key/value heads (grouped-query attention); as many as heads when left out"
    )
    tie_word_embeddings: bool | None = option(
        None, help="share the input and output embedding; true when left out"
    )
    rope_theta: float | None = option(None, help="base of the rotary embedding")
    initializer_range: float | None = option(
        None, help="standard deviation of fresh weights; narrow models learn faster from wider ones"
    )

    def resolve(self, vocab_size: int, context: int = 0, **special_ids: int | None) -> LlamaConfig:
        """The model's config for a vocabulary, a context (0: the preset's) and special token ids.

        Raises ConfigError for dimensions that are missing or do not fit together.
        """
        given = {
            name: value
            for name, value in vars(self).items()
            if name != "preset" and value is not None
        }
        given.update(special_ids)
        if context or not self.preset:
            given["max_position_embeddings"] = context or DEFAULT_CONTEXT
        if self.preset:
            return preset(self.preset, vocab_size=vocab_size, **given)
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            if name not in given:
                raise ConfigError(f"model.{name} is missing: name a model.preset or all dimensions")
        given.setdefault("tie_word_embeddings", True)
        return LlamaConfig(vocab_size=vocab_size, **given)


@checked
class OptimConfig:
    """AdamW and its learning rate."""

    learning_rate: Positive = option(1e-3, help="peak learning rate")
    min_learning_rate: Share = option(0.1, help="the last learning rate, as a share of the peak")
    schedule: Literal["cosine", "wsd", "constant"] = option(
        "cosine", help="after warm-up: cosine decay, warm-up-stable-decay, or constant"
    )
    warmup: Share = option(0.02, help="share of the steps spent warming up")
    decay: Share = option(0.2, help="share of the steps that wsd spends decaying")
    weight_decay: NonNegative = option(0.1, help="AdamW weight decay, on matrices only")
    beta1: float = option(0.9, ge=0, lt=1, help="AdamW beta1")
    beta2: float = option(0.95, ge=0, lt=1, help="AdamW beta2")
    epsilon: Positive = option(1e-8, help="AdamW epsilon")
    max_grad_norm: NonNegative = option(1.0, help="clip the gradient to this norm; 0 never clips")

    def __post_init__(self) -> None:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ConfigError(
                f"optim.warmup {self.warmup} and optim.decay {self.decay} are shares of the same"
                " steps: their sum must be at most 1"
            )


@checked
class LoopConfig:
    """The length of a run, its batches and precision, and what it keeps and shows."""

    max_steps: Natural = option(0, help="optimizer steps; 0 takes them from epochs")
    epochs: float = option(1.0, help="passes over the data, where max_steps is 0")
    batch_size: Count = option(32, help="rows of one optimizer step, over all processes")
    micro_batch_size: Count = option(8, help="rows of one forward and backward pass on one device")
    auto_micro_batch: bool = option(
        True, help="on out-of-memory, halve micro_batch_size and go on (results do not change)"
    )
    seed: int = option(0, help="seed of every random draw")
    device: str = option("auto", help="auto, cpu, cuda, cuda:0, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", help="arithmetic of the passes; weights stay float32; auto: bfloat16 on a GPU"
    )
    compile: bool = option(False, help="torch.compile: faster after a minute of compiling")
    gradient_checkpointing: bool = option(False, help="less memory, a third more computing")
    log_every: Count = option(10, help="steps between two lines of metrics.jsonl")
    eval_every: Natural = option(0, help="steps between evaluations; 0 means at every checkpoint")
    eval_rows: Natural = option(256, help="held-out rows of one evaluation; 0 means all")
    save_every: Count = option(500, help="steps between checkpoints; the last step is always saved")
    keep: Count = option(2, help="newest checkpoints to keep, beside the best one")
    result: Literal["best", "last"] = option(
        "best", help="which checkpoint becomes model/: lowest held-out loss, or the last"
    )
    sample_every: Natural = option(0, help="steps between samples; 0 means at every checkpoint")
    sample_prompts: tuple[str, ...] = option(("",), help="prompts of the samples")
    sample_tokens: Natural = option(96, help="length of the samples; 0 writes none")
    stop_at: Natural = option(0, help="save and stop after this step, as if interrupted")
    trackers: tuple[str, ...] = option(
        ("tensorboard",), help="where metrics also go: tensorboard, swanlab, wandb, or a .py file"
    )

    def __post_init__(self) -> None:
        if self.max_steps == 0 and self.epochs <= 0:
            raise ConfigError("loop.max_steps or loop.epochs must be positive")

    def with_steps(self, rows: int) -> LoopConfig:
        """This config with `max_steps` settled for a data set of so many rows."""
        steps = self.max_steps or max(1, round(self.epochs * rows / self.batch_size))
        return replace(self, max_steps=steps)


@checked
class RaggedLoopConfig(LoopConfig):
    """The loop over rows that are as wide as the longest of their batch."""

    sample_prompts: tuple[str, ...] = option(
        ("请介绍一下你自己。", "给小朋友讲一个短故事。"), help="what the samples are asked"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile:
            raise ConfigError(
                "loop.compile cannot be used here, since every batch has another shape; leave it"
                " out"
            )


@checked
class RecordsConfig:
    """The options of every training on records: conversations, preferences, prompts."""

    data: tuple[str, ...] = option(help="files or folders of preferences", positional=True)
    output: str = option(help="the run folder; the same folder again resumes")
    base_model: str = option(help="the model folder to train")
    heldout_share: Share = option(0.02, help="share of the prompts that is held out")
    fill: tuple[str, ...] = option((), help="name=value for each {{name}} in the data")
    max_quarantine_share: Share = option(0.05, help="more unusable records than this end the run")
    lora: LoraConfig = option(LoraConfig(), help="adapters instead of the whole model")


# Options that may differ when a run is resumed: they change what is shown or kept, or how the same
# sums are divided, but never a gradient.
RESUME_MAY_CHANGE = frozenset(
    {
        "loop.micro_batch_size",
        "loop.auto_micro_batch",
        "loop.device",
        "loop.compile",
        "loop.gradient_checkpointing",
        "loop.log_every",
        "loop.eval_every",
        "loop.eval_rows",
        "loop.save_every",
        "loop.keep",
        "loop.result",
        "loop.sample_every",
        "loop.sample_prompts",
        "loop.sample_tokens",
        "loop.stop_at",
        "loop.trackers",
    }
)


@checked
class PretrainConfig:
    """`hanllama pretrain`."""

    data: str = option(help="a folder of token shards (hanllama tokenize)", positional=True)
    output: str = option(help="the run folder; the same folder again resumes")
    base_model: str = option("", help="go on from this model folder instead of from scratch")
    context: Natural = option(
        0, help="tokens of a row; 0 takes the preset's, or 512 for explicit dimensions"
    )
    cross_document_attention: bool = option(
        False, help="let attention see the other documents packed into a row"
    )
    model: ModelShape = option(ModelShape(), help="the size of a new model")
    optim: OptimConfig = option(OptimConfig(), help="optimizer and learning rate")
    loop: LoopConfig = option(LoopConfig(), help="the training loop")

    def __post_init__(self) -> None:
        if self.context == 1:
            raise ConfigError("context must be at least 2: a token to read and one to predict")
        given = [name for name, value in vars(self.model).items() if value not in (None, "")]
        if self.base_model and given:
            raise ConfigError(
                f"model.{given[0]} describes a new model, but base_model {self.base_model} already"
                " has dimensions: leave one of the two out"
            )
