"""The trainings to plan: those of a config, a recipe or a preset, each with its numbers.

The number of steps is `loop.max_steps`, else it follows from `--tokens`, else from the rows of the
data; a training without any of these cannot be planned.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hanllama import recipe as recipes
from hanllama.base import config as configs
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest
from hanllama.model.folder import load_config
from hanllama.model.presets import PRESETS, LlamaConfig
from hanllama.plan import memory
from hanllama.plan.cost import Cost, cost
from hanllama.plan.options import PlanConfig
from hanllama.train.config import LoopConfig, ModelShape, PretrainConfig

if TYPE_CHECKING:
    from hanllama.batches.mix import PackedRows, TokenSource


@dataclass(frozen=True)
class Job:
    """One training to plan: the model, the shape of its steps, and their number.

    rows, heldout_rows: of the data; None if unknown.
    n_predictions: number of trained tokens in the data; None if unknown.
    documents: rows hold several documents, which attention separates by a mask.
    data: the shards folder, if it exists.
    cost: of a row, relative to pretraining; `loop` counts packed rows already.
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
        """A micro-batch, for the memory formula."""
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
        """The number of held-out rows of all evaluations together."""
        every = {self.loop.save_every, self.loop.eval_every} - {0}
        last = self.loop.max_steps
        points = {step for e in every for step in range(e, last + 1, e)} | {last}
        there = self.heldout_rows if self.heldout_rows is not None else self.loop.eval_rows
        return len(points) * min(self.loop.eval_rows or there, there)


def jobs(options: PlanConfig) -> list[Job]:
    """The trainings that the options ask for."""
    if options.training and options.preset:
        raise ConfigError("give a config or recipe, or --preset, not both")
    if options.preset:
        made = PretrainConfig(data="", output="", model=ModelShape(preset=options.preset))
        return [_job(options.preset, made, 0, options)]
    if not options.training:
        raise ConfigError(
            "nothing to plan: give a pretrain config, a recipe, or --preset NAME --tokens N;"
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
            "hanllama: notice: not planned, since their data does not exist yet and sets their"
            f" number of steps: {', '.join(unknown)}; set loop.max_steps to plan them",
            file=sys.stderr,
        )
    if not made:
        raise ConfigError(f"{found.where} has no training that can be planned")
    return made


def _later_job(
    name: str, training: Any, llama: LlamaConfig, price: Cost, options: PlanConfig
) -> Job:
    """The job of a training that starts from a model: SFT and the stages after it."""
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
        from hanllama.batches.shards import open_shards

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
        raise ConfigError(f"{name}: {where}, so its number of rows is unknown: give --tokens")
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
        raise ConfigError(
            "there is no tokenizer yet, so the vocabulary is unknown: give --vocab-size"
        )
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
    from hanllama.batches.mix import PackedRows

    return PackedRows(split, context, seed=0, pad=0)
