"""The options of `hanllama generate`, among them the numbers of sampling; without torch."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

from hanllama.base.config import Count, Natural, NonNegative, Positive, checked, option
from hanllama.base.errors import ConfigError


@checked
class Sampling:
    """How the next token is chosen; the numbers mean what they mean in transformers.

    Applied in this order: repetition penalty, temperature, top-k, top-p. Temperature 0 takes the
    likeliest token, whatever top-k and top-p are.
    """

    max_new_tokens: Count = option(256, help="tokens to write at most")
    temperature: NonNegative = option(0.8, help="above 1 wilder, below 1 tamer, 0 the likeliest")
    top_k: Natural = option(50, help="choose among this many likeliest tokens; 0: among all")
    top_p: float = option(0.95, gt=0, le=1, help="choose among the likeliest of this share; 1: all")
    repetition_penalty: Positive = option(1.0, help="above 1 makes tokens already used less likely")
    seed: Natural = option(0, help="the same seed writes the same text")

    def sampling(self) -> Sampling:
        """These numbers without the other options of a command that inherits them."""
        return Sampling(**{field.name: getattr(self, field.name) for field in fields(Sampling)})


@checked
class GenerateConfig(Sampling):
    """The options of `hanllama generate`."""

    model: str = option(help="model folder", positional=True)
    prompt: tuple[str, ...] = option(
        (), help="text to continue; several make a batch; none or an empty one: from nothing"
    )
    prompts_file: str = option("", help="a prompt a line, or .jsonl with a field `prompt` a line")
    chat: bool = option(
        False, help="a prompt is what a user says, and the model answers through its chat template"
    )
    stop: tuple[str, ...] = option((), help="end before any of these texts")
    stream: bool = option(False, help="print the text as it comes, one prompt after another")
    count: Count = option(1, help="samples per prompt")
    batch: Count = option(16, help="samples written at a time; more use more memory")
    output: str = option("", help="also write the samples to this .jsonl file")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        help="precision of the weights; auto: bfloat16 (or float16) on a GPU, float32 elsewhere",
    )

    def __post_init__(self) -> None:
        if "" in self.stop:
            raise ConfigError("stop must not be an empty text")
