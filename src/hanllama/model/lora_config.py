"""What LoRA can be told (Hu et al. 2021, arXiv:2106.09685); imports no torch.

One group of options for every command that trains a model which exists already: `--lora.rank 16`
freezes the base and trains adapters beside its linear layers; rank 0 trains the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.config import option
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LoraConfig:
    """Adapters: how large, how strong, and beside which layers."""

    rank: int = option(0, help="rank of the adapters; 0 trains the whole model instead")
    alpha: float = option(
        16.0, help="adapters count alpha/rank times; keep it when you change the rank"
    )
    dropout: float = option(0.0, help="share of an adapter's inputs dropped while training")
    targets: tuple[str, ...] = option(
        (ALL_LINEAR,), help=f"layers that get adapters: {ALL_LINEAR}, or some of q_proj k_proj …"
    )

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"lora.rank must be 0 (no adapters) or more, not {self.rank}")
        if self.alpha <= 0:
            raise ConfigError(f"lora.alpha must be positive, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is a share from 0 to below 1, not {self.dropout}")
        for name in self.targets:
            if name not in (ALL_LINEAR, *LINEAR_LAYERS):
                known = [ALL_LINEAR, *LINEAR_LAYERS]
                raise ConfigError(
                    f"lora.targets: no layer is called {name!r}{nearest(name, known)}"
                )
        if not self.targets:
            raise ConfigError("lora.targets names no layer")
        if not self.rank and (self.alpha, self.dropout, self.targets) != (16.0, 0.0, (ALL_LINEAR,)):
            raise ConfigError(
                "lora.alpha, lora.dropout and lora.targets are about adapters, and without"
                " lora.rank there are none: the whole model would be trained; give --lora.rank 16,"
                " say"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that get adapters, in the model's order."""
        every = ALL_LINEAR in self.targets
        return tuple(name for name in LINEAR_LAYERS if every or name in self.targets)

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return self.alpha / self.rank
