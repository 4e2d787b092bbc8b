"""`hanllama METHOD --config CONFIG` that keeps its first gradients: `FILE METHOD CONFIG`."""

from __future__ import annotations

import sys

import torch

from hanllama import cli
from hanllama.train.loop import Loop

plain, kept = Loop._clip, sys.argv[1]


def clip(self: Loop, grad_norm: float) -> None:
    if self.step == 0 and self.world.is_main:
        torch.save([p.grad.clone() for p in self.parameters if p.grad is not None], kept)
    plain(self, grad_norm)


Loop._clip = clip  # type: ignore[method-assign]
sys.exit(cli.main([sys.argv[2], "--config", sys.argv[3]]))
