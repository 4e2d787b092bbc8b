"""Where to compute and in which precision: one reading of `auto`, `cuda:1`, `bfloat16` for all."""

from __future__ import annotations

import os

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
