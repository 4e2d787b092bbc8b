"""Options of reinforcement learning and of preferences: none is taken in silence for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from hanllama.base.errors import ConfigError
from hanllama.train.preferences.config import DpoConfig, RewardConfig
from hanllama.train.rl.config import GrpoConfig, PpoConfig, RlLoopConfig, ScoringConfig

GIVEN: dict[str, Any] = {"data": ("prompts.jsonl",), "output": "run", "base_model": "model"}
SCORED = {**GIVEN, "reward": ScoringConfig(rules=("length",))}


@pytest.mark.parametrize(
    ("cls", "values"),
    [(PpoConfig, SCORED), (GrpoConfig, SCORED), (DpoConfig, GIVEN), (RewardConfig, GIVEN)],
)
def test_compiling_is_refused_where_it_would_do_nothing(cls: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"loop\.compile .*leave it out"):
        type(cls(**values).loop)(compile=True)


@pytest.mark.parametrize("cls", [PpoConfig, GrpoConfig])
def test_the_last_checkpoint_is_the_result_and_best_is_refused(cls: Any) -> None:
    assert cls(**SCORED).loop.result == "last"
    with pytest.raises(ConfigError, match=r"loop\.result best"):
        RlLoopConfig(result="best")


@pytest.mark.parametrize("cls", [PpoConfig, GrpoConfig])
def test_samples_of_a_chat_model_answer_a_question(cls: Any) -> None:
    assert all(cls(**SCORED).loop.sample_prompts)


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (PpoConfig, {"max_quarantine_share": 5}, "max_quarantine_share must be .* not 5"),
        (GrpoConfig, {"max_quarantine_share": -0.1}, "max_quarantine_share must be .* not -0.1"),
        (PpoConfig, {"value_weight": -1.0}, "value_weight must be .* not -1.0"),
        (PpoConfig, {"kl_target": 6.0, "kl_horizon": 127}, "127 is below the 128 answers"),
    ],
)
def test_a_number_without_a_meaning_is_refused(
    cls: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cls(**SCORED, **values)
