"""The options of `hanllama plan`."""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.config import option
from hanllama.base.errors import ConfigError

HERE = "here"  # the device of this machine, among the names of others


@dataclass(frozen=True)
class PlanConfig:
    """The options of `hanllama plan`."""

    training: str = option(
        "", help="a pretrain config (.yaml), or a recipe's name or path", positional=True
    )
    preset: str = option("", help="plan this named size instead of a config")
    list: bool = option(False, help="show every preset with its stated and its exact size")
    tokens: float = option(
        0.0, help="tokens of the data set, instead of counting those of the data folder"
    )
    vocab_size: int = option(0, help="vocabulary, instead of the data's, recipe's or preset's")
    context: int = option(0, help="tokens of a row, instead of the config's")
    batch_size: int = option(0, help="rows of a step, instead of the config's")
    micro_batch_size: int = option(0, help="rows of a pass, instead of the config's")
    gradient_checkpointing: bool = option(False, help="plan with it even if the config has none")
    devices: tuple[str, ...] = option(
        (HERE, "rtx4090", "a100", "h100"), help="devices to plan for, with commas; here: this one"
    )
    count: int = option(1, help="devices of a kind that share every step's rows")
    price: float = option(-1.0, help="dollars an hour of one device, instead of the table's")
    mfu: float = option(0.0, help="share of a device's peak reached, instead of the table's")
    measure: bool = option(True, help="run a few steps on the device here, to know its speed")
    json: bool = option(False, help="print JSON instead of a table")

    def __post_init__(self) -> None:
        for name in ("tokens", "vocab_size", "context", "batch_size", "micro_batch_size"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, not {self.count}")
        if not 0 <= self.mfu <= 1:
            raise ConfigError(f"mfu is a share from 0 to 1, not {self.mfu}")
