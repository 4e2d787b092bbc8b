"""Promises of `model/device.py`: oneDNN only where it is exact, and only as long as it is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from hanllama.model import device
from hanllama.model.device import ONEDNN_ROWS, fast_products, onednn, products_used

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def decided_anew() -> Iterator[None]:
    onednn.cache_clear()
    yield
    onednn.cache_clear()


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A processor with AVX-512, without AMX, whose products are exact."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(device, "_product_error", lambda: 4e-7)
    return monkeypatch


def precision() -> str:
    return str(torch.backends.mkldnn.matmul.fp32_precision)


def test_a_capable_processor_is_used_inside_the_block_alone(
    capable: pytest.MonkeyPatch,
) -> None:
    assert onednn() == (True, "AVX-512, exact to 4e-07")
    assert "oneDNN" in products_used(CPU)
    before = precision()
    with pytest.raises(KeyError), fast_products(CPU):
        assert precision() == "bf16"
        with fast_products(CPU, ONEDNN_ROWS - 1):
            assert precision() == "none", "few rows are slower there"
        assert precision() == "bf16"
        raise KeyError
    assert precision() == before
    assert torch.get_float32_matmul_precision() == "highest", "CUDA's switch was not touched"


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        (torch.cpu, "_is_amx_tile_supported", lambda: True, "AMX"),
        (torch.cpu, "_is_amx_tile_supported", None, "AMX"),  # a torch that cannot say
        (torch.backends.cpu, "get_cpu_capability", lambda: "AVX2", "no AVX-512"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT", "no AVX-512"),
        (torch.backends.mkldnn, "is_available", lambda: False, "no oneDNN"),
        (device, "_product_error", lambda: 2e-3, "off by 2e-03"),
        (device, "_product_error", lambda: math.nan, "off by nan"),
        (torch.backends.mkldnn, "matmul", SimpleNamespace(), "cannot switch"),
    ],
)
def test_another_one_is_left_alone_and_the_reason_said(
    capable: pytest.MonkeyPatch, place: object, name: str, value: object, reason: str
) -> None:
    before = precision()
    capable.setattr(place, name, value)
    chosen, why = onednn()
    assert not chosen and reason in why
    assert why in products_used(CPU) and "oneDNN (" not in products_used(CPU)
    with fast_products(CPU):
        torch.ones(2, 2) @ torch.ones(2, 2)
    capable.undo()
    assert precision() == before


def test_a_gpu_is_left_alone(capable: pytest.MonkeyPatch) -> None:
    before = precision()
    with fast_products(torch.device("cuda")):
        assert precision() == before
    assert products_used(torch.device("cuda")) == ""


def test_what_is_chosen_here_is_true_fp32_and_always_the_same() -> None:
    """On this machine, whatever it is: weights, their gradients, both sides of the head."""
    generator = torch.Generator().manual_seed(1)
    for m, k, n in [(1024, 288, 768), (17, 512, 6000), (512, 6000, 64), (16, 64, 64)]:
        a = torch.randn(m, k, generator=generator)
        b = torch.randn(n, k, generator=generator)
        exact = a.double() @ b.double().T
        with fast_products(CPU):
            found = [a @ b.T for _ in range(3)]
        assert float((found[0] - exact).norm() / exact.norm()) < 2e-6
        assert all(torch.equal(found[0], other) for other in found[1:])
