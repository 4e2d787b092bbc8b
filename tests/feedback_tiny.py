"""A random chat model with a random reward model, and a conversation that few templates take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import tiny
from hanllama import fs
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import save_model
from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig
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
    tokenizer = tiny.tokenizer(place / "tokenizer")
    (tokenizer / chat.FILE).write_text(chat.source(template), encoding="utf-8")
    config = LlamaConfig(
        vocab_size=load_tokenizer(tokenizer).vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=160,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(4)
    with fs.publish(place / "model") as folder:
        save_model(folder, Llama(config), tokenizer, ModelCard("tiny"))
    with fs.publish(place / "reward") as folder:
        save_model(folder, RewardModel(config), tokenizer, ModelCard("tiny"))
    return place / "model", place / "reward"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
