"""`hanllama plan`: what a training will take, before any spending.

Parameters, steps, peak memory, FLOPs, hours and cost, for a config, every training of a recipe, or
a preset and a number of tokens. Memory is a formula (`train/memory.py`). Hours on a
named device are FLOPs over an assumed share of its peak (`train/devices.py`); hours on the device
here are measured: some steps of that very model and batch shape run in the real loop, since a
small model on a CPU comes near no data sheet.

Importing this module imports no torch; only a measurement does.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hanllama import config as configs
from hanllama import recipe as recipes
from hanllama.config import option
from hanllama.errors import ConfigError
from hanllama.model.folder import load_config
from hanllama.model.presets import PRESETS, LlamaConfig, preset
from hanllama.plugins import nearest
from hanllama.progress import duration
from hanllama.train import devices, memory
from hanllama.train.config import LoopConfig, ModelShape, PretrainConfig
from hanllama.train.cost import Cost, cost

if TYPE_CHECKING:
    from hanllama.data.mix import PackedRows, TokenSource

HERE = "here"
# A measurement takes about this long; steps that would take longer than a minute are not run.
_MEASURE_SECONDS = 10.0
_LONGEST_MICRO_SECONDS = 60.0
_FEWEST_STEPS, _MOST_STEPS = 4, 24
# A device cannot give everything away: its driver and its display keep some.
_USABLE = 0.97
# A small model on a large GPU waits for its kernels to be started. Counted from the model's code:
# some 25 a layer forward, twice that backward; the 8 us each is an assumption, not measured.
_KERNELS_PER_LAYER, _LAUNCH_SECONDS = 75, 8e-6


@dataclass(frozen=True)
class PlanConfig:
    """The options of `hanllama plan`."""

    training: str = option(
        "", help="a pretrain config (.yaml), or a recipe's name or path", positional=True
    )
    preset: str = option("", help="plan this named size instead of a config")
    list: bool = option(False, help="show every preset with its stated and its exact size")
    tokens: float = option(
        0.0, help="tokens of the data set, instead of counting those of the data folder"
    )
    vocab_size: int = option(0, help="vocabulary, instead of the data's, recipe's or preset's")
    context: int = option(0, help="tokens of a row, instead of the config's")
    batch_size: int = option(0, help="rows of a step, instead of the config's")
    micro_batch_size: int = option(0, help="rows of a pass, instead of the config's")
    gradient_checkpointing: bool = option(False, help="plan with it even if the config has none")
    devices: tuple[str, ...] = option(
        (HERE, "rtx4090", "a100", "h100"), help="devices to plan for, with commas; here: this one"
    )
    count: int = option(1, help="devices of a kind that share every step's rows")
    price: float = option(-1.0, help="dollars an hour of one device, instead of the table's")
    mfu: float = option(0.0, help="share of a device's peak reached, instead of the table's")
    measure: bool = option(True, help="run a few steps on the device here, to know its speed")
    json: bool = option(False, help="print JSON instead of a table")

    def __post_init__(self) -> None:
        for name in ("tokens", "vocab_size", "context", "batch_size", "micro_batch_size"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, not {self.count}")
        if not 0 <= self.mfu <= 1:
            raise ConfigError(f"mfu is a share from 0 to 1, not {self.mfu}")


@dataclass(frozen=True)
class Job:
    """One training to plan: the model, the shape of its steps, and how many of them.

    rows, heldout_rows: of the data; None where that is not known.
    n_predictions: tokens of the data that are learnt, where it is there.
    documents: rows hold several documents, which attention keeps apart by a mask.
    data: the shards folder, where it exists.
    cost: what a row takes beside pretraining's; `loop` counts packed rows already.
    """

    name: str
    llama: LlamaConfig
    context: int
    loop: LoopConfig
    across_documents: bool
    documents: bool
    rows: int | None
    heldout_rows: int | None
    n_predictions: int | None
    data: Path | None
    cost: Cost = dataclasses.field(default_factory=Cost)

    def micros(self, count: int) -> int:
        """Micro-batches of a step on each of `count` devices."""
        return math.ceil(math.ceil(self.loop.batch_size / count) / self.loop.micro_batch_size)

    def one_pass(self, half: bool, count: int) -> memory.Pass:
        """What a micro-batch is, for the memory."""
        return memory.Pass(
            rows=self.loop.micro_batch_size,
            context=self.context,
            half=half,
            recompute=self.loop.gradient_checkpointing,
            documents=self.documents,
            accumulates=self.micros(count) > 1,
        )

    @property
    def evaluated_rows(self) -> int:
        """Held-out rows of all evaluations together."""
        every = {self.loop.save_every, self.loop.eval_every} - {0}
        last = self.loop.max_steps
        points = {step for e in every for step in range(e, last + 1, e)} | {last}
        there = self.heldout_rows if self.heldout_rows is not None else self.loop.eval_rows
        return len(points) * min(self.loop.eval_rows or there, there)


def plan(options: PlanConfig) -> dict[str, Any]:
    """The command: print the plan, and give it back as plain values.

    Raises ConfigError for an unknown device, preset, recipe or config, and for what cannot be
    planned for want of a number.
    """
    if options.list:
        found = {"presets": _presets(options)}
        print(_json(found) if options.json else _preset_table(found["presets"]))
        return found
    names = [name for text in options.devices for name in text.split(",") if name]
    for name in names:
        if name != HERE:
            devices.find(name)
    plans = [forecast(job, names, options) for job in jobs(options)]
    print(_json({"plans": plans}) if options.json else "\n\n".join(_page(p) for p in plans))
    return {"plans": plans}


# --- what is planned -----------------------------------------------------------------------------


def jobs(options: PlanConfig) -> list[Job]:
    """The trainings that the options ask for."""
    if options.training and options.preset:
        raise ConfigError("give a config or recipe, or --preset, not both")
    if options.preset:
        made = PretrainConfig(data="", output="", model=ModelShape(preset=options.preset))
        return [_job(options.preset, made, 0, options)]
    if not options.training:
        raise ConfigError(
            "what is to be planned? A pretrain config, a recipe, or --preset NAME --tokens N;"
            " hanllama plan --list shows the presets"
        )
    name = options.training
    if not name.endswith((".yaml", ".yml")):
        known = recipes.names()
        if name not in known:
            raise ConfigError(
                f"{name!r} is no recipe{nearest(name, known)}; a config's name ends in .yaml"
            )
        return _of_recipe(name, options)
    values = configs.read_yaml(Path(name))
    if "stages" in values:
        return _of_recipe(name, options)
    made = configs.load(PretrainConfig, {"data": "", "output": "", **values}, name)
    return [_job(Path(name).stem, made, 0, options)]


def _of_recipe(name: str, options: PlanConfig) -> list[Job]:
    found = recipes.read(name)
    inputs = ["input"] if found.needs_input else []
    stages = recipes.resolve(found, inputs, Path("runs") / found.name, {}, ())
    made: list[Job] = []
    unknown: list[str] = []
    models: dict[str, LlamaConfig] = {}  # by the folder that a stage will write
    vocab_size = 0
    for stage in stages:
        vocab_size = getattr(stage.config, "vocab_size", 0) or vocab_size
        price = cost(stage.config)
        if price is None:
            continue
        name = f"{found.name}: {stage.name}"
        if isinstance(stage.config, PretrainConfig):
            made.append(_job(name, stage.config, vocab_size, options))
        else:
            base = models.get(stage.config.base_model) or load_config(stage.config.base_model)
            models[f"{stage.output}/model"] = base
            if not stage.config.loop.max_steps:
                unknown.append(name)
                continue
            made.append(_later_job(name, stage.config, base, price, options))
        models[f"{stage.output}/model"] = made[-1].llama
    if unknown:
        print(
            f"hanllama: notice: not planned, since their data is not there yet and their steps"
            f" follow from it: {', '.join(unknown)}; loop.max_steps would say",
            file=sys.stderr,
        )
    if not made:
        raise ConfigError(f"{found.where} trains nothing that could be planned")
    return made


def _later_job(
    name: str, training: Any, llama: LlamaConfig, price: Cost, options: PlanConfig
) -> Job:
    """A training that goes on from a model: SFT and what follows it."""
    loop = _loop(training.loop, options)
    rows, micro = (
        max(1, math.ceil(size * price.rows)) for size in (loop.batch_size, loop.micro_batch_size)
    )
    return Job(
        name=name,
        llama=llama,
        context=options.context or getattr(training, "context", 0) or llama.max_position_embeddings,
        loop=dataclasses.replace(loop, batch_size=rows, micro_batch_size=micro),
        across_documents=False,
        documents=True,
        rows=None,
        heldout_rows=None,
        n_predictions=None,
        data=None,
        cost=price,
    )


def _job(name: str, training: PretrainConfig, vocab_size: int, options: PlanConfig) -> Job:
    data = Path(training.data) if training.data and Path(training.data).is_dir() else None
    if data is not None:
        from hanllama.data.shards import open_shards

        shards = open_shards(data, verify=False)
        vocab_size = shards.vocab_size
    llama = _llama(training, options.vocab_size or vocab_size, options.context)
    context = options.context or training.context or llama.max_position_embeddings
    rows = heldout_rows = n_predictions = None
    documents = not training.cross_document_attention
    if options.tokens:
        rows = math.ceil(options.tokens / context)
    elif data is not None:
        packed = _packed(shards.split("train"), context)
        rows, n_predictions = packed.n_rows, packed.n_predictions
        heldout_rows = 0
        if "heldout" in shards.splits:
            heldout_rows = _packed(shards.split("heldout"), context).n_rows
        documents = documents and rows < shards.split("train").n_documents
    loop = _loop(training.loop, options)
    if rows is None and not loop.max_steps:
        where = f"data folder {training.data} does not exist yet" if training.data else "no data"
        raise ConfigError(f"{name}: {where}, so its rows are not known: give --tokens")
    return Job(
        name=name,
        llama=llama,
        context=context,
        loop=loop.with_steps(rows or 0),
        across_documents=training.cross_document_attention,
        documents=documents,
        rows=rows,
        heldout_rows=heldout_rows,
        n_predictions=n_predictions,
        data=data,
    )


def _llama(training: PretrainConfig, vocab_size: int, context: int) -> LlamaConfig:
    if training.base_model:
        return load_config(Path(training.base_model))
    shape = training.model
    if not vocab_size and shape.preset in PRESETS:
        vocab_size = PRESETS[shape.preset].vocab_size or 0
    if not vocab_size and (not shape.preset or shape.preset in PRESETS):
        raise ConfigError("the vocabulary is not known before a tokenizer is: give --vocab-size")
    return shape.resolve(vocab_size, context or training.context)


def _loop(loop: LoopConfig, options: PlanConfig) -> LoopConfig:
    batch = options.batch_size or loop.batch_size
    return dataclasses.replace(
        loop,
        batch_size=batch,
        micro_batch_size=min(options.micro_batch_size or loop.micro_batch_size, batch),
        gradient_checkpointing=loop.gradient_checkpointing or options.gradient_checkpointing,
    )


def _packed(split: TokenSource, context: int) -> PackedRows:
    from hanllama.data.mix import PackedRows

    return PackedRows(split, context, seed=0, pad=0)


# --- the forecast --------------------------------------------------------------------------------


def forecast(job: Job, names: Sequence[str], options: PlanConfig) -> dict[str, Any]:
    """Everything that can be said of a job beforehand, as plain values (bytes, seconds)."""
    llama, loop = job.llama, job.loop
    tokens_per_step = loop.batch_size * job.context
    per_token = flops_per_token(llama, job.context)
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


def flops_per_token(llama: LlamaConfig, context: int) -> float:
    """`train.speed`'s figure, which the loop's MFU is reckoned from too."""
    from hanllama.train import speed

    return speed.flops_per_token(llama, context)


def _on(name: str, job: Job, options: PlanConfig) -> dict[str, Any]:
    """The forecast on one device."""
    target = _here(job.loop) if name == HERE else _named(name, job.loop)
    one = job.one_pass(target.half, options.count)
    peak = memory.peak(job.llama, one, target.kind)
    # Weights, two moments and a gradient of each further model that trains; weights of the others.
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
    work = job.cost.work * flops_per_token(job.llama, job.context) / (3 * forward_share)
    assumed_micro = micro_tokens * work / (target.flops * mfu)
    micro, rest, basis = assumed_micro, 0.0, f"assumed MFU {mfu:.2f}"
    kernels = (job.llama.num_hidden_layers + 2) * _KERNELS_PER_LAYER * job.cost.work
    launches = kernels * _LAUNCH_SECONDS
    if target.kind == "gpu" and launches > assumed_micro:
        micro, basis = launches, "assumed: starting kernels takes longer than they do"
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
        "mfu": rate * flops_per_token(job.llama, job.context) / (target.flops * options.count),
        "tokens_per_second": rate,
        "training_seconds": training,
        "evaluation_seconds": evaluation,
        "hours": seconds / 3600,
        "dollars_per_hour": price,
        "cost": None if price is None else seconds / 3600 * price * options.count,
    }


def _advice(job: Job, one: memory.Pass, target: Target, total: int, further: int) -> str:
    """Which setting to lower, and how far."""
    limit = target.memory_bytes - further
    rows = memory.largest_rows(job.llama, one, target.kind, limit)
    recomputed = dataclasses.replace(one, recompute=True)
    with_it = memory.largest_rows(job.llama, recomputed, target.kind, limit)
    start = f"needs {_gib(total)} of {_gib(target.memory_bytes)}: "
    ways = []
    if rows:
        ways.append(f"lower loop.micro_batch_size from {one.rows} to {rows} or less")
    if with_it > rows and not one.recompute:
        small = "" if with_it >= one.rows else f" with loop.micro_batch_size {with_it} or less"
        ways.append(f"set loop.gradient_checkpointing true{small}")
    if not ways:
        return start + "not even one row fits: choose a smaller model or context"
    return start + ", or ".join(ways)


# --- devices -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A device as a forecast needs it.

    flops: peak FLOP/s in the run's dtype; mfu: the share of it to assume.
    """

    name: str
    kind: memory.Kind
    half: bool
    flops: float
    mfu: float
    memory_bytes: float
    dollars_per_hour: float | None


def _named(name: str, loop: LoopConfig) -> Target:
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


def _here(loop: LoopConfig) -> Target:
    """The device that a run on this machine would take."""
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
        # An unknown GPU has no data sheet here: its speed must be measured or given.
        flops = peak_flops(device, dtype) or 1e13
        return Target(name, "gpu", half, flops, mfu, limit, None)
    import psutil

    limit = float(psutil.virtual_memory().total) * _USABLE
    flops = peak_flops(torch.device("cpu"), dtype)  # MPS too: a floor, where nothing is measured
    name = f"{device.type}, {torch.get_num_threads()} threads"
    return Target(name, "cpu", half, flops, devices.CPU_MFU, limit, None)


def measure(job: Job, micros: int, expected_micro: float) -> tuple[float, float]:
    """Run the real loop for some steps: (seconds of a micro-batch, of the rest of a step).

    Rows are the data's where it is there, else random tokens in documents of half a row. Steps of
    one and of two micro-batches alternate where the job's have more, so that the optimizer's part
    is known apart and nobody waits for an accumulation of a hundred. The first step, in which
    kernels are chosen and memory is first touched, does not count.

    Args:
        micros: micro-batches of one of the job's steps.
        expected_micro: a guess at the seconds of one, which decides how many are run.
    """
    import numpy as np
    import torch

    from hanllama.data.mix import Array, PackedRows
    from hanllama.data.shards import open_shards
    from hanllama.model.card import ModelCard
    from hanllama.model.device import choose_device
    from hanllama.model.llama import Llama
    from hanllama.train.config import OptimConfig
    from hanllama.train.loop import Loop
    from hanllama.train.objectives.pretrain import Pretrain
    from hanllama.train.parallel import World

    few = min(micros, 2)
    steps = round(_MEASURE_SECONDS / (expected_micro * few))
    steps = min(max(steps, _FEWEST_STEPS), _MOST_STEPS)
    began: list[float] = []

    class Rows(PackedRows):
        """The loop asks for a step's rows as it begins: that is where the clock is read."""

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
    model.to(choose_device(job.loop.device))
    objective = Pretrain(
        model,
        Rows(source, job.context, 0, 0),
        None,
        np.zeros(job.llama.vocab_size, np.int32),
        batch_size=rows_of_step,
        micro_batch_size=micro_rows,
        eval_rows=0,
        across_documents=job.across_documents,
        compile=job.loop.compile,
        world=World(),
        fingerprint={},
    )
    Loop(
        objective,
        OptimConfig(),
        dataclasses.replace(job.loop, max_steps=steps + 2, stop_at=0, auto_micro_batch=False),
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
    if not 0 < micro <= one:  # noise: a micro-batch cannot cost more than a step of one
        micro = two / 2
    return micro, max(one - micro, 0.0)


class RandomTokens:
    """A split of random tokens in documents of half a row (of a whole one, where none share)."""

    def __init__(self, rows: int, context: int, vocab_size: int, documents: bool) -> None:
        length = max(2, context // 2 + 1 if documents else context + 1)
        count = rows * (2 if documents else 1)
        self._length, self._count, self._vocab_size = length, count, vocab_size

    def document_starts(self) -> Any:
        """[documents + 1] where each begins, and the end."""
        import numpy as np

        return np.arange(self._count + 1, dtype=np.int64) * self._length

    masked = False

    def trained_at(self, tokens: Any) -> Any:
        """Every token, as there is no mask."""
        import numpy as np

        return np.ones(tokens.shape, np.bool_)

    def copy_into(self, out: Any, positions: Any, starts: Any, lengths: Any) -> None:
        """Random ids, the same for the same span."""
        import numpy as np

        for at, start, length in zip(positions, starts, lengths, strict=True):
            draw = np.random.default_rng(int(start))
            out[at : at + length] = draw.integers(0, self._vocab_size, int(length))


# --- presets -------------------------------------------------------------------------------------


def _presets(options: PlanConfig) -> list[dict[str, Any]]:
    rows = []
    for name, known in PRESETS.items():
        vocab_size = options.vocab_size or known.vocab_size
        # The body's size depends on no vocabulary.
        tied = preset(name, vocab_size=vocab_size or 1, tie_word_embeddings=True)
        untied = dataclasses.replace(tied, tie_word_embeddings=False)
        rows.append(
            {
                "name": name,
                "source": known.source,
                "stated": known.stated,
                "vocab_size": vocab_size,
                "tied_by_default": bool(known.dimensions["tie_word_embeddings"]),
                "tied": tied.parameter_count() if vocab_size else None,
                "untied": untied.parameter_count() if vocab_size else None,
                "without_embeddings": tied.parameter_count(embeddings=False),
                "notes": list(known.notes),
            }
        )
    return rows


def _preset_table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        ("preset", "stated", "tied", "untied", "without embeddings", "vocabulary", "source"),
        *(
            (
                row["name"],
                row["stated"] or "-",
                *(
                    "-" if row[key] is None else f"{row[key]:,}" + mark
                    for key, mark in (
                        ("tied", "*" if row["tied_by_default"] else " "),
                        ("untied", " " if row["tied_by_default"] else "*"),
                    )
                ),
                f"{row['without_embeddings']:,}",
                f"{row['vocab_size']:,}" if row["vocab_size"] else "-",
                row["source"],
            )
            for row in rows
        ),
    ]
    notes = [f"{row['name']}: {note}" for row in rows for note in row["notes"]]
    legend = "* the preset's own choice; -: it depends on the tokenizer (--vocab-size shows it)"
    return "\n".join([_aligned(cells), legend, *notes])


# --- words ---------------------------------------------------------------------------------------


def _page(found: dict[str, Any]) -> str:
    epochs = "" if found["epochs"] is None else f", {found['epochs']:.2f} epochs"
    checkpointing = ", gradient checkpointing" if found["gradient_checkpointing"] else ""
    facts = [
        ("plan", found["name"]),
        (
            "parameters",
            f"{found['parameters']:,}; {found['parameters_without_embeddings']:,} without"
            f" embeddings (vocabulary {found['vocab_size']:,})",
        ),
        (
            "step",
            f"{found['tokens_per_step']:,} tokens: {found['batch_size']} rows of"
            f" {found['context']}, {found['micro_batch_size']} at a time{checkpointing}",
        ),
        ("steps", f"{found['steps']:,}, {found['tokens']:,} tokens{epochs}"),
        ("arithmetic", f"{found['flops']:.3g} FLOPs, {found['flops_per_token']:.3g} a token"),
    ]
    width = max(len(name) for name, _ in facts)
    head = "\n".join(f"{name:<{width}}  {text}" for name, text in facts)
    cells = [("device", "dtype", "peak memory", "tokens/s", "time", "cost", "speed is")]
    for device in found["devices"]:
        fits = "" if device["fits"] else " does NOT fit"
        cells.append(
            (
                device["device"],
                device["dtype"],
                f"{_gib(device['memory']['total'])} of {_gib(device['memory_limit'])}{fits}",
                f"{device['tokens_per_second']:,.0f}",
                _time(device["hours"]),
                "-" if device["cost"] is None else f"${device['cost']:,.2f}",
                device["basis"],
            )
        )
    parts = _parts(found["devices"][0]) if found["devices"] else ""
    warnings = [f"{d['device']}: {d['advice']}" for d in found["devices"] if d["advice"]]
    note = "Prices and assumed MFU are orders of magnitude: --price and --mfu replace them."
    if found["work"] != 1 or found["counts"] != "packed rows":
        note += (
            f"\nloop.batch_size counts {found['counts']}; a sequence is assumed to fill half of the"
            f" context, and a row to cost {found['work']:.2f} training passes by time."
        )
    return "\n".join([head, "", _aligned(cells), parts, note, *warnings])


def _parts(device: dict[str, Any]) -> str:
    parts = {k: v for k, v in device["memory"].items() if k != "total" and v}
    return f"memory on {device['device']}: " + ", ".join(f"{k} {_gib(v)}" for k, v in parts.items())


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in cells)
    return "\n".join(line.rstrip() for line in lines)


def _time(hours: float) -> str:
    return duration(hours * 3600) if hours < 100 else f"{hours:,.0f} h ({hours / 24:,.0f} days)"


def _gib(count: float) -> str:
    return f"{count / memory.GIB:.2f} GiB"


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=2)
