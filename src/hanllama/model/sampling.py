"""How the next token is chosen, as numbers: the options of `hanllama generate`, without torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from hanllama.base.config import option
from hanllama.base.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """The numbers of a decoding, with the meanings transformers gives them.

    Applied in this order: repetition penalty, temperature, top-k, top-p. Temperature 0 is greedy
    and leaves the last three aside.
    """

    max_new_tokens: int = 256
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature must be 0 (greedy) or above, not {self.temperature}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be 0 (off) or above, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1 (off), not {self.top_p}")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ConfigError(f"repetition_penalty must be above 0, not {self.repetition_penalty}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or above, not {self.seed}")


def sampling_of(options: object) -> Sampling:
    """The numbers of a decoding among a command's options, checked; what is not there is Sampling's
    own default."""
    names = [field.name for field in fields(Sampling) if hasattr(options, field.name)]
    return Sampling(**{name: getattr(options, name) for name in names})


@dataclass(frozen=True)
class GenerateConfig:
    """The options of `hanllama generate`."""

    model: str = option(help="model folder", positional=True)
    prompt: tuple[str, ...] = option(
        (), help="text to continue; several make a batch; none or an empty one: from nothing"
    )
    prompts_file: str = option(
        "", help="file with a prompt a line, or .jsonl with a field `prompt` a line"
    )
    chat: bool = option(
        False, help="a prompt is what a user says, and the model answers through its chat template"
    )
    max_new_tokens: int = option(256, help="tokens to write at most")
    temperature: float = option(0.8, help="above 1 wilder, below 1 tamer, 0 always the likeliest")
    top_k: int = option(50, help="choose among this many likeliest tokens; 0: among all")
    top_p: float = option(0.95, help="choose among the likeliest tokens with this share; 1: all")
    repetition_penalty: float = option(1.0, help="above 1 makes tokens already used less likely")
    seed: int = option(0, help="the same seed writes the same text")
    stop: tuple[str, ...] = option((), help="end before any of these texts")
    stream: bool = option(False, help="print the text as it comes, one prompt after another")
    count: int = option(1, help="samples per prompt")
    batch: int = option(16, help="samples written at a time; more use more memory")
    output: str = option("", help="also write the samples to this .jsonl file")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        help="precision of the weights; auto: bfloat16 (or float16) on a GPU, float32 elsewhere",
    )

    def __post_init__(self) -> None:
        self.sampling()
        for name in ("count", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if "" in self.stop:
            raise ConfigError("stop must not be an empty text")

    def sampling(self) -> Sampling:
        """The numbers among the options, checked."""
        return sampling_of(self)
