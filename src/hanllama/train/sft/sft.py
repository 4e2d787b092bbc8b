"""Supervised fine-tuning: predict the assistant's answers and their ends.

`hanllama sft` reads conversations of any layout, encodes them with the chat template into masked
shards in the run folder, and trains on them as pretraining trains on text: packed rows, attention
inside each conversation, a mean loss over the trained tokens of the whole step. Full tuning or
LoRA, with NEFTune and a curriculum as options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hanllama.base.errors import InputError
from hanllama.batches.mix import Array, PackedRows, Rows, splitmix64
from hanllama.batches.shards import Shards, open_shards
from hanllama.model.llama import Llama
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.command import training
from hanllama.train.config import LoopConfig
from hanllama.train.objective import Micro
from hanllama.train.pretrain import Pretrain, fingerprint
from hanllama.train.sft import data as sft_data
from hanllama.train.sft.config import SftConfig
from hanllama.train.sft.stages import Stages


class Sft(Pretrain):
    """Next-token prediction on the trained tokens of conversations."""

    name = "sft"

    def __init__(self, *args: Any, neftune_alpha: float = 0.0, trim: bool = False) -> None:
        """
        Args:
            args: the arguments of `Pretrain`.
            neftune_alpha: the noise's strength; 0 for none.
            trim: cut a micro-batch after its last trained token (rows of one conversation each).
        """
        super().__init__(*args)
        self._alpha, self._trim = neftune_alpha, trim

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's rows of the step, in micro-batches, with the seeds of their noise."""
        micros = super().prepare(step)
        if not self._alpha:
            return micros
        seed = self.settings.seed
        return [replace(m, data=(*m.data, noise_seeds(seed, step, m.rows))) for m in micros]

    def noise(self, micro: Micro) -> Tensor | None:
        """NEFTune's noise; None in an evaluation, whose micro-batches have no seeds."""
        _, _, positions, documents, *seeds = micro.data
        width = self.model.config.hidden_size
        return neftune(positions, documents, width, self._alpha, seeds[0]) if seeds else None

    def evaluate(self) -> Mapping[str, float]:
        """Held-out loss per trained token, its perplexity, and bits per byte of the answers."""
        figures = super().evaluate()
        if not figures:
            return {}
        return {**figures, "heldout_perplexity": math.exp(min(figures["heldout_loss"], 700.0))}

    def _micro(self, source: Rows, rows: Array) -> Micro:
        micro = super()._micro(source, rows)
        if not self._trim:
            return micro
        end = int((micro.data[1] >= 0).any(0).nonzero()[-1]) + 1
        return replace(micro, data=tuple(t if t is None else t[:, :end] for t in micro.data))


def noise_seeds(seed: int, step: int, rows: Sequence[int]) -> list[int]:
    """A seed for each row's noise; it depends on the row and the step, not the micro-batch."""
    salt = splitmix64(splitmix64(np.array([seed, step], dtype=np.uint64)))
    mixed = splitmix64(np.array(rows, dtype=np.uint64) ^ salt[0]) ^ salt[1]
    return [int(value) for value in splitmix64(mixed) >> np.uint64(1)]


def neftune(
    positions_BT: Tensor,
    documents_BT: Tensor | None,
    width: int,
    alpha: float,
    seeds: Sequence[int],
) -> Tensor:
    """The noise of NEFTune (Jain et al. 2023, arXiv:2310.05914), [B, T, width].

    Uniform within alpha / sqrt(L x width), where L is the length of the token's conversation, so
    packing makes no difference.
    """
    device = positions_BT.device
    if documents_BT is None:
        lengths_BT = (positions_BT.amax(1, keepdim=True) + 1).expand_as(positions_BT)
    else:
        numbers_BT = documents_BT + 1  # padding is document 0
        counts = torch.zeros(
            len(numbers_BT), int(numbers_BT.max()) + 1, dtype=torch.long, device=device
        )
        counts.scatter_add_(1, numbers_BT, torch.ones_like(numbers_BT))
        lengths_BT = counts.gather(1, numbers_BT)
    noise_BTD = torch.empty(*positions_BT.shape, width, device=device)
    for row, seed in enumerate(seeds):
        noise_BTD[row].uniform_(-1.0, 1.0, generator=torch.Generator(device).manual_seed(seed))
    return noise_BTD * (alpha / torch.sqrt(lengths_BT * width))[..., None]


def sft(config: SftConfig) -> None:
    """Run `hanllama sft`: begin, resume, or report that the run is complete."""
    with training(config, config.loop) as session:
        tokenizer = load_tokenizer(config.base_model)
        model, card = session.base_model(config.base_model, config.context, config.lora)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise InputError(
                f"the tokenizer in {config.base_model} has {tokenizer.vocab_size:,} ids, the model"
                f" {model.config.vocab_size:,}: they do not belong together"
            )
        context = config.context or model.config.max_position_embeddings
        if session.processes.is_main:
            resumes = session.checkpoint is not None
            sft_data.prepare(config, tokenizer, context, must_be_there=resumes)
        session.processes.barrier()
        shards = open_shards(Path(config.output) / "data")
        template = ChatTemplate(load_tokenizer(shards.tokenizer_folder))
        model.stop_ids = tuple(template.end_ids)
        pad = model.config.pad_token_id or 0

        def rows(split: str) -> PackedRows:
            seed = config.loop.seed
            return PackedRows(shards.split(split), context, seed, pad, packing=config.packing)

        stages = [rows(name) for name in sft_data.train_splits(shards)]
        loop = session.settled(config.loop, sum(stage.n_rows for stage in stages))
        train: Rows = stages[0]
        if len(stages) > 1:
            train = Stages(stages, loop.max_steps * loop.batch_size, loop.seed)
        session.adopt(model)
        objective = Sft(
            model,
            train,
            rows(sft_data.HELDOUT) if sft_data.HELDOUT in shards.splits else None,
            shards.token_bytes,
            loop,
            session.processes,
            _fingerprint(shards, model),
            neftune_alpha=config.neftune_alpha,
            trim=not config.packing,
        )
        session.train(
            objective,
            config.optim,
            loop,
            tokenizer_folder=shards.tokenizer_folder,
            card=card,
            context=context,
            announcement=_announcement(shards, model, train, loop),
            template=template,
        )


def _fingerprint(shards: Shards, model: Llama) -> dict[str, str]:
    found = fingerprint(shards, model.config)
    return found if model.adapter is None else {**found, "base": model.adapter.fingerprint}


def _announcement(shards: Shards, model: Llama, train: Rows, loop: LoopConfig) -> str:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = model.config.parameter_count()
    stages = sft_data.train_splits(shards)
    order = f" in {len(stages)} stages" if len(stages) > 1 else ""
    epochs = loop.max_steps * loop.batch_size / train.n_rows
    return (
        f"{sft_data.summary(shards)}\n{trained / 1e6:.2f}M of {total / 1e6:.2f}M parameters"
        f" trained; {train.n_rows:,} rows of {train.row_length}{order}"
        f" ({100 * train.padding_share:.2f} % padding), {loop.max_steps:,} steps of"
        f" {loop.batch_size} rows: {epochs:.2f} epochs"
    )
