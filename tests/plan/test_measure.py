"""The device here is measured by the real loop, which leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from builders import folders
from builders.plans import forecasts
from hanllama.base import config as configs
from hanllama.plan.jobs import jobs
from hanllama.plan.measure import measure
from hanllama.plan.options import PlanConfig


def test_here_is_measured_by_running_the_loop(tmp_path: Path) -> None:
    data = folders.shards(tmp_path / "data", folders.tokenizer(tmp_path / "tokenizer"))
    config = folders.pretrain_config(data, tmp_path / "run", batch_size=32, micro_batch_size=8)
    path = tmp_path / "tiny.yaml"
    path.write_text(configs.to_yaml(config), encoding="utf-8")
    (found,) = forecasts(str(path), "--devices", "here")
    device = found["devices"][0]
    assert device["basis"] == "measured" and device["tokens_per_second"] > 0
    (job,) = jobs(PlanConfig(training=str(path)))
    assert job.micros(1) == 4 and job.micros(3) == 2
    micro, rest = measure(job, 4, 0.01)
    assert 0 < micro < 5 and 0 <= rest < 5
    assert not (tmp_path / "run").exists()  # a plan leaves nothing behind
