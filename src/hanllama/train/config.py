"""What a training run can be told. Imports no torch, so that help and recipes stay quick.

`OptimConfig` and `LoopConfig` belong to every objective; a command adds its own data and model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hanllama.base.config import option
from hanllama.base.errors import ConfigError
from hanllama.model.presets import LlamaConfig, preset

DEFAULT_CONTEXT = 512  # of a model given by explicit dimensions


@dataclass(frozen=True)
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

        Raises ConfigError for dimensions that make no model.
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


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its learning rate."""

    learning_rate: float = option(1e-3, help="peak learning rate")
    min_learning_rate: float = option(0.1, help="the last learning rate, as a share of the peak")
    schedule: Literal["cosine", "wsd", "constant"] = option(
        "cosine", help="after warm-up: cosine decay, warm-up-stable-decay, or constant"
    )
    warmup: float = option(0.02, help="share of the steps spent warming up")
    decay: float = option(0.2, help="share of the steps that wsd spends decaying")
    weight_decay: float = option(0.1, help="AdamW weight decay, on matrices only")
    beta1: float = option(0.9, help="AdamW beta1")
    beta2: float = option(0.95, help="AdamW beta2")
    epsilon: float = option(1e-8, help="AdamW epsilon")
    max_grad_norm: float = option(1.0, help="clip the gradient to this norm; 0 never clips")

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"optim.learning_rate must be positive, not {self.learning_rate}")
        for name in ("min_learning_rate", "warmup", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"optim.{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ConfigError(
                f"optim.warmup {self.warmup} and optim.decay {self.decay} are shares of the same"
                " steps: together they can be 1 at most"
            )
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"optim.{name} must lie from 0 up to 1, not {getattr(self, name)}"
                )
        if self.epsilon <= 0:
            raise ConfigError(f"optim.epsilon must be positive, not {self.epsilon}")
        for name in ("weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optim.{name} cannot be negative, as {getattr(self, name)} is")


@dataclass(frozen=True)
class LoopConfig:
    """How long, how much at a time, in which precision, and what is kept and shown."""

    max_steps: int = option(0, help="optimizer steps; 0 takes them from epochs")
    epochs: float = option(1.0, help="passes over the data, where max_steps is 0")
    batch_size: int = option(32, help="rows of one optimizer step, over all processes")
    micro_batch_size: int = option(8, help="rows of one forward and backward pass on one device")
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
    log_every: int = option(10, help="steps between two lines of metrics.jsonl")
    eval_every: int = option(0, help="steps between evaluations; 0 means at every checkpoint")
    eval_rows: int = option(256, help="held-out rows of one evaluation; 0 means all")
    save_every: int = option(500, help="steps between checkpoints; the last step is always saved")
    keep: int = option(2, help="newest checkpoints to keep, beside the best one")
    result: Literal["best", "last"] = option(
        "best", help="which checkpoint becomes model/: lowest held-out loss, or the last"
    )
    sample_every: int = option(0, help="steps between samples; 0 means at every checkpoint")
    sample_prompts: tuple[str, ...] = option(("",), help="prompts of the samples")
    sample_tokens: int = option(96, help="length of the samples; 0 writes none")
    stop_at: int = option(0, help="save and stop after this step, as if interrupted")
    trackers: tuple[str, ...] = option(
        ("tensorboard",), help="where metrics also go: tensorboard, swanlab, wandb, or a .py file"
    )

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"loop.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("eval_every", "eval_rows", "sample_every", "sample_tokens", "stop_at"):
            if getattr(self, name) < 0:
                raise ConfigError(f"loop.{name} cannot be negative, as {getattr(self, name)} is")
        if self.max_steps < 0 or (self.max_steps == 0 and self.epochs <= 0):
            raise ConfigError("loop.max_steps or loop.epochs must be positive")

    def with_steps(self, rows: int) -> LoopConfig:
        """This config with `max_steps` settled for a data set of so many rows."""
        steps = self.max_steps or max(1, round(self.epochs * rows / self.batch_size))
        return replace(self, max_steps=steps)


def refuse_compile(loop: LoopConfig, what: str) -> None:
    """ConfigError for `loop.compile` where rows are as wide as the longest of each batch."""
    if loop.compile:
        raise ConfigError(
            f"loop.compile does nothing for {what}, whose batches have another shape every time;"
            " leave it out"
        )


# What may differ between the command that began a run and the one that resumes it: it changes
# what is shown or kept or how the same sums are divided, never a gradient.
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


@dataclass(frozen=True)
class PretrainConfig:
    """`hanllama pretrain`."""

    data: str = option(help="a folder of token shards (hanllama tokenize)", positional=True)
    output: str = option(help="the run folder; the same folder again resumes")
    base_model: str = option("", help="go on from this model folder instead of from scratch")
    context: int = option(
        0, help="tokens of a row; 0 takes the preset's, or 512 for explicit dimensions"
    )
    cross_document_attention: bool = option(
        False, help="let attention see the other documents packed into a row"
    )
    model: ModelShape = option(ModelShape(), help="the size of a new model")
    optim: OptimConfig = option(OptimConfig(), help="optimizer and learning rate")
    loop: LoopConfig = option(LoopConfig(), help="the training loop")

    def __post_init__(self) -> None:
        if self.context < 0 or self.context == 1:
            raise ConfigError(
                f"context {self.context}: a row needs at least 2 tokens, one to read and one to"
                " predict"
            )
        given = [name for name, value in vars(self.model).items() if value not in (None, "")]
        if self.base_model and given:
            raise ConfigError(
                f"model.{given[0]} describes a new model, and base_model {self.base_model} has its"
                " own dimensions: leave one of the two out"
            )
