"""A tiny chat model, prompts and a toy reward: what tests of reinforcement learning begin with."""

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
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.config import LoopConfig
from hanllama.train.rl_config import (
    GrpoConfig,
    PpoConfig,
    RewardConfig,
    RlOptimConfig,
    RolloutConfig,
)

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ m['content'] + '：' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)

EVEN = '''"""The toy task: the share of an answer's token ids that are even."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reward:
    def __call__(self, answer):
        return sum(i % 2 == 0 for i in answer.ids) / len(answer.ids)
'''


def chat_model(folder: Path, seed: int = 0, vocab_size: int = 400) -> Path:
    """A random 2-layer chat model with a template of its own."""
    tokenizer = tiny.tokenizer(folder.with_name(folder.name + "-tokenizer"), vocab_size)
    (tokenizer / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokens = load_tokenizer(tokenizer)
    config = tiny.SHAPE.resolve(
        tokens.vocab_size,
        64,
        bos_token_id=tokens.bos_id,
        eos_token_id=tokens.eos_id,
        pad_token_id=tokens.pad_id,
    )
    model = Llama(config, torch.Generator().manual_seed(seed))
    with fs.publish(folder) as beside:
        save_model(beside, model, tokenizer, ModelCard(name="tiny"))
    return folder


def prompts(path: Path, count: int = 40) -> Path:
    """Different prompts, a line each, with an answer."""
    lines = tiny.text(5, 4 * count).split("\n")
    questions = sorted({line.rstrip("。") for line in lines})[:count]
    records = [{"prompt": question, "answer": "苹果"} for question in questions]
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8"
    )
    return path


def even_rule(path: Path) -> Path:
    """The toy reward as a user's own file."""
    path.write_text(EVEN, encoding="utf-8")
    return path


def loop(**changed: Any) -> LoopConfig:
    """A short, quiet run."""
    settings: dict[str, Any] = {
        "max_steps": 8,
        "batch_size": 8,
        "micro_batch_size": 8,
        "log_every": 1,
        "save_every": 4,
        "sample_tokens": 0,
        "device": "cpu",
        "trackers": (),
        **changed,
    }
    return LoopConfig(**settings)


def ppo_config(data: Path, output: Path, base: Path, rule: Path | str, **changed: Any) -> PpoConfig:
    """PPO on the toy reward: two mini-batches, two passes."""
    loop_changes = changed.pop("loop", {})
    settings: dict[str, Any] = {
        "data": (str(data),),
        "output": str(output),
        "base_model": str(base),
        "reward": RewardConfig(rules=(str(rule),)),
        "heldout": 0.2,
        "mini_batches": 2,
        "ppo_epochs": 2,
        "rollout": RolloutConfig(max_new_tokens=8),
        "optim": RlOptimConfig(learning_rate=3e-3, warmup=0.0),
        "loop": loop(**loop_changes),
        **changed,
    }
    return PpoConfig(**settings)


def grpo_config(
    data: Path, output: Path, base: Path, rule: Path | str, **changed: Any
) -> GrpoConfig:
    """GRPO on the toy reward: groups of four."""
    loop_changes = changed.pop("loop", {})
    settings: dict[str, Any] = {
        "data": (str(data),),
        "output": str(output),
        "base_model": str(base),
        "reward": RewardConfig(rules=(str(rule),)),
        "heldout": 0.2,
        "group_size": 4,
        "mini_batches": 2,
        "rollout": RolloutConfig(max_new_tokens=8),
        "optim": RlOptimConfig(learning_rate=3e-3, warmup=0.0),
        "loop": loop(**loop_changes),
        **changed,
    }
    return GrpoConfig(**settings)


def metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
