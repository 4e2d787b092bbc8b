"""The reward model's loss and its figures, worked by hand; a run of the command."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import pairs
from hanllama.base.errors import InputError
from hanllama.model.adapter import LoraConfig
from hanllama.model.checkpoint import load_model
from hanllama.model.reward import is_reward_model, load_reward_model
from hanllama.train import run_report, speed
from hanllama.train.preferences.reward import bradley_terry, calibrated, length_bias, reward


def test_losses_bradley_terry_by_hand() -> None:
    """Leads ln 3 + 1 and 0, margins 1 and 0: -log(3/4) and log 2; then 0.5 x the sums squared."""
    chosen, rejected = torch.tensor([2.0, 0.5]), torch.tensor([1 - math.log(3.0), 0.5])
    margin = torch.tensor([1.0, 0.0])
    plain = bradley_terry(chosen, rejected, margin, 0.0)
    assert plain.tolist() == pytest.approx([math.log(4 / 3), math.log(2)])
    sums = [3 - math.log(3.0), 1.0]
    centred = bradley_terry(chosen, rejected, margin, 0.5)
    expected = [math.log(4 / 3) + 0.5 * sums[0] ** 2, math.log(2) + 0.5]
    assert centred.tolist() == pytest.approx(expected)


def test_calibration_by_hand() -> None:
    """Ten pairs at 3 : 1 of which 6 are right, ten at 19 : 1 of which all are."""
    sure, surer = math.log(3.0), math.log(19.0)
    leads = np.array([sure] * 6 + [-sure] * 4 + [surer] * 10)
    error, table = calibrated(leads)
    assert error == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    assert table == [["70% to 80%", 10, "75.0%", "60.0%"], ["90% to 100%", 10, "95.0%", "100.0%"]]


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    lead = math.log(4.0)
    assert calibrated(np.array([lead] * 8 + [-lead] * 2))[0] == pytest.approx(0.0)


def test_length_bias_by_hand() -> None:
    """A model that rewards length and nothing else: correlation 1, right where the longer wins."""
    chosen, rejected = np.array([9.0, 4.0, 5.0, 2.0]), np.array([3.0, 8.0, 5.0, 1.0])
    figures, table = length_bias(chosen, rejected, chosen, rejected)
    assert figures == {"length_correlation": pytest.approx(1.0), "longer_wins": 0.625}
    assert table == [["longer", 2, "100.0%"], ["as long", 1, "0.0%"], ["shorter", 1, "0.0%"]]
    constant = np.ones(4)
    assert length_bias(constant, constant, chosen, rejected)[0]["length_correlation"] == 0.0


def test_the_report_says_when_length_does_as_well() -> None:
    figures = {"step": 9, "heldout_loss": 0.3, "heldout_accuracy": 0.9, "heldout_longer_wins": 0.95}
    texts = [words for _, words in run_report.verdicts([], [figures], 9, 9)]
    assert any("95.0% of the held-out pairs, and the model is right in 90.0%" in t for t in texts)
    better = {**figures, "heldout_longer_wins": 0.6}
    assert not any("longer" in words for _, words in run_report.verdicts([], [better], 9, 9))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("reward")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return pairs.base_model(folder / "base")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return pairs.write(folder / "data.jsonl", pairs.records(60))


@pytest.fixture(scope="module")
def trained(folder: Path, base: Path, data: Path) -> Path:
    reward(pairs.reward_config(data, folder / "run", base))
    return folder / "run"


def test_a_reward_model_learns_and_says_what_it_is_worth(trained: Path) -> None:
    lines = pairs.metrics(trained)
    steps = [line for line in lines if "loss" in line]
    assert steps[-1]["loss"] < 0.6 * steps[0]["loss"]
    assert {"accuracy", "margin", "reward_chosen", "reward_rejected"} <= steps[0].keys()
    heldout = [line for line in lines if "heldout_loss" in line][-1]
    assert heldout["heldout_accuracy"] > 0.8
    assert 0 <= heldout["heldout_calibration_error"] <= 1
    assert -1 <= heldout["heldout_length_correlation"] <= 1
    assert 0 <= heldout["heldout_longer_wins"] <= 1
    with_head = speed.flops_per_token(load_reward_model(trained / "model").config, context=0)
    peak = speed.peak_flops(torch.device("cpu"), torch.float32)
    assert steps[-1]["mfu"] < steps[-1]["tokens_per_second"] * with_head / peak, "it has no head"
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Held-out pairs by how sure the model is" in page and "Held-out pairs by length" in page
    assert "Heldout length correlation" in page
    card = (trained / "model" / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForSequenceClassification" in card and "text-classification" in card


def test_a_reward_model_learns_on_from_another(trained: Path, data: Path, tmp_path: Path) -> None:
    assert is_reward_model(trained / "model")
    config = pairs.reward_config(data, tmp_path / "run", trained / "model", loop={"max_steps": 1})
    reward(config)
    before = [x for x in pairs.metrics(trained) if "loss" in x]
    after = [x for x in pairs.metrics(tmp_path / "run") if "loss" in x]
    assert after[0]["loss"] < 0.5 * before[0]["loss"]


def test_a_reward_models_adapters_are_merged_when_opened(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """Trained are adapters and the whole head; opened, they give a reward model like any other."""
    config = pairs.reward_config(
        data, tmp_path / "run", base, lora=LoraConfig(rank=4), loop={"max_steps": 3}
    )
    reward(config)
    found = tmp_path / "run" / "model"
    assert is_reward_model(found) and not (found / "model.safetensors").exists()
    merged = load_reward_model(found)
    plain = load_model(base)
    changed = merged.model.layers[0].mlp.up_proj.weight - plain.model.layers[0].mlp.up_proj.weight
    assert float(changed.detach().abs().max()) > 0


def test_margins_count_unless_told_otherwise(base: Path, folder: Path, tmp_path: Path) -> None:
    made = [{**record, "margin": 3.0} for record in pairs.records(20)]
    data = pairs.write(tmp_path / "data.jsonl", made)
    first = {}
    for margin in (True, False):
        output = tmp_path / f"run-{margin}"
        loop = {"max_steps": 1}
        reward(pairs.reward_config(data, output, base, margin=margin, loop=loop))
        first[margin] = pairs.metrics(output)[0]["loss"]
    assert first[True] > first[False] + 1


def test_a_language_model_is_no_reward_model(base: Path) -> None:
    with pytest.raises(InputError, match="not a reward model"):
        load_reward_model(base)
