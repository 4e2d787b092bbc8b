"""The forecast of a training on each device, in bytes, seconds and dollars.

Memory is the formula of `plan/memory.py`. Time is FLOPs over an assumed share of a device's peak;
on the device here it is measured, unless a step takes too long to try.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from hanllama.model.presets import LlamaConfig
from hanllama.plan import memory
from hanllama.plan.jobs import Job
from hanllama.plan.measure import measure
from hanllama.plan.options import HERE, PlanConfig
from hanllama.plan.targets import Target, here, named
from hanllama.plan.words import gib

# Steps whose micro-batches would take longer than a minute are not tried.
_LONGEST_MICRO_SECONDS = 60.0
# A small model on a large GPU waits for kernel launches. Counted from the model's code: about 25
# per layer forward, twice that backward. The 8 us per launch is assumed, not measured.
_KERNELS_PER_LAYER, _LAUNCH_SECONDS = 75, 8e-6


def forecast(job: Job, names: Sequence[str], options: PlanConfig) -> dict[str, Any]:
    """The forecast of a job as plain values (bytes, seconds)."""
    llama, loop = job.llama, job.loop
    tokens_per_step = loop.batch_size * job.context
    per_token = _flops_per_token(llama, job.context)
    return {
        "name": job.name,
        "parameters": llama.parameter_count(),
        "parameters_without_embeddings": llama.parameter_count(embeddings=False),
        "vocab_size": llama.vocab_size,
        "layers": llama.num_hidden_layers,
        "hidden_size": llama.hidden_size,
        "context": job.context,
        "batch_size": loop.batch_size,
        "micro_batch_size": loop.micro_batch_size,
        "gradient_checkpointing": loop.gradient_checkpointing,
        "rows": job.rows,
        "tokens_in_data": job.n_predictions or (int(options.tokens) or None),
        "tokens_per_step": tokens_per_step,
        "steps": loop.max_steps,
        "epochs": loop.max_steps * loop.batch_size / job.rows if job.rows else None,
        "tokens": tokens_per_step * loop.max_steps,
        "flops_per_token": per_token,
        "flops": per_token * tokens_per_step * loop.max_steps * job.cost.work,
        "counts": job.cost.counts,
        "work": job.cost.work,
        "devices": [_on(name, job, options) for name in names],
    }


def _on(name: str, job: Job, options: PlanConfig) -> dict[str, Any]:
    target = here(job.loop) if name == HERE else named(name, job.loop)
    one = job.one_pass(target.half, options.count)
    peak = memory.peak(job.llama, one, target.kind)
    # A further trained model adds weights, two moments and a gradient; a frozen one its weights.
    further = 4 * job.llama.parameter_count() * (4 * (job.cost.trained - 1) + job.cost.frozen)
    needed = peak.total + further
    fits = needed <= target.memory_bytes
    found = {
        "device": name if name != HERE else f"here ({target.name})",
        "dtype": "16 bit" if target.half else "float32",
        "memory": {**peak.parts(), "further models": further, "total": needed},
        "memory_limit": int(target.memory_bytes),
        "fits": fits,
        "advice": "" if fits else _advice(job, one, target, needed, further),
    }
    rows = math.ceil(job.loop.batch_size / options.count)
    micro_tokens = min(job.loop.micro_batch_size, rows) * job.context
    mfu = options.mfu or target.mfu
    forward_share = 1 / 4 if job.loop.gradient_checkpointing else 1 / 3
    work = job.cost.work * _flops_per_token(job.llama, job.context) / (3 * forward_share)
    assumed_micro = micro_tokens * work / (target.flops * mfu)
    micro, rest, basis = assumed_micro, 0.0, f"assumed MFU {mfu:.2f}"
    kernels = (job.llama.num_hidden_layers + 2) * _KERNELS_PER_LAYER * job.cost.work
    launches = kernels * _LAUNCH_SECONDS
    if target.kind == "gpu" and launches > assumed_micro:
        micro, basis = launches, "assumed: launching kernels takes longer than running them"
    if name == HERE and options.measure and fits:
        if assumed_micro > _LONGEST_MICRO_SECONDS:
            basis += " (a step is too long to try)"
        else:
            micro, rest = measure(job, job.micros(options.count), assumed_micro / job.cost.work)
            micro *= job.cost.work
            basis = "measured" if job.cost.work == 1 else "measured, times an assumed work"
    passes = rows * job.context / micro_tokens
    step = micro * passes + rest
    training = job.loop.max_steps * step
    rows_a_pass = micro_tokens / job.context * options.count
    evaluation = job.evaluated_rows / rows_a_pass * micro * forward_share
    seconds = training + evaluation
    price = options.price if options.price >= 0 else target.dollars_per_hour
    rate = job.loop.batch_size * job.context / step
    return found | {
        "basis": basis,
        "mfu": rate * _flops_per_token(job.llama, job.context) / (target.flops * options.count),
        "tokens_per_second": rate,
        "training_seconds": training,
        "evaluation_seconds": evaluation,
        "hours": seconds / 3600,
        "dollars_per_hour": price,
        "cost": None if price is None else seconds / 3600 * price * options.count,
    }


def _advice(job: Job, one: memory.Pass, target: Target, total: int, further: int) -> str:
    """Say which setting to lower, and how far."""
    limit = target.memory_bytes - further
    rows = memory.largest_rows(job.llama, one, target.kind, limit)
    recomputed = dataclasses.replace(one, recompute=True)
    with_it = memory.largest_rows(job.llama, recomputed, target.kind, limit)
    start = f"needs {gib(total)} of {gib(target.memory_bytes)}: "
    ways = []
    if rows:
        ways.append(f"lower loop.micro_batch_size from {one.rows} to {rows} or less")
    if with_it > rows and not one.recompute:
        small = "" if with_it >= one.rows else f" with loop.micro_batch_size {with_it} or less"
        ways.append(f"set loop.gradient_checkpointing true{small}")
    if not ways:
        return start + "not even one row fits: choose a smaller model or context"
    return start + ", or ".join(ways)


def _flops_per_token(llama: LlamaConfig, context: int) -> float:
    """`train.speed`'s figure, from which the loop computes its MFU too."""
    from hanllama.train import speed

    return speed.flops_per_token(llama, context)
