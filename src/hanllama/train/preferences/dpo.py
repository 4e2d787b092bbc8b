"""Preferences without a reward model: DPO, IPO, KTO, ORPO, SimPO, on pairs or judged answers.

`hanllama dpo --loss NAME` trains a chat model on the preferences of people (or models). The losses
are files in `train/preferences/losses/`. Here are their log-probabilities of packed answers, under
the trained model in each step, and under the reference once, before the first step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hanllama.base import fingerprint, fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.model.checkpoint import load_model
from hanllama.model.device import autocast, choose_dtype
from hanllama.model.llama import Llama
from hanllama.train.command import Session, reads_otherwise, training
from hanllama.train.config import LoopConfig
from hanllama.train.objective import Figures
from hanllama.train.preferences import losses as preference
from hanllama.train.preferences.config import DpoConfig
from hanllama.train.preferences.data import Prepared, Row, prepare_rows, reference_log_probs
from hanllama.train.preferences.losses import Answers, PreferenceLoss, WholeStep
from hanllama.train.preferences.objective import Array, PreferenceObjective, Split
from hanllama.train.run import DATA
from hanllama.train.sequences import TokenSequence, pack_sequences, sequence_log_probs

_SIDES = ("chosen", "rejected")


class Preference(PreferenceObjective):
    """A preference loss on packed answers.

    Args:
        name: the loss's name, for the model card.
        more: the arguments of `PreferenceObjective`; rows with the reference's log-probabilities
            if the loss needs them.

    Figures: `reward` is the loss's; `log_prob` is per token; `drift` is the log-ratio to the
    reference per token, negative when answers have become less probable. A pair is ranked right
    when the chosen answer's reward is higher, a judged answer when its reward has the right sign.
    `kl` is that of unpaired losses.
    """

    def __init__(self, model: Llama, loss: PreferenceLoss, name: str, *more: Any) -> None:
        self.name = name
        kinds = ("reward", "log_prob", "drift") if loss.NEEDS_REFERENCE else ("reward", "log_prob")
        self.names = ["loss", "accuracy", *(f"{kind}_{side}" for kind in kinds for side in _SIDES)]
        if not loss.PAIRED:
            self.names.append("kl")
        self._loss = loss
        super().__init__(model, *more)

    def row_losses(self, split: Split, part: Array, whole: WholeStep, figures: Figures) -> Tensor:
        """The losses of the rows in `part`; adds to the figures."""
        rows = [split.rows[i] for i in part]
        sequences = [row.first for row in rows]
        references = split.references_of(part)
        if self._loss.PAIRED:
            sequences += [row.second for row in rows]
            chosen = np.arange(len(rows))
            rejected = chosen + len(rows)
            references_S = references.T.reshape(-1)
        else:
            good = np.array([row.good for row in rows])
            chosen, rejected = np.flatnonzero(good), np.flatnonzero(~good)
            references_S = references[:, 0]
        sums_S, counts_S = self._log_probs(sequences)
        reference_S = torch.from_numpy(references_S).to(self.device)

        def answers(numbers: NDArray[np.intp]) -> Answers:
            index = torch.from_numpy(numbers).to(self.device)
            known = self._loss.NEEDS_REFERENCE
            return Answers(sums_S[index], counts_S[index], reference_S[index] if known else None)

        sides = answers(chosen), answers(rejected)
        losses = self._loss(*sides, whole)
        self._count(figures, losses, sides, whole)
        return losses

    def answer_tokens(self, row: Row) -> int:
        """The tokens of both answers of a pair, or of a judged answer."""
        return sum(row.answer_tokens) if self._loss.PAIRED else row.answer_tokens[0]

    @torch.no_grad()
    def kl(self, split: Split, rows: Array) -> float:
        """The mean log-ratio of answers to prompts that are not theirs, at least 0."""
        if self._loss.PAIRED:
            return 0.0
        total = 0.0
        for part in self.parts(rows):
            with autocast(self.device, self.dtype):
                sums_S, _ = self._log_probs([split.rows[i].second for i in part])
            moved_S = sums_S.double().cpu().numpy() - split.references_of(part)[:, 1]
            total += float(moved_S.sum())
        (total,) = self.world.sum([total], self.device)
        return max(0.0, total / len(rows))

    def _log_probs(self, sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
        batch = pack_sequences(sequences, self.pad, self.device)
        return sequence_log_probs(self.model, batch)

    @torch.no_grad()
    def _count(
        self, figures: Figures, losses: Tensor, sides: tuple[Answers, Answers], whole: WholeStep
    ) -> None:
        rewards = [self._loss.rewards(side) for side in sides]
        if self._loss.PAIRED:
            right_S = rewards[0] > rewards[1]
        else:
            right_S = torch.cat((rewards[0] > 0, rewards[1] < 0))
            figures.add("kl", losses.new_tensor([whole.kl]))
        figures.add("loss", losses)
        figures.add("accuracy", right_S.float())
        for name, side, reward_S in zip(_SIDES, sides, rewards, strict=True):
            figures.add(f"reward_{name}", reward_S)
            figures.add(f"log_prob_{name}", side.log_probs_S, side.tokens_S)
            if side.reference_S is not None:
                figures.add(f"drift_{name}", side.log_ratios_S, side.tokens_S)


# --- the command -----------------------------------------------------------------------------


def dpo(config: DpoConfig) -> None:
    """Run `hanllama dpo`: begin, resume, or report that the run is complete."""
    loss = preference.build(config.loss, config.loss_options)
    if config.reference_model and not loss.NEEDS_REFERENCE:
        raise ConfigError(f"loss {config.loss} uses no reference_model; leave it out")
    with training(config, config.loop) as session:
        model, card = session.base_model(config.base_model, config.context, lora=config.lora)
        prepared = prepare_rows(
            config, session, paired=loss.PAIRED, positions=model.config.max_position_embeddings
        )
        rows = prepared.rows
        loop = session.settled(config.loop, len(rows.train))
        found = {**prepared.fingerprint, "model": fingerprint.of_json(model.config.to_hf())}
        if config.loss.endswith(".py"):
            found["loss"] = fs.sha256(Path(config.loss))
        train, heldout = Split(rows.train), Split(rows.heldout)
        if loss.NEEDS_REFERENCE:
            reference = _reference(config, model, prepared)
            found["reference"] = weights_hash(reference)
            session.adopt(reference)
            train, heldout = _compared(reference, prepared, loop, session, found)
            del reference
        session.adopt(model)
        objective = Preference(
            model,
            loss,
            Path(config.loss).stem if config.loss.endswith(".py") else config.loss,
            train,
            heldout,
            loop,
            session.processes,
            found,
        )
        prepared.train(objective, session, config.optim, loop, card)


def weights_hash(model: Llama) -> str:
    """A hash of all weights, as they are in memory."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _reference(config: DpoConfig, model: Llama, prepared: Prepared) -> Llama:
    """The reference: `reference_model`, or the trained model before its first step.

    New adapters change no output yet, so this holds for LoRA too.
    """
    if not config.reference_model:
        return model
    folder, longest = Path(config.reference_model), prepared.rows.longest
    reference = load_model(folder, dtype=torch.float32)
    if problem := reads_otherwise(folder, reference, prepared.tokenizer, longest):
        raise InputError(
            f"the reference model {folder} {problem}: its log-probabilities cannot be compared with"
            f" those of {config.base_model}; name another, or lower context if positions are few"
        )
    return reference


def _compared(
    reference: Llama,
    prepared: Prepared,
    loop: LoopConfig,
    session: Session,
    found: Mapping[str, str],
) -> tuple[Split, Split]:
    """The rows with the reference's log-probabilities, which are computed once per run."""
    reference.eval()
    pad, dtype = reference.config.pad_token_id or 0, choose_dtype(loop.dtype, session.device)

    @torch.no_grad()
    def of_rows(part: Sequence[Row]) -> NDArray[np.float64]:
        sequences = [row.first for row in part] + [row.second for row in part]
        batch = pack_sequences(sequences, pad, session.device)
        with autocast(session.device, dtype):
            sums_S, _ = sequence_log_probs(reference, batch)
        return sums_S.double().cpu().numpy().reshape(2, -1).T

    def split(name: str, rows: Sequence[Row]) -> Split:
        values = reference_log_probs(
            rows,
            of_rows,
            kept=session.output / DATA / f"reference-{name}",
            fingerprint=fingerprint.of_json([name, str(dtype), dict(found)]),
            micro_batch_size=min(loop.micro_batch_size, loop.batch_size),
            world=session.processes,
            device=session.device,
        )
        return Split(rows, values)

    rows = prepared.rows
    return split("train", rows.train), split("heldout", rows.heldout)
