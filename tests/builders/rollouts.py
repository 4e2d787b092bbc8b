"""A tiny chat model, prompts and a toy reward: what tests of reinforcement learning begin with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from builders import folders
from hanllama.base import fs
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import save_model
from hanllama.model.llama import Llama
from hanllama.model.reward import padding_id, reward_model_from
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.objective import Micro, Objective
from hanllama.train.parallel import World
from hanllama.train.rl.config import (
    GrpoConfig,
    PpoConfig,
    RlLoopConfig,
    RlOptimConfig,
    RolloutConfig,
    ScoringConfig,
)
from hanllama.train.rl.data import PromptReader, encode_prompts
from hanllama.train.rl.experience import Setting
from hanllama.train.rl.scoring import Scorer, build_rules

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ m['content'] + '：' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)

EVEN = '''"""The toy task: the share of even ids in an answer, its end token 2 left out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reward:
    def __call__(self, answer):
        ids = [i for i in answer.ids if i != 2]
        return sum(i % 2 == 0 for i in ids) / max(len(ids), 1)
'''


def chat_model(
    folder: Path,
    seed: int = 0,
    vocab_size: int = 400,
    *,
    template: str = TEMPLATE,
    context: int = 64,
) -> Path:
    """A random 2-layer chat model with a template of its own; without one, a base model."""
    tokenizer = folders.tokenizer(folder.with_name(folder.name + "-tokenizer"), vocab_size)
    if template:
        (tokenizer / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokens = load_tokenizer(tokenizer)
    config = folders.SHAPE.resolve(
        tokens.vocab_size,
        context,
        bos_token_id=tokens.bos_id,
        eos_token_id=tokens.eos_id,
        pad_token_id=tokens.pad_id,
    )
    model = Llama(config, torch.Generator().manual_seed(seed))
    with fs.publish(folder) as beside:
        save_model(beside, model, tokenizer, ModelCard(name="tiny"))
    return folder


def reward_model(folder: Path, base: Path) -> Path:
    """The model in `base` under a fresh head."""
    model = reward_model_from(base, 0, 3)
    with fs.publish(folder) as beside:
        save_model(beside, model, base, ModelCard(name="tiny"))
    return folder


def prompts(path: Path, count: int = 40) -> Path:
    """Different prompts, a line each, with an answer."""
    lines = folders.text(5, 4 * count).split("\n")
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


def loop(**changed: Any) -> RlLoopConfig:
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
    return RlLoopConfig(**settings)


def ppo_config(data: Path, output: Path, base: Path, rule: Path | str, **changed: Any) -> PpoConfig:
    """PPO on the toy reward: two mini-batches, two passes."""
    loop_changes = changed.pop("loop", {})
    settings: dict[str, Any] = {
        "data": (str(data),),
        "output": str(output),
        "base_model": str(base),
        "reward": ScoringConfig(rules=(str(rule),)),
        "heldout_share": 0.2,
        "mini_batches": 2,
        "ppo_epochs": 2,
        "rollout": RolloutConfig(max_new_tokens=8),
        "optim": RlOptimConfig(learning_rate=1e-2, warmup=0.0, schedule="constant"),
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
        "reward": ScoringConfig(rules=(str(rule),)),
        "heldout_share": 0.2,
        "group_size": 4,
        "mini_batches": 2,
        "rollout": RolloutConfig(max_new_tokens=8),
        "optim": RlOptimConfig(learning_rate=1e-2, warmup=0.0, schedule="constant"),
        "loop": loop(**loop_changes),
        **changed,
    }
    return GrpoConfig(**settings)


def metrics(run: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def setting(base: Path, data: Path, rule: Path | str, **changed: Any) -> Setting:
    """Where answers are written and scored, without a command around it."""
    tokenizer = load_tokenizer(base)
    template = ChatTemplate(tokenizer)
    reader = PromptReader([str(data)])
    settings: dict[str, Any] = {
        "prompts": encode_prompts(list(reader), template, 56, 0.2, 0),
        "scorer": Scorer(build_rules([str(rule)]), tokenizer),
        "reference": None,
        "end_ids": template.end_ids,
        "vocab_size": tokenizer.vocab_size,
        "pad": padding_id(tokenizer, template.end_ids),
        "world": World(),
        "fingerprint": {},
        **changed,
    }
    return Setting(**settings)


def livelier(model: Llama, seed: int, std: float = 0.05) -> Llama:
    """The model with noise added to its weights: other log-probabilities, other lengths."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += std * torch.randn(parameter.shape, generator=generator)
    return model


def gradients(objective: Objective, step: int = 0) -> tuple[float, list[torch.Tensor]]:
    """A step's loss and gradient, over all trained models, as the loop makes them."""
    micros = objective.prepare(step)
    return gradients_of(objective, micros, sum(m.weight for m in micros))


def gradients_of(
    objective: Objective, micros: Sequence[Micro], total: float
) -> tuple[float, list[torch.Tensor]]:
    """The same of micro-batches, whose losses are divided by `total`."""
    parameters = [*objective.model.parameters()]
    for module in objective.further_models().values():
        parameters += list(module.parameters())
    for parameter in parameters:
        parameter.grad = None
    loss = 0.0
    for micro in micros:
        value = objective.loss(micro) / total
        value.backward()  # type: ignore[no-untyped-call]
        loss += float(value.detach())
    zero = torch.zeros(())
    return loss, [(zero if p.grad is None else p.grad).clone() for p in parameters]
