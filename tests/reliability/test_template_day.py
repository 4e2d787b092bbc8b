"""A run whose template tells the model the day goes on the next day with the same ids."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import pairs, rollouts
from hanllama.base import fs
from hanllama.base.errors import Interrupted
from hanllama.tokenizer import chat
from hanllama.train import checkpoints, command
from hanllama.train.preferences.dpo import dpo
from hanllama.train.preferences.reward import reward
from hanllama.train.rl.grpo import grpo
from hanllama.train.rl.ppo import ppo

FIRST = datetime.date(2026, 1, 31)
SAYS_THE_DAY = "{{ strftime_now('%d %B') }}\n"


class Calendar:
    """Stands for `datetime.date` where the training commands ask for the day."""

    fromordinal = datetime.date.fromordinal

    def __init__(self) -> None:
        self.day = FIRST

    def today(self) -> datetime.date:
        return self.day


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    torch.set_num_threads(1)
    found = Calendar()
    monkeypatch.setattr(command, "date", found)
    return found


def dated(base: Path) -> Path:
    """The model with a template that begins with the day."""
    template = base / chat.FILE
    template.write_text(SAYS_THE_DAY + template.read_text(encoding="utf-8"), encoding="utf-8")
    (base / fs.SUMS).unlink()
    fs.write_sums(base)
    return base


@pytest.mark.parametrize("kind", ["dpo", "reward", "ppo", "grpo"])
def test_resume_exact_after_midnight(kind: str, tmp_path: Path, calendar: Calendar) -> None:
    run = _command(kind, tmp_path)
    run(tmp_path / "whole", {})
    with pytest.raises(Interrupted):
        run(tmp_path / "run", {"stop_at": 2})
    calendar.day = FIRST + datetime.timedelta(days=1)
    run(tmp_path / "run", {})
    (last,) = checkpoints.all_in(tmp_path / "run" / "checkpoints")[-1:]
    assert checkpoints.read_state(last).fingerprint["today"] == "2026-01-31"
    assert _losses(tmp_path / "run") == _losses(tmp_path / "whole") != []
    run(tmp_path / "next", {})
    assert _losses(tmp_path / "next") != _losses(tmp_path / "whole"), "the day is in the ids"


def _losses(output: Path) -> list[str]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [m["loss"].hex() for m in map(json.loads, lines) if "loss" in m]


def _command(kind: str, place: Path) -> Callable[[Path, dict[str, Any]], None]:
    """Calls the command with an output folder and changes of the loop."""
    if kind in ("dpo", "reward"):
        base = dated(pairs.base_model(place / "base"))
        data = pairs.write(place / "data.jsonl", pairs.records(20))
        make = pairs.dpo_config if kind == "dpo" else pairs.reward_config
        train: Any = dpo if kind == "dpo" else reward
        return lambda output, loop: train(make(data, output, base, loop={"max_steps": 8, **loop}))
    rollouts.chat_model(place / "base")
    base, data = dated(place / "base"), rollouts.prompts(place / "prompts.jsonl")
    rule = rollouts.even_rule(place / "even.py")
    learn, of = (ppo, rollouts.ppo_config) if kind == "ppo" else (grpo, rollouts.grpo_config)
    return lambda output, loop: learn(of(data, output, base, rule, loop={"max_steps": 8, **loop}))
