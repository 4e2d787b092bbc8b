"""The learning rate is a function of the step; weight decay spares vectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hanllama.base.errors import ConfigError
from hanllama.train.config import LoopConfig, OptimConfig
from hanllama.train.optim import build_optimizer, learning_rate


def rates(schedule: str, steps: int = 100, **options: float) -> list[float]:
    config = OptimConfig(learning_rate=1.0, schedule=schedule, **options)  # type: ignore[arg-type]
    return [learning_rate(step, steps, config) for step in range(steps)]


def test_cosine() -> None:
    found = rates("cosine", warmup=0.1, min_learning_rate=0.2)
    assert found[0] == pytest.approx(0.1) and found[9] == found[10] == 1.0
    assert found[-1] == pytest.approx(0.2)
    middle = 10 + 89 / 2
    assert 0.59 < found[int(middle)] < 0.61 and 0.59 < found[int(middle) + 1] < 0.61
    assert found[10:] == sorted(found[10:], reverse=True)


def test_warmup_stable_decay() -> None:
    found = rates("wsd", warmup=0.1, decay=0.2, min_learning_rate=0.0)
    assert found[10:81] == [1.0] * 71
    assert found[90] == pytest.approx(0.5) and found[99] == pytest.approx(0.05)


def test_constant_and_no_warmup() -> None:
    assert rates("constant", warmup=0.0) == [1.0] * 100
    assert all(math.isfinite(r) for r in rates("cosine", steps=1))


def test_norms_are_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4))
    groups = build_optimizer(model, OptimConfig(weight_decay=0.3)).param_groups
    assert [(g["weight_decay"], {p.dim() for p in g["params"]}) for g in groups] == [
        (0.3, {2}),
        (0.0, {1}),
    ]


def test_frozen_parameters_have_no_moments() -> None:
    model = nn.Linear(4, 4, bias=True)
    model.weight.requires_grad_(False)
    groups = build_optimizer(model, OptimConfig()).param_groups
    assert [p.shape for g in groups for p in g["params"]] == [torch.Size([4])]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimConfig(learning_rate=0), "learning_rate must be .* not 0"),
        (lambda: OptimConfig(warmup=1.5), "warmup must be .* not 1.5"),
        (
            lambda: OptimConfig(schedule="wsd", warmup=0.5, decay=0.6),
            "warmup 0.5 and optim.decay 0.6",
        ),
        (lambda: OptimConfig(beta2=1.0), "beta2 must be .* not 1.0"),
        (lambda: OptimConfig(epsilon=0.0), "epsilon must be .* not 0.0"),
        (lambda: OptimConfig(max_grad_norm=-1.0), "max_grad_norm must be .* not -1.0"),
        (lambda: LoopConfig(eval_rows=-1), "eval_rows must be .* not -1"),
        (lambda: LoopConfig(batch_size=0), "batch_size must be .* not 0"),
        (lambda: LoopConfig(max_steps=0, epochs=0), "must be positive"),
    ],
)
def test_impossible_settings(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_epochs_become_steps() -> None:
    assert LoopConfig(epochs=2.0, batch_size=10).with_steps(rows=105).max_steps == 21
    assert LoopConfig(max_steps=7, epochs=2.0).with_steps(rows=105).max_steps == 7
