"""Promises of `train/speed.py`: a share of the peak is a share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from builders import folders
from hanllama.train import speed


@pytest.mark.parametrize(("half", "expected"), [(1e9, 4e9), (9e9, 9e9)])
def test_a_cpu_that_is_slow_in_half_precision_is_held_to_what_it_can_do(
    half: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {torch.bfloat16: half, torch.float32: 4e9}
    monkeypatch.setattr(speed, "_measured_matmul_flops", measured.__getitem__)
    speed.peak_flops.cache_clear()
    try:
        assert speed.peak_flops(torch.device("cpu"), torch.bfloat16) == expected
        assert speed.peak_flops(torch.device("cpu"), torch.float32) == 4e9
    finally:
        speed.peak_flops.cache_clear()  # no other test is to see made-up figures


def test_a_model_without_a_head_over_the_vocabulary_does_no_work_for_it() -> None:
    shape = folders.SHAPE.resolve(50_000, 128, bos_token_id=1, eos_token_id=2, pad_token_id=3)
    larger = replace(shape, vocab_size=60_000)
    found = [speed.flops_per_token(config, 128, head=False) for config in (shape, larger)]
    assert found[0] == found[1]
    with_head = [speed.flops_per_token(config, 128) for config in (shape, larger)]
    assert with_head[0] - found[0] == 6 * 50_000 * shape.hidden_size
    assert with_head[1] - with_head[0] == 6 * 10_000 * shape.hidden_size


def test_utilisation_is_arithmetic_over_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "peak_flops", lambda device, dtype: 1000.0)
    counted = speed.Speed(10.0, torch.device("cpu"), torch.float32, processes=2)
    assert counted.mfu == 0.0
    counted.add(tokens=100, seconds=2)
    counted.add(tokens=200, seconds=4)
    assert counted.tokens_per_second == 50
    assert counted.mfu == 50 * 10 / 2000
