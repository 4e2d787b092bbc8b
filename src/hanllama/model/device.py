"""The device and the precision of a computation: what `auto`, `cuda:1`, `bfloat16` mean.

On a CPU, PyTorch gives fp32 matrix products to MKL, which takes twice as long as oneDNN on AMD
processors with AVX-512. It gives them to oneDNN when oneDNN may round to bf16; without AMX oneDNN
does not round, and computes in true fp32. `fast_products` allows this during a training step or a
batch of scores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from hanllama.base.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is the best one, and under torchrun each process's own GPU.

    Raises ConfigError when the machine has no such device.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device {name!r} is unknown: use auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} does not exist: {torch.cuda.device_count()} GPUs found; use auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' does not exist on this machine; use auto")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a name; `auto` is bfloat16 on a GPU that has it, float16 on other GPUs, float32
    elsewhere.

    A CPU without bf16 units computes bf16 several times slower than fp32.
    """
    if name != "auto":
        dtype = getattr(torch, name)
        assert isinstance(dtype, torch.dtype)
        return dtype
    if device.type != "cuda":
        return torch.float32
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bf16 else torch.float16


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Matrix products in `dtype` inside the block; float32 changes nothing."""
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype if enabled else None, enabled=enabled)


# Rows from which oneDNN is faster: 3 times slower than MKL at one row, equal at 4, 1.5 times
# faster at 16 (512 x 512).
ONEDNN_ROWS = 16
# An error relative to the norm: fp32 has 4e-7, TF32 and bf16 more than 1e-4.
_EXACT = 1e-5


@lru_cache(maxsize=1)
def onednn() -> tuple[bool, str]:
    """Whether fp32 products on this CPU go to oneDNN, and the reason in a few words.

    The processor's features and the error of one small product decide, never a clock: a resumed
    run must compute as before.
    """
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False, "no AVX-512"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False, "no oneDNN"
    if amx is None or amx():
        return False, "with AMX oneDNN would round to bf16"
    try:
        with _allowed("bf16"):
            error = _product_error()
    except (AttributeError, RuntimeError) as failure:
        return False, f"this torch cannot switch: {failure}"
    if not error < _EXACT:
        return False, f"oneDNN is off by {error:.0e}"
    return True, f"AVX-512, exact to {error:.0e}"


@contextmanager
def fast_products(device: torch.device, rows: int = ONEDNN_ROWS) -> Iterator[None]:
    """Compute the block's fp32 products with oneDNN if `onednn` found it exact.

    With fewer than ONEDNN_ROWS rows they stay with MKL. No effect on other devices.
    """
    if device.type != "cpu" or not onednn()[0]:
        yield
        return
    with _allowed("bf16" if rows >= ONEDNN_ROWS else "none"):
        yield


def products_used(device: torch.device) -> str:
    """The effect of `fast_products` on a device, for a run's first lines; empty on a GPU."""
    chosen, why = onednn() if device.type == "cpu" else (False, "")
    return f"fp32 products by {'oneDNN' if chosen else 'torch alone'} ({why})" if why else ""


@contextmanager
def _allowed(precision: str) -> Iterator[None]:
    """Set the precision to which oneDNN may round fp32 products, inside the block.

    `torch.set_float32_matmul_precision` would set CUDA's too; after setting this one, reading that
    one raises.
    """
    switch: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = switch.fp32_precision
    switch.fp32_precision = precision
    try:
        yield
    finally:
        switch.fp32_precision = before


def _product_error() -> float:
    """The error of a product and of one with its transpose, relative to the norm."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    errors = []
    for left in (a, a.T):
        exact = left.double() @ b.double()
        errors.append(float((left @ b - exact).norm() / exact.norm()))
    return max(errors)
