"""Plans for tests: the command called as a user calls it, and a config file of a tiny shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hanllama.base import config as configs
from hanllama.plan.options import PlanConfig
from hanllama.plan.plan import plan

SHAPE = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
}


def forecasts(*words: str) -> list[dict[str, Any]]:
    """What the command gives back for these words, one for each training."""
    return plan(configs.parse(PlanConfig, words, "hanllama plan"))["plans"]


def written(folder: Path, **values: Any) -> str:
    """The path of a pretrain config of these values."""
    path = folder / "pretrain.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return str(path)
