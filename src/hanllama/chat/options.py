"""The options of `hanllama chat`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hanllama.base.config import option
from hanllama.model.sampling import Sampling, sampling_of


@dataclass(frozen=True)
class ChatConfig:
    """Options of `hanllama chat`."""

    model: str = option(help="model folder, or a folder of LoRA adapters", positional=True)
    system: str = option("", help="system prompt: who the model is, how it should answer")
    load: str = option("", help="go on with a conversation that /save wrote")
    template: str = option(
        "", help="chat template by name or .jinja file; without it the model folder's own"
    )
    continuation: bool = option(
        False, help="no conversation: the model goes on with what is typed, as a base model does"
    )
    max_new_tokens: int = option(512, help="tokens of an answer at most")
    temperature: float = option(0.8, help="above 1 wilder, below 1 tamer, 0 always the likeliest")
    top_k: int = option(50, help="choose among this many likeliest tokens; 0: among all")
    top_p: float = option(0.95, help="choose among the likeliest tokens with this share; 1: all")
    repetition_penalty: float = option(1.0, help="above 1 makes tokens already used less likely")
    seed: int = option(0, help="the same seed and the same words give the same answers")
    json: bool = option(False, help="piped: an answer a line as JSON, with why it ended")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        help="precision of the weights; auto: bfloat16 (or float16) on a GPU, float32 elsewhere",
    )

    def __post_init__(self) -> None:
        self.sampling()

    def sampling(self) -> Sampling:
        """The numbers among the options, checked."""
        return sampling_of(self)
