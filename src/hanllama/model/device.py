"""Where to compute and in which precision: one reading of `auto`, `cuda:1`, `bfloat16` for all.

On a CPU, PyTorch's fp32 matrix products go to MKL, which on AMD's processors with AVX-512 takes
twice as long as oneDNN. They go to oneDNN where it is allowed to round to bf16; without AMX it
gains nothing by rounding, and computes in true fp32. `fast_products` allows it as long as a
training step or a batch of scores lasts.
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
    """`auto` -> the best device of this process; under torchrun each process has its own GPU.

    Raises ConfigError when the one named is not here.
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
            f"device {name!r} is not here: {torch.cuda.device_count()} GPUs found; auto takes what"
            " there is"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not here; auto takes what there is")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on a GPU that has it, float16 on one that has not, float32 elsewhere.

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
    """The precision of a pass: `dtype` for matrix products, nothing changed where it is float32."""
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype if enabled else None, enabled=enabled)


# Rows from which oneDNN is faster: 3 times slower than MKL at one row, equal at 4, 1.5 times
# faster at 16 (512 x 512).
ONEDNN_ROWS = 16
# Relative to the norm: fp32 has 4e-7, TF32 and bf16 are off by more than 1e-4.
_EXACT = 1e-5


@lru_cache(maxsize=1)
def onednn() -> tuple[bool, str]:
    """Whether fp32 products on this CPU go to oneDNN, and the reason in a few words.

    What the processor can do decides, and one small product: never a clock, since a resumed run
    must compute as before.
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
    """fp32 matrix products of a block by oneDNN, where `onednn` found it exact.

    By MKL where fewer than ONEDNN_ROWS rows are multiplied. No effect on other devices.
    """
    if device.type != "cpu" or not onednn()[0]:
        yield
        return
    with _allowed("bf16" if rows >= ONEDNN_ROWS else "none"):
        yield


def products_used(device: torch.device) -> str:
    """What `fast_products` does on a device, for a run's first lines; empty on a GPU."""
    chosen, why = onednn() if device.type == "cpu" else (False, "")
    return f"fp32 products by {'oneDNN' if chosen else 'torch alone'} ({why})" if why else ""


@contextmanager
def _allowed(precision: str) -> Iterator[None]:
    """The precision that oneDNN may round fp32 products to; CUDA has a switch of its own.

    `torch.set_float32_matmul_precision` would set both, and reading the one raises after the other
    was set.
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
