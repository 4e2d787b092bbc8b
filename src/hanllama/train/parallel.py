"""Several processes as one: ranks, sums over all processes, barriers.

Under `torchrun` each process takes its share of every step's rows, and the gradients are summed.
The losses are sums already scaled by the whole step's weight, so the sum is the gradient of the
whole batch, whatever the number of processes or the micro-batch. Each process has a whole copy of
the model; sharding (FSDP2) will replace only `sum_gradients`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Elements of a message with gradients: one message per tensor would cost latency, a single message
# a second copy of all gradients.
_BUCKET_ELEMENTS = 8 << 20


@dataclass(frozen=True)
class World:
    """This process's rank, from 0, and the number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, values: list[float], device: torch.device) -> list[float]:
        """Each value summed over all processes, in float64 where the device has it."""
        if self.size == 1:
            return values
        dtype = torch.float32 if device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=dtype, device=device)
        dist.all_reduce(tensor)
        return [float(v) for v in tensor.tolist()]

    def gather(self, values: list[float], device: torch.device) -> list[float]:
        """The values of all processes end to end, in the order of the processes."""
        own = [0.0] * self.size
        own[self.rank] = float(len(values))
        counts = [int(count) for count in self.sum(own, device)]
        before, after = sum(counts[: self.rank]), sum(counts[self.rank + 1 :])
        return self.sum([0.0] * before + values + [0.0] * after, device)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        filled = 0
        for parameter in parameters:
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:  # no row of this process reached it
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            filled += parameter.grad.numel()
            if filled >= _BUCKET_ELEMENTS:
                _all_reduce_together(bucket)
                bucket, filled = [], 0
        if bucket:
            _all_reduce_together(bucket)

    def broadcast(self, module: torch.nn.Module) -> None:
        """Copy rank 0's weights to every process."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        if self.size > 1:
            dist.barrier()


@contextlib.contextmanager
def world(device: torch.device) -> Iterator[World]:
    """Join the other processes of a `torchrun` inside the block."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def _all_reduce_together(tensors: list[Tensor]) -> None:
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    offset = 0
    for tensor in tensors:
        tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
        offset += tensor.numel()
