"""AdamW and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from hanllama.train.config import OptimConfig


def learning_rate(step: int, max_steps: int, config: OptimConfig) -> float:
    """The learning rate of a step, counted from 0.

    Linear warm-up to the peak, then cosine decay (Loshchilov & Hutter 2017), warm-up-stable-decay
    (Hu et al. 2024, MiniCPM: constant, then linear over the last `decay` share) or constant.
    """
    warmup = round(config.warmup * max_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    last = config.min_learning_rate
    if config.schedule == "constant":
        share = 1.0
    elif config.schedule == "cosine":
        done = (step - warmup) / max(1, max_steps - 1 - warmup)
        share = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    else:
        decay = max(1, round(config.decay * max_steps))
        left = min(1.0, (max_steps - step) / decay)
        share = last + (1 - last) * left
    return config.learning_rate * share


def build_optimizer(
    model: nn.Module, config: OptimConfig, scales: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """Fused AdamW over the trained parameters; no weight decay on vectors (norms).

    `scales` multiplies the learning rate of submodules by name, as each group's `lr_scale`.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = (scales or {}).get(name.partition(".")[0], 1.0)
            found.setdefault((scale, parameter.dim() >= 2), []).append(parameter)
    groups = [
        {"params": group, "lr_scale": scale, "weight_decay": config.weight_decay * is_matrix}
        for (scale, is_matrix), group in found.items()
    ]
    # MPS has a fused kernel only in late versions and for some dtypes.
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=fused,
    )
