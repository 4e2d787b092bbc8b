"""Means of what the passes of a step or an evaluation say, over all micro-batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hanllama.train.parallel import World


class Figures:
    """Kept as sums until all are there.

    Args:
        names: every name that may be added, the same on every process.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._sums: list[tuple[int, Tensor]] = []

    @torch.no_grad()
    def add(self, name: str, values_S: Tensor, counts_S: Tensor | None = None) -> None:
        """Add values, each a sum over as many things as `counts_S` says (one, without)."""
        count = values_S.new_tensor(values_S.numel()) if counts_S is None else counts_S.sum()
        pair = torch.stack((values_S.sum().float(), count.float()))
        self._sums.append((self._numbers[name], pair))

    def means(self, world: World, device: torch.device) -> dict[str, float]:
        """Each name's mean over all processes; a name that nothing was added to has none."""
        totals = torch.zeros(len(self._numbers), 2, dtype=torch.float64)
        for number, pair in self._sums:
            totals[number] += pair.cpu()
        summed = world.sum(totals.ravel().tolist(), device)
        counts = {name: summed[2 * number + 1] for name, number in self._numbers.items()}
        return {
            name: summed[2 * number] / counts[name]
            for name, number in self._numbers.items()
            if counts[name]
        }
