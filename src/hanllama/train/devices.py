"""Devices: peak arithmetic, memory and a price to plan with. Imports no torch.

Peaks are the makers' dense figures (no sparsity) for bf16/fp16 with fp32 accumulation, and for
fp32 on the units that training would use. Prices are orders of magnitude of on-demand rental in
2026, in US dollars per hour; `--price` replaces them.

The assumed MFU (the share of the peak that the model's arithmetic takes) is for eager code with
weights in fp32 and 16-bit matrix products on a busy device; published figures of compiled and fused
code are upper bounds. `--mfu` replaces it, and a run's progress shows the real one.
"""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest

# nanochat states 41 % (d12) to 50 % (d24) on H100, compiled, and TinyLlama 56 % on A100, with fused
# kernels. The figures for our eager code are assumptions, not yet measured on a GPU: lower, and
# lowest on the H100, whose arithmetic is faster relative to its memory than the A100's.
HOPPER_MFU = 0.30
GPU_MFU = 0.40
# Measured on a CPU with AVX-512: eager steps of 24M and 58M models reach 0.6 to 0.7 of the speed of
# bare matrix products.
CPU_MFU = 0.60


@dataclass(frozen=True)
class Device:
    """One accelerator.

    tflops_16: dense bf16 (fp16 where there is no bf16) TFLOP/s.
    tflops_32: fp32 TFLOP/s (TF32 where the tensor cores have it).
    memory_gib: device memory.
    dollars_per_hour: rental of one.
    mfu: the share of the peak that `plan` assumes.
    """

    name: str
    tflops_16: float
    tflops_32: float
    memory_gib: float
    dollars_per_hour: float
    mfu: float = GPU_MFU


# Data sheets: NVIDIA V100, A100, A800, H100/H200 SXM, L4, L40S, RTX 3090/4090/5090; GeForce cards
# do fp16 with fp32 accumulation at half the rate their headline figure gives.
DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        Device("h200", 989, 495, 141, 3.5, HOPPER_MFU),
        Device("h100", 989, 495, 80, 2.5, HOPPER_MFU),
        Device("a100", 312, 156, 80, 1.5),
        Device("a800", 312, 156, 80, 1.5),
        Device("l40s", 362, 183, 48, 1.0),
        Device("l4", 121, 60, 24, 0.6),
        Device("v100", 125, 15.7, 32, 0.6),
        Device("t4", 65, 8.1, 16, 0.3),
        Device("rtx5090", 209, 105, 32, 0.6),
        Device("rtx4090", 165, 82.6, 24, 0.4),
        Device("rtx3090", 71, 35.6, 24, 0.25),
        Device("rtx3060", 25, 12.7, 12, 0.1),
    )
}


def find(name: str) -> Device:
    """A device by name; ConfigError names the nearest one."""
    key = name.lower().replace(" ", "").replace("-", "")
    if key not in DEVICES:
        raise ConfigError(f"device {name!r} is unknown{nearest(key, list(DEVICES))}")
    return DEVICES[key]


def match(product_name: str) -> Device | None:
    """The device for the driver's name of it (`NVIDIA H100 80GB HBM3`), None if unknown."""
    squeezed = product_name.lower().replace(" ", "").replace("-", "")
    found = [d for key, d in DEVICES.items() if key in squeezed]
    return max(found, key=lambda d: len(d.name)) if found else None
