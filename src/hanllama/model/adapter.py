"""An adapter without torch: its options, its folder in PEFT's format, its base model.

    adapter_config.json            PEFT's: rank, alpha, layers, where the base lies
    adapter_model.safetensors      the trained weights, under PEFT's names
    adapter_base.json              ours: the fingerprint of the base's weights

An adapter on the wrong base gives fluent nonsense, so the base is compared by content where the
folder has a fingerprint (PEFT writes none).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.base.config import Natural, Positive, checked, option
from hanllama.base.errors import ConfigError, CorruptError, InputError, ResumeError
from hanllama.base.plugins import nearest

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "adapter_base.json"
# PEFT's files put this before each parameter's name.
PREFIX = "base_model.model."

# Options of PEFT that change what an adapter computes, with the values that change nothing.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "megatron_config": (None,),
    "use_qalora": (False, None),
    "trainable_token_indices": (None,),
}

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"


@checked
class LoraConfig:
    """Adapters (LoRA): how large, how strong, and beside which layers.

    One group of options for every command that trains an existing model: rank 16 freezes the base
    and trains adapters beside its linear layers; rank 0 trains the whole model.
    """

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
                "lora.alpha, lora.dropout and lora.targets change adapters, but lora.rank is 0,"
                " which trains the whole model; give --lora.rank 16, for example"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers that get adapters, in the model's order."""
        every = ALL_LINEAR in self.targets
        return tuple(name for name in LINEAR_LAYERS if every or name in self.targets)

    @property
    def scale(self) -> float:
        """The factor of an adapter's output."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Adapter:
    """The adapters of a model: their numbers, their layers and their base.

    Attributes:
        rank, alpha, dropout: LoRA's.
        layers: the last names of the layers that have adapters: `q_proj` …
        scale: the factor of an adapter's output.
        base: the base model's folder.
        fingerprint: the hash of the base's weights; "" where unknown.
        whole: the last names of modules that are trained whole (a reward model's `score`).
    """

    rank: int
    alpha: float
    dropout: float
    layers: tuple[str, ...]
    scale: float
    base: str
    fingerprint: str
    whole: tuple[str, ...] = ()

    def to_peft(self, architecture: str) -> dict[str, Any]:
        """The content of `adapter_config.json`."""
        classifies = architecture.endswith("ForSequenceClassification")
        return {
            "peft_type": "LORA",
            "task_type": "SEQ_CLS" if classifies else "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "revision": None,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "target_modules": list(self.layers),
            "modules_to_save": list(self.whole) or None,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "use_rslora": False,
            "use_dora": False,
            "rank_pattern": {},
            "alpha_pattern": {},
        }


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (Path(folder) / CONFIG).is_file()


def read_adapter(folder: str | Path) -> Adapter:
    """Read an adapter's folder, ours or PEFT's.

    Raises ConfigError for an adapter that is not plain LoRA, CorruptError for a broken file.
    """
    path = Path(folder) / CONFIG
    values = fs.read_json(path)
    if not isinstance(values, dict):
        raise CorruptError(f"{path} must hold a JSON object")
    if values.get("peft_type") != "LORA":
        raise ConfigError(
            f"{path}: peft_type {values.get('peft_type')!r}: only LORA is opened here"
        )
    for key, plain in _PLAIN.items():
        if values.get(key) not in plain:
            raise ConfigError(
                f"{path}: {key} is {values[key]!r}; only plain LoRA ({plain[0]!r}) is supported:"
                " merge the adapter with peft (merge_and_unload)"
            )
    try:
        rank, alpha = int(values["r"]), float(values["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{path}: r and lora_alpha must be numbers: {error}") from error
    layers = values.get("target_modules")
    return Adapter(
        rank=rank,
        alpha=alpha,
        dropout=float(values.get("lora_dropout") or 0.0),
        layers=tuple(layers) if isinstance(layers, list) else (),
        # Rank-stabilised LoRA (Kalajdzievski 2023, arXiv:2312.03732) divides by the root.
        scale=alpha / (math.sqrt(rank) if values.get("use_rslora") else rank),
        base=str(values.get("base_model_name_or_path") or ""),
        fingerprint=recorded_fingerprint(Path(folder)),
        whole=tuple(values.get("modules_to_save") or ()),
    )


def find_base(folder: str | Path, base: str = "") -> Path:
    """The folder of an adapter's base model.

    Args:
        folder: the adapter's folder.
        base: where the base lies now; "" takes the path that the adapter names.

    Raises InputError when the base does not exist or is itself an adapter.
    """
    named = base or read_adapter(folder).base
    advice = "name it: hanllama model merge ADAPTER --base FOLDER --output FOLDER"
    if not named:
        raise InputError(f"{folder} is an adapter that names no base model; {advice}")
    found = Path(named)
    if not found.is_dir():
        raise InputError(
            f"{folder} is an adapter of the model in {found}, which does not exist; {advice}"
        )
    if is_adapter(found):
        raise InputError(f"{found}, the base of {folder}, is itself an adapter: merge that first")
    return found


def require_same_base(folder: Path, adapter: Adapter) -> None:
    """Raise ResumeError when a checkpoint's adapters belong to another base."""
    if recorded_fingerprint(folder) != adapter.fingerprint:
        raise ResumeError(
            f"the adapters in {folder} belong to another base: the weights in {adapter.base} have"
            " changed; restore them, or start again in another output folder"
        )


def recorded_fingerprint(folder: Path) -> str:
    """The hash of the base's weights that an adapter's folder records; "" if it has none."""
    path = folder / BASE
    return str(fs.read_json(path)["weights"]) if path.is_file() else ""
