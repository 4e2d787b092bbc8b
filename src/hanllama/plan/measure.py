"""The speed of a training on the device here: some of its steps, run in the real loop.

They are measured, since a small model on a CPU is far from any data sheet. Nothing is written: no
checkpoint, no metrics, no run folder.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from pathlib import Path
from typing import Any

from hanllama.base import allocator
from hanllama.plan.jobs import Job

# A measurement takes about this long, but never fewer or more steps than these.
_MEASURE_SECONDS = 10.0
_FEWEST_STEPS, _MOST_STEPS = 4, 24


def measure(job: Job, micros: int, expected_micro: float) -> tuple[float, float]:
    """Run some steps in the real loop; return the seconds of a micro-batch and of a step's rest.

    Rows come from the data if it exists, else they are random tokens in documents of half a row. If
    a step has more than two micro-batches, steps of one and of two alternate instead: this isolates
    the optimizer's time, and no accumulation of a hundred has to run. The first step does not
    count, since it chooses kernels and first touches memory.

    Args:
        micros: micro-batches in one of the job's steps.
        expected_micro: guessed seconds of one, which sets the number of steps.
    """
    import numpy as np
    import torch

    from hanllama.batches.mix import Array, PackedRows
    from hanllama.batches.shards import open_shards
    from hanllama.model.card import ModelCard
    from hanllama.model.device import choose_device
    from hanllama.model.llama import Llama
    from hanllama.train.config import OptimConfig
    from hanllama.train.loop import Loop
    from hanllama.train.parallel import World
    from hanllama.train.pretrain import Pretrain
    from hanllama.train.speed import flops_per_token

    few = min(micros, 2)
    steps = round(_MEASURE_SECONDS / (expected_micro * few))
    steps = min(max(steps, _FEWEST_STEPS), _MOST_STEPS)
    began: list[float] = []

    class Rows(PackedRows):
        """Reads the clock when the loop asks for a step's rows, as the step begins."""

        def batch(self, step: int, size: int) -> Array:
            began.append(time.perf_counter())
            whole = super().batch(step, size)
            alternate = micros > few and step % 2 == 1
            return whole[: size // 2] if alternate else whole

    micro_rows = job.loop.micro_batch_size
    rows_of_step = few * micro_rows if micros > 1 else min(job.loop.batch_size, micro_rows)
    if job.data is not None:
        source: Any = open_shards(job.data, verify=False).split("train")
    else:
        n_rows = rows_of_step * (steps + 1)
        source = RandomTokens(n_rows, job.context, job.llama.vocab_size, job.documents)
    model = Llama(job.llama, torch.Generator().manual_seed(0))
    model.gradient_checkpointing = job.loop.gradient_checkpointing
    device = choose_device(job.loop.device)
    if device.type == "cpu":
        allocator.keep_heap()  # as a training does
    model.to(device)
    loop = dataclasses.replace(
        job.loop, batch_size=rows_of_step, max_steps=steps + 2, stop_at=0, auto_micro_batch=False
    )
    objective = Pretrain(
        model,
        Rows(source, job.context, 0, 0),
        None,
        np.zeros(job.llama.vocab_size, np.int32),
        loop,
        World(),
        {},
        across_documents=job.across_documents,
    )
    Loop(
        objective,
        OptimConfig(),
        loop,
        None,
        World(),
        tokenizer_folder=Path(),
        card=ModelCard(name="plan"),
        checkpoint=None,
        sampler=None,
        flops_per_token=flops_per_token(job.llama, job.context),
    ).train()
    seconds = [b - a for a, b in itertools.pairwise(began)]
    if micros <= few:
        return statistics.median(seconds[1:]) / few, 0.0
    one, two = statistics.median(seconds[1::2]), statistics.median(seconds[2::2])
    micro = two - one
    if not 0 < micro <= one:  # noise: a micro-batch cannot take longer than a step with one
        micro = two / 2
    return micro, max(one - micro, 0.0)


class RandomTokens:
    """A split of random tokens; a document is half a row, or a whole row without `documents`."""

    masked = False

    def __init__(self, rows: int, context: int, vocab_size: int, documents: bool) -> None:
        length = max(2, context // 2 + 1 if documents else context + 1)
        count = rows * (2 if documents else 1)
        self._length, self._count, self._vocab_size = length, count, vocab_size

    def document_starts(self) -> Any:
        """[documents + 1] the start of each, and the end."""
        import numpy as np

        return np.arange(self._count + 1, dtype=np.int64) * self._length

    def trained_at(self, tokens: Any) -> Any:
        """All tokens, since there is no mask."""
        import numpy as np

        return np.ones(tokens.shape, np.bool_)

    def copy_into(self, out: Any, positions: Any, starts: Any, lengths: Any) -> None:
        """Write random ids, the same for the same span."""
        import numpy as np

        for at, start, length in zip(positions, starts, lengths, strict=True):
            draw = np.random.default_rng(int(start))
            out[at : at + length] = draw.integers(0, self._vocab_size, int(length))
