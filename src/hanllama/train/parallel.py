"""Several processes as one: who am I, add these up, wait for the others.

Under `torchrun` each process takes its share of every step's rows and the gradients are summed.
The losses are already sums scaled by the whole step's weight, so the sum is the gradient of the
whole batch: neither the number of processes nor the micro-batch changes it. Each process keeps a
whole copy of the model; sharding (FSDP2) will replace `sum_gradients`, nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Gradients travel in buckets of about this many elements: one message a tensor would be latency,
# one message for everything a second copy of the gradients.
_BUCKET_ELEMENTS = 8 << 20


@dataclass(frozen=True)
class World:
    """This process among all: rank from 0, size in processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
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
        """Give every process rank 0's weights."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextlib.contextmanager
def world(device: torch.device) -> Iterator[World]:
    """Join the other processes of a `torchrun`, for as long as the block lasts."""
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
