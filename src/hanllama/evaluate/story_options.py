"""What `hanllama corpus obeyed` takes."""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.config import option
from hanllama.base.errors import ConfigError
from hanllama.model.sampling import Sampling, sampling_of


@dataclass(frozen=True)
class ObeyedConfig:
    """What `hanllama corpus obeyed` takes."""

    models: tuple[str, ...] = option(
        help="chat models in the order of their stages, .jsonl files of conversations that end in"
        " an answer, or the base model, of which only bits per byte are measured",
        positional=True,
    )
    output: str = option("", help="a folder for answers, figures and a report; none: only print")
    prompts: str = option(
        "", help="a .jsonl file of instructions to ask; none: held-out ones are made"
    )
    count: int = option(200, help="held-out instructions to make")
    seed: int = option(0, help="of the instructions and of the answers")
    stories: int = option(400, help="new stories to measure bits per byte on; 0: do not")
    show: int = option(6, help="chats of the last model to print")
    max_new_tokens: int = option(160, help="tokens of an answer at most")
    temperature: float = option(0.7, help="above 1 wilder, below 1 tamer, 0 always the likeliest")
    top_k: int = option(50, help="choose among this many likeliest tokens; 0: among all")
    top_p: float = option(0.95, help="choose among the likeliest tokens with this share; 1: all")
    batch: int = option(50, help="answers written at a time; more use more memory")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    force: bool = option(False, help="replace the output")

    def __post_init__(self) -> None:
        self.sampling()
        for name in ("count", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.models:
            raise ConfigError("models is empty: name a model folder or a .jsonl file of answers")

    def sampling(self) -> Sampling:
        """The numbers among the options, checked."""
        return sampling_of(self)
