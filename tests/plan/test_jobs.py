"""What is planned: trainings with their steps, from data, from a recipe, from a preset."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import folders
from builders.plans import forecasts
from hanllama.base import config as configs
from hanllama.plan.jobs import jobs
from hanllama.plan.options import PlanConfig


def test_steps_come_from_the_data_where_it_is(tmp_path: Path) -> None:
    data = folders.shards(tmp_path / "data", folders.tokenizer(tmp_path / "tokenizer"))
    config = folders.pretrain_config(data, tmp_path / "run", max_steps=0, epochs=2.0)
    path = tmp_path / "tiny.yaml"
    path.write_text(configs.to_yaml(config), encoding="utf-8")
    (job,) = jobs(PlanConfig(training=str(path)))
    (found,) = forecasts(str(path), "--devices", "a100")
    assert found["steps"] == round(2 * job.rows / 8) and found["epochs"] == pytest.approx(
        2, rel=0.1
    )
    assert found["vocab_size"] == 400 and found["tokens_in_data"] == job.n_predictions
    assert 0.9 < job.n_predictions / (job.rows * 32) <= 1


def test_a_recipe_is_planned_by_name_before_its_data_exists() -> None:
    (found,) = forecasts("novels-tiny", "--devices", "rtx4090")
    assert found["name"] == "novels-tiny: pretrain"
    assert (found["vocab_size"], found["context"]) == (12000, 256)
    assert found["epochs"] is None and found["steps"] > 0
