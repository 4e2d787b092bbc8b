"""Tiny real things for tests of fine-tuning: a base model, conversations, a run's config."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from builders import folders
from hanllama.base import fs
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import save_model
from hanllama.model.llama import Llama
from hanllama.train.sft.config import SftConfig, SftLoopConfig, SftOptimConfig


def base(folder: Path, context: int = 128) -> Path:
    """A base model's folder: fresh weights, a trained tokenizer without a chat template."""
    tokenizer = folders.tokenizer(folder.with_name("tokenizer"))
    shape = folders.SHAPE.resolve(400, context, bos_token_id=1, eos_token_id=2, pad_token_id=3)
    model = Llama(shape, torch.Generator().manual_seed(0))
    with fs.publish(folder) as beside:
        save_model(beside, model, tokenizer, ModelCard("base"))
    return folder


def records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of one to three rounds and of very uneven length, in the house form."""
    draw = random.Random(f"sft {seed}")
    found = []
    for number in range(count):
        messages = []
        for turn in range(draw.randint(1, 3)):
            question = f"{number}、{folders.text(seed * 1000 + number * 10 + turn, 1)[:6]}？"
            answer = folders.text(seed * 1000 + number * 10 + turn + 5, draw.choice((1, 1, 2)))
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        found.append({"messages": messages, "grade": number % 3})
    return found


def write(path: Path, lines: Sequence[Any]) -> Path:
    """Records as JSON lines; a text is written as it is."""
    rows = [
        line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
    ]
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def config(data: Path, base_model: Path, output: Path, **changes: Any) -> SftConfig:
    """A run of a second. Options of the loop are known by name, the rest are the command's."""
    loop: dict[str, Any] = {
        "max_steps": 24,
        "batch_size": 8,
        "micro_batch_size": 8,
        "log_every": 1,
        "save_every": 12,
        "eval_rows": 8,
        "sample_tokens": 0,
        "device": "cpu",
        "trackers": (),
    }
    own = {k: changes.pop(k) for k in list(changes) if k in SftLoopConfig.__dataclass_fields__}
    settings = {
        "template": "llama2",
        "heldout_share": 0.2,
        "optim": SftOptimConfig(learning_rate=3e-3),
        "loop": SftLoopConfig(**{**loop, **own}),
        **changes,
    }
    return SftConfig(data=(str(data),), base_model=str(base_model), output=str(output), **settings)
