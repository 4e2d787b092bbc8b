"""A tiny chat model and preferences of uneven length: what tests of dpo and reward begin with."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builders import folders
from hanllama.model.llama import Llama
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.preferences.config import (
    DpoConfig,
    DpoOptimConfig,
    PreferenceLoopConfig,
    RewardConfig,
    RewardOptimConfig,
)
from hanllama.train.preferences.data import PreferenceRows, Row, read_rows
from hanllama.train.preferences.objective import Split
from hanllama.train.sequences import pack_sequences, sequence_log_probs


def base_model(place: Path, seed: int = 0) -> Path:
    """A random chat model's folder."""
    return folders.chat_model(place, seed)


def records(count: int, seed: int = 3) -> list[dict[str, Any]]:
    """Questions with a good answer that ends a sentence and a bad one that goes astray."""
    draw = random.Random(f"preferences {seed}")
    lines = sorted(set(folders.text(seed, 6 * count).split("\n")))
    draw.shuffle(lines)
    made = []
    for line in lines[:count]:
        good = line[3:] * draw.choice((1, 1, 2, 5))
        bad = draw.choice(lines)[: draw.randint(1, 8)] * draw.choice((1, 1, 3))
        made.append(
            {"prompt": line[:3] + "？" * draw.randint(1, 4), "chosen": good, "rejected": bad}
        )
    return made


def write(path: Path, made: list[dict[str, Any]]) -> Path:
    """Records as JSON lines."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in made)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def rows(
    base: Path,
    data: Path,
    *,
    paired: bool = True,
    template: str = "",
    context: int = 160,
    notes: Path | None = None,
    **changed: Any,
) -> PreferenceRows:
    """The data encoded with the base model's tokenizer."""
    settings = {"heldout_share": 0.0, "max_quarantine_share": 1.0, **changed}
    config = dpo_config(data, Path("unused"), base, **settings)
    chosen = ChatTemplate(load_tokenizer(base), template)
    return read_rows(config, chosen, paired=paired, context=context, notes=notes)


@torch.no_grad()
def compared(reference: Llama, given: list[Row]) -> Split:
    """Rows with what a reference model thinks of them, a sequence at a time."""
    values = []
    for row in given:
        for sequence in (row.first, row.second):
            batch = pack_sequences([sequence], 0)
            sums_S, _ = sequence_log_probs(reference, batch)
            values.append(float(sums_S[0]))
    return Split(given, np.array(values, dtype=np.float32).reshape(-1, 2))


def loop(**changed: Any) -> PreferenceLoopConfig:
    """A short, quiet run."""
    settings: dict[str, Any] = {
        "max_steps": 24,
        "batch_size": 8,
        "micro_batch_size": 4,
        "log_every": 1,
        "save_every": 12,
        "sample_tokens": 0,
        "device": "cpu",
        "trackers": (),
        **changed,
    }
    return PreferenceLoopConfig(**settings)


def dpo_config(data: Path, output: Path, base: Path, **changed: Any) -> DpoConfig:
    """A run of a preference loss that takes a second."""
    settings: dict[str, Any] = {
        "data": (str(data),),
        "output": str(output),
        "base_model": str(base),
        "heldout_share": 0.2,
        "optim": DpoOptimConfig(learning_rate=1e-3),
        "loop": loop(**changed.pop("loop", {})),
        **changed,
    }
    return DpoConfig(**settings)


def reward_config(data: Path, output: Path, base: Path, **changed: Any) -> RewardConfig:
    """A run of a reward model that takes a second."""
    settings: dict[str, Any] = {
        "data": (str(data),),
        "output": str(output),
        "base_model": str(base),
        "heldout_share": 0.2,
        "optim": RewardOptimConfig(learning_rate=1e-3),
        "loop": loop(**changed.pop("loop", {})),
        **changed,
    }
    return RewardConfig(**settings)


def metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
