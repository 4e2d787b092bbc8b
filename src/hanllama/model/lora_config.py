"""What LoRA can be told (Hu et al. 2021, arXiv:2106.09685); imports no torch.

One group of options for every command that trains a model which exists already: `--lora.rank 16`
freezes the base and trains adapters beside its linear layers; rank 0 trains the whole model.
"""

from __future__ import annotations

from hanllama.base.config import Natural, Positive, checked, option
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"


@checked
class LoraConfig:
    """Adapters: how large, how strong, and beside which layers."""

    rank: Natural = option(0, help="rank of the adapters; 0 trains the whole model instead")
    alpha: Positive = option(16.0, help="adapters count alpha/rank times; keep it if rank changes")
    dropout: float = option(0.0, ge=0, lt=1, help="share of adapters' inputs dropped in training")
    targets: tuple[str, ...] = option(
        (ALL_LINEAR,), help=f"layers that get adapters: {ALL_LINEAR}, or some of q_proj k_proj …"
    )

    def __post_init__(self) -> None:
        known = [ALL_LINEAR, *LINEAR_LAYERS]
        for name in self.targets:
            if name not in known:
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
