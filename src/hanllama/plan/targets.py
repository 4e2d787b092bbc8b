"""The devices of a forecast: one of the table, or the one here."""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.plan import memory
from hanllama.train import devices
from hanllama.train.config import LoopConfig

# The share of memory that the driver and the display leave.
_USABLE = 0.97


@dataclass(frozen=True)
class Target:
    """A device of a forecast.

    flops: peak FLOP/s in the run's dtype; mfu: the assumed share of it.
    """

    name: str
    kind: memory.Kind
    half: bool
    flops: float
    mfu: float
    memory_bytes: float
    dollars_per_hour: float | None


def named(name: str, loop: LoopConfig) -> Target:
    """A device of the table; ConfigError for an unknown name."""
    device = devices.find(name)
    half = loop.dtype != "float32"
    return Target(
        device.name,
        "gpu",
        half,
        1e12 * (device.tflops_16 if half else device.tflops_32),
        device.mfu,
        _USABLE * device.memory_gib * memory.GIB,
        device.dollars_per_hour,
    )


def here(loop: LoopConfig) -> Target:
    """The device that a run on this machine would use."""
    import torch

    from hanllama.model.device import choose_device, choose_dtype
    from hanllama.train.speed import peak_flops

    device = choose_device(loop.device)
    dtype = choose_dtype(loop.dtype, device)
    half = dtype != torch.float32
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = devices.match(name)
        limit = float(torch.cuda.get_device_properties(device).total_memory) * _USABLE
        mfu = known.mfu if known else devices.GPU_MFU
        # The table has no data sheet of an unknown GPU: its speed must be measured or given.
        flops = peak_flops(device, dtype) or 1e13
        return Target(name, "gpu", half, flops, mfu, limit, None)
    import psutil

    limit = float(psutil.virtual_memory().total) * _USABLE
    flops = peak_flops(torch.device("cpu"), dtype)  # also for MPS: a floor without a measurement
    name = f"{device.type}, {torch.get_num_threads()} threads"
    return Target(name, "cpu", half, flops, devices.CPU_MFU, limit, None)
