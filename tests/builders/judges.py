"""A random chat model with a random reward model, and a conversation that few templates take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from builders import folders
from hanllama.base import fs
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import save_model
from hanllama.model.llama import Llama
from hanllama.model.reward import RewardModel
from hanllama.tokenizer import chat
from hanllama.tokenizer.load import load_tokenizer

TOOL = [
    {"role": "user", "content": "今天下雨吗？"},
    {"role": "assistant", "content": "我看看。"},
    {"role": "tool", "content": "晴"},
    {"role": "assistant", "content": "今天晴。"},
]


def models(place: Path, template: str) -> tuple[Path, Path]:
    """A random chat model and a random reward model on one tokenizer."""
    tokenizer = folders.tokenizer(place / "tokenizer")
    (tokenizer / chat.FILE).write_text(chat.source(template), encoding="utf-8")
    config = folders.grouped(load_tokenizer(tokenizer).vocab_size, 160)
    torch.manual_seed(4)
    with fs.publish(place / "model") as folder:
        save_model(folder, Llama(config), tokenizer, ModelCard("tiny"))
    with fs.publish(place / "reward") as folder:
        save_model(folder, RewardModel(config), tokenizer, ModelCard("tiny"))
    return place / "model", place / "reward"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
