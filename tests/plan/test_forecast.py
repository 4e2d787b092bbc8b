"""A forecast: steps and FLOPs worked by hand, prices that follow, advice to act on."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.plans import SHAPE, forecasts, written


def test_parameters_steps_and_flops_are_those_worked_by_hand(tmp_path: Path) -> None:
    path = written(
        tmp_path, context=4, model=SHAPE, loop={"batch_size": 6, "micro_batch_size": 2, "epochs": 3}
    )
    (found,) = forecasts(path, "--vocab-size", "10", "--tokens", "400", "--devices", "h100")
    # A layer: q and o 8x8, k and v 8x4, three 8x16, two norms of 8: 128 + 64 + 384 + 16 = 592.
    body = 2 * 592 + 8
    assert found["parameters_without_embeddings"] == body == 1192
    assert found["parameters"] == 1192 + 10 * 8
    # 100 rows of 4, three times over, by 6 rows a step; 24 tokens each.
    assert (found["rows"], found["tokens_per_step"], found["steps"]) == (100, 24, 50)
    assert found["epochs"] == pytest.approx(3.0)
    # 6 a multiplying parameter (the tied head counts), 6 x layers x width x context of attention.
    per_token = 6 * (1192 + 80) + 6 * 2 * 8 * 4
    assert found["flops_per_token"] == per_token == 8016
    assert found["flops"] == 8016 * 24 * 50


def test_a_preset_and_a_number_of_tokens_suffice() -> None:
    words = ("--preset", "baby-llama2-115m", "--tokens", "868e6", "--devices", "h100,rtx3090")
    (found,) = forecasts(*words)
    assert found["parameters"] == 109_529_856
    assert found["tokens"] == pytest.approx(868e6, rel=1e-3)
    first, second = found["devices"]
    assert first["device"] == "h100" and second["device"] == "rtx3090"
    (dear,) = forecasts(*words, "--price", "10", "--mfu", "0.2")
    # Half or two thirds of the speed, and ten dollars for each hour of it.
    device = dear["devices"][0]
    assert device["mfu"] == pytest.approx(0.2)
    assert device["cost"] == pytest.approx(10 * device["hours"])
    work = found["flops"] / (989e12 * 0.2)
    assert device["training_seconds"] == pytest.approx(work)
    (four,) = forecasts(*words, "--mfu", "0.2", "--count", "4")
    assert four["devices"][0]["training_seconds"] == pytest.approx(work / 4)


def test_a_model_that_does_not_fit_is_told_which_setting_to_lower() -> None:
    words = ("--preset", "tiny-llama2-256m", "--tokens", "1e9", "--micro-batch-size", "32")
    (found,) = forecasts(*words, "--devices", "rtx3060")
    device = found["devices"][0]
    assert not device["fits"]
    assert "lower loop.micro_batch_size from 32 to " in device["advice"]
    rows = device["advice"].split(" to ")[1].split()[0]
    (smaller,) = forecasts(*words[:-1], rows, "--devices", "rtx3060")
    assert smaller["devices"][0]["fits"]
    (huge,) = forecasts("--preset", "llama2-70b", "--tokens", "1e9", "--devices", "h100")
    assert "not even one row fits" in huge["devices"][0]["advice"]
