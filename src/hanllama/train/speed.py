"""The speed of a run, and its share of the device's peak."""

from __future__ import annotations

import time
from collections import deque
from functools import lru_cache

import torch

from hanllama.model.device import fast_products
from hanllama.model.presets import LlamaConfig
from hanllama.train.devices import match

_WINDOW_STEPS = 50
_SLOW_PRODUCT_SECONDS = 0.2


def flops_per_token(config: LlamaConfig, context: int, *, head: bool = True) -> float:
    """Floating-point operations of a forward and backward pass, per token.

    6 for each parameter of a matrix product (Kaplan et al. 2020; the embedding look-up is none, a
    `head` over the vocabulary is one) and 12 x layers x width x context for attention (PaLM,
    Chowdhery et al. 2022, appendix B), halved because a causal model attends to half of the context
    on average.
    """
    matrices = config.parameter_count(embeddings=False)
    matrices += head * config.vocab_size * config.hidden_size
    width = config.num_attention_heads * config.head_dim
    return 6.0 * matrices + 6.0 * config.num_hidden_layers * width * context


class Speed:
    """Tokens per second and model FLOPs utilisation over the last steps."""

    def __init__(
        self, flops_per_token: float, device: torch.device, dtype: torch.dtype, processes: int
    ) -> None:
        self._flops_per_token = flops_per_token
        self._peak = peak_flops(device, dtype) * processes
        self._steps: deque[tuple[float, float]] = deque(maxlen=_WINDOW_STEPS)

    def add(self, tokens: float, seconds: float) -> None:
        """Add a step."""
        self._steps.append((tokens, seconds))

    @property
    def tokens_per_second(self) -> float:
        """Trained tokens per second over the last steps, all processes together."""
        seconds = sum(s for _, s in self._steps)
        return sum(t for t, _ in self._steps) / seconds if seconds else 0.0

    @property
    def mfu(self) -> float:
        """The share of the device's peak that the model's arithmetic takes; 0 if unknown."""
        return self.tokens_per_second * self._flops_per_token / self._peak if self._peak else 0.0


@lru_cache(maxsize=4)
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a device: the data sheet's for a GPU (0 if unknown), measured on a CPU.

    A CPU may be slower in half precision than in float32; the larger figure counts, so that a run
    cannot exceed it.
    """
    if device.type == "cuda":
        found = match(torch.cuda.get_device_name(device))
        if found is None:
            return 0.0
        return 1e12 * (found.tflops_32 if dtype == torch.float32 else found.tflops_16)
    if device.type == "cpu":
        with fast_products(device):
            return max(_measured_matmul_flops(each) for each in {dtype, torch.float32})
    return 0.0


def _measured_matmul_flops(dtype: torch.dtype) -> float:
    """The best of a few square products: a CPU has no data sheet one could trust.

    The products grow while they are quick: some CPUs take seconds for one in half precision.
    """
    best = 0.0
    for size in (128, 256, 512, *[1024] * 8):
        a = torch.randn(size, size).to(dtype)
        b = torch.randn(size, size).to(dtype)
        started = time.perf_counter()
        torch.mm(a, b)
        seconds = time.perf_counter() - started
        best = max(best, 2.0 * size**3 / seconds)
        if seconds > _SLOW_PRODUCT_SECONDS:
            break
    return best
