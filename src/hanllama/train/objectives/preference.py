"""Preferences without a reward model: DPO, IPO, KTO, ORPO, SimPO, on pairs or judged answers.

`hanllama dpo --loss NAME` trains a chat model on what people (or models) preferred. The losses are
files in `train/preference/`; here is what they share: log-probabilities of packed answers, the
reference's, computed once before the first step, and figures that say whether it goes well.

A step is `loop.batch_size` pairs. Its loss is a mean over them, and what its micro-batches weigh is
tokens of answers, known beforehand: so `tokens` in the metrics counts what it does elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hanllama import fingerprint
from hanllama.data.mix import rows_of_step
from hanllama.errors import ConfigError, InputError
from hanllama.model.checkpoint import load_model
from hanllama.model.device import choose_dtype
from hanllama.model.llama import Llama
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train import preference
from hanllama.train.command import training
from hanllama.train.objective import Micro, Objective
from hanllama.train.parallel import World
from hanllama.train.preference import Answers, PreferenceLoss, WholeStep
from hanllama.train.preference_config import DpoConfig
from hanllama.train.preference_data import PreferenceRows, Row, read_rows, reference_log_probs
from hanllama.train.run import DATA
from hanllama.train.sequences import TokenSequence, pack_sequences, sequence_log_probs

Array = NDArray[np.int64]
# A batch of a few pairs is ranked right as a whole now and then; so many in a row mean something.
_STEPS_OF_ONE_KIND = 20
# exp(-0.5): chosen answers are 0.6 times as probable a token as they were.
_FALL_NATS_PER_TOKEN = 0.5


@dataclass(frozen=True)
class Split:
    """Rows with log p of their two sequences under the reference, [rows, 2], if there is one."""

    rows: Sequence[Row]
    references: NDArray[np.float32] | None = None

    def references_of(self, part: Array) -> NDArray[np.float32]:
        """Those of some rows; zeros where there is no reference."""
        if self.references is None:
            return np.zeros((len(part), 2), dtype=np.float32)
        return self.references[part]


class Preference(Objective):
    """A preference loss on packed answers; weights are counts of the answers' tokens."""

    def __init__(
        self,
        model: Llama,
        loss: PreferenceLoss,
        train: Split,
        heldout: Split,
        *,
        name: str,
        batch_size: int,
        micro_batch_size: int,
        eval_rows: int,
        seed: int,
        pad: int,
        dtype: torch.dtype,
        world: World,
        fingerprint: Mapping[str, str],
    ) -> None:
        """
        Args:
            model: on its device.
            loss: what is minimised.
            train, heldout: the rows of the two splits; no held-out rows, no evaluation.
            name: the loss's, for the model card.
            batch_size: rows (pairs or judged answers) of a step, over all processes.
            micro_batch_size: rows of one pass.
            eval_rows: held-out rows of an evaluation; 0 means all.
            pad: any token, to fill rows with.
            dtype: of the passes that are made before the loop's own.
            fingerprint: what a resume must find unchanged.
        """
        if batch_size < world.size:
            raise ConfigError(
                f"loop.batch_size {batch_size} is smaller than the {world.size} processes: each"
                " needs a pair of every step"
            )
        self.name, self.model, self.micro_batch_size = name, model, micro_batch_size
        self._loss, self._train, self._heldout = loss, train, heldout
        self._batch_size, self._eval_rows, self._seed = batch_size, eval_rows, seed
        self._pad, self._dtype, self._world = pad, dtype, world
        self._fingerprint = dict(fingerprint)
        self._device = model.output_weight().device
        self._figures = Figures()
        self._metrics: Mapping[str, float] = {}
        self._kl = 0.0
        self._micros_left = 0
        self._watch = Watch()

    # --- a step ---

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's rows of the step, in micro-batches."""
        split = self._train
        rows = rows_of_step(step, self._batch_size, len(split.rows), self._seed)
        whole = self._whole_step(split, rows)
        mine = rows[self._world.rank :: self._world.size]
        parts = _parts(mine, self.micro_batch_size)
        self._figures, self._kl, self._micros_left = Figures(), whole.kl, len(parts)
        tokens_R = self._answer_tokens(split, rows)
        # The loop divides by the step's tokens; the loss is a mean over its rows.
        scale = float(tokens_R.sum()) / len(rows)
        return [
            Micro(
                float(self._answer_tokens(split, part).sum()),
                part.tolist(),
                (split, part, whole, scale),
            )
            for part in parts
        ]

    def loss(self, micro: Micro) -> Tensor:
        """The sum of the losses of the micro-batch's rows, scaled to the step's tokens."""
        split, part, whole, scale = micro.data
        loss_sum: Tensor = self._losses(split, part, whole, self._figures).sum() * scale
        self._micros_left -= 1
        if self._micros_left == 0:  # every process is here: the figures are of the whole step
            self._metrics = self._summed(self._figures)
        return loss_sum

    def step_metrics(self) -> Mapping[str, float]:
        """Rewards, accuracy, margin and drift of the last step."""
        own = {} if self._loss.PAIRED else {"kl": self._kl}
        return {name: value for name, value in self._metrics.items() if name != "loss"} | own

    def alarms(self) -> Sequence[str]:
        """What is wrong with the last steps."""
        return self._watch.look_at(self._metrics)

    def evaluate(self) -> Mapping[str, float]:
        """Held-out loss, accuracy and margin."""
        split = self._heldout
        n_rows = len(split.rows)
        if n_rows == 0:
            return {}
        count = min(self._eval_rows or n_rows, n_rows)
        rows = rows_of_step(0, count, n_rows, self._seed)
        whole = self._whole_step(split, rows)
        figures = Figures()
        for part in _parts(rows[self._world.rank :: self._world.size], self.micro_batch_size):
            self._losses(split, part, whole, figures)
        found = self._summed(figures)
        return {f"heldout_{name}": found[name] for name in ("loss", "accuracy", "margin")}

    def fingerprint(self) -> Mapping[str, str]:
        """Data, tokenizer, model, reference."""
        return self._fingerprint

    # --- what models think of answers ---

    def _losses(self, split: Split, part: Array, whole: WholeStep, figures: Figures) -> Tensor:
        """The losses of some rows; what they say is added to the figures."""
        rows = [split.rows[i] for i in part]
        first = [row.first for row in rows]
        if self._loss.PAIRED:
            sequences = first + [row.second for row in rows]
            chosen_S = np.arange(len(rows))
            rejected_S = chosen_S + len(rows)
            references_S = split.references_of(part).T.reshape(-1)
        else:
            sequences = first
            good = np.array([row.good for row in rows])
            chosen_S, rejected_S = np.flatnonzero(good), np.flatnonzero(~good)
            references_S = split.references_of(part)[:, 0]
        sums_S, counts_S = self._log_probs(sequences)
        reference_S = torch.from_numpy(references_S).to(self._device)

        def answers(numbers: NDArray[np.intp]) -> Answers:
            index = torch.from_numpy(numbers).to(self._device)
            reference = reference_S[index] if split.references is not None else None
            return Answers(sums_S[index], counts_S[index], reference)

        chosen, rejected = answers(chosen_S), answers(rejected_S)
        losses = self._loss(chosen, rejected, whole)
        with torch.no_grad():
            figures.add(self._loss, losses, chosen, rejected)
        return losses

    def _log_probs(self, sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
        batch = pack_sequences(sequences, self._pad, self._device)
        return sequence_log_probs(self.model.hidden, self.model.output_weight(), batch)

    def _whole_step(self, split: Split, rows: Array) -> WholeStep:
        """What the losses must know of all rows of a step, wherever they are computed."""
        good = np.array([split.rows[i].good for i in rows])
        first_R = np.array([split.rows[i].answer_tokens[0] for i in rows])
        kl = 0.0 if self._loss.PAIRED else self._kl_of(split, rows)
        return WholeStep(len(rows), float(first_R[good].sum()), kl)

    @torch.no_grad()
    def _kl_of(self, split: Split, rows: Array) -> float:
        """How far the model has moved, by answers to prompts that they do not belong to."""
        total = 0.0
        for part in _parts(rows[self._world.rank :: self._world.size], self.micro_batch_size):
            sequences = [split.rows[i].second for i in part]
            with autocast(self._device, self._dtype):
                sums_S, _ = self._log_probs(sequences)
            moved_S = sums_S.double().cpu().numpy() - split.references_of(part)[:, 1]
            total += float(moved_S.sum())
        (total,) = self._world.sum([total], self._device)
        return max(0.0, total / len(rows))

    def _answer_tokens(self, split: Split, rows: Array) -> Array:
        """Trained tokens of each row."""
        tokens = np.array([split.rows[i].answer_tokens for i in rows], dtype=np.int64)
        return tokens.reshape(-1, 2).sum(1) if self._loss.PAIRED else tokens.reshape(-1, 2)[:, 0]

    def _summed(self, figures: Figures) -> dict[str, float]:
        return figures.means(self._world, self._device, self._train.references is not None)


class Figures:
    """Sums over answers, from which a step's or an evaluation's figures are made.

    Rewards are the loss's own. `drift` is the log-ratio to the reference a token: negative where
    answers have become less probable than they were. A pair is ranked right when the chosen
    answer's reward is the higher one, a judged answer when its reward has the right sign.
    """

    SIDES = ("chosen", "rejected")
    NAMES = ("answers", "tokens", "reward", "log_prob", "drift")

    def __init__(self) -> None:
        self._sums: list[Tensor] = []

    def add(self, loss: PreferenceLoss, losses: Tensor, chosen: Answers, rejected: Answers) -> None:
        """Add the answers of a micro-batch."""
        rewards = [loss.rewards(side) for side in (chosen, rejected)]
        if loss.PAIRED:
            right_S = rewards[0] > rewards[1]
        else:
            right_S = torch.cat((rewards[0] > 0, rewards[1] < 0))
        number = losses.new_tensor
        values = [losses.sum(), right_S.sum(), number(right_S.numel())]
        for side, reward_S in zip((chosen, rejected), rewards, strict=True):
            compared = side.reference_S is not None
            drift = side.log_ratios_S.sum() if compared else number(0.0)
            count, tokens = number(reward_S.numel()), side.tokens_S.sum()
            values += [count, tokens, reward_S.sum(), side.log_probs_S.sum(), drift]
        self._sums.append(torch.stack([value.float() for value in values]))

    def means(self, world: World, device: torch.device, reference: bool) -> dict[str, float]:
        """The figures over all processes."""
        width = 3 + len(self.SIDES) * len(self.NAMES)
        own = (
            torch.stack(self._sums).cpu().double().sum(0).tolist() if self._sums else [0.0] * width
        )
        loss, right, ranked, *rest = world.sum(own, device)
        found = {"loss": loss / max(ranked, 1.0), "accuracy": right / max(ranked, 1.0)}
        for number, side in enumerate(self.SIDES):
            here = rest[number * len(self.NAMES) :]
            count, tokens, reward, log_prob, drift = here[: len(self.NAMES)]
            found[f"reward_{side}"] = reward / max(count, 1.0)
            found[f"log_prob_{side}"] = log_prob / max(tokens, 1.0)
            if reference:
                found[f"drift_{side}"] = drift / max(tokens, 1.0)
        found["margin"] = found["reward_chosen"] - found["reward_rejected"]
        return found


class Watch:
    """What the figures of the last steps warn of."""

    def __init__(self) -> None:
        self._accuracies: deque[float] = deque(maxlen=_STEPS_OF_ONE_KIND)
        self._fall = _FALL_NATS_PER_TOKEN

    def look_at(self, figures: Mapping[str, float]) -> list[str]:
        """The alarms after a step; each is raised again only when it has become worse."""
        if not figures:
            return []
        found = []
        self._accuracies.append(figures["accuracy"])
        if len(self._accuracies) == _STEPS_OF_ONE_KIND and len(set(self._accuracies)) == 1:
            (accuracy,) = set(self._accuracies)
            steps = f"in the last {_STEPS_OF_ONE_KIND} steps every answer was"
            if accuracy == 1:
                found.append(
                    f"{steps} ranked right: nothing is left to learn here but the pairs by heart"
                )
                self._accuracies.clear()
            elif accuracy == 0:
                found.append(f"{steps} ranked wrong: are chosen and rejected the wrong way round?")
                self._accuracies.clear()
        drift = figures.get("drift_chosen", 0.0)
        if drift < -self._fall:
            found.append(
                f"the chosen answers have become less probable by {-drift:.2f} nats a token than"
                " they are to the reference: lower optim.learning_rate or raise beta"
            )
            self._fall *= 2
        return found


# --- the command -----------------------------------------------------------------------------


def dpo(config: DpoConfig) -> None:
    """Run `hanllama dpo`: begin, resume, or report that the run is complete."""
    loss = preference.build(config.loss, config.loss_options)
    if config.reference_model and not loss.NEEDS_REFERENCE:
        raise ConfigError(f"loss {config.loss} has no use for a reference_model; leave it out")
    with training(config, config.loop) as session:
        model, card = session.base_model(config.base_model, config.context, lora=config.lora)
        base = Path(config.base_model)
        tokenizer = load_tokenizer(base)
        template = ChatTemplate(tokenizer, config.template)
        notes = session.output / DATA
        context = config.context or model.config.max_position_embeddings
        rows = read_rows(
            config.data,
            template,
            paired=loss.PAIRED,
            context=context,
            heldout=config.heldout_share,
            seed=config.loop.seed,
            layout=config.layout,
            max_quarantine_share=config.max_quarantine_share,
            notes=notes if session.processes.is_main else None,
        )
        found = {
            "data": rows.hash,
            "tokenizer": tokenizer.hash,
            "template": fingerprint.of_json(template.source),
            "model": fingerprint.of_json(model.config.to_hf()),
        }
        dtype = choose_dtype(config.loop.dtype, session.device)
        world = session.processes
        train, heldout = Split(rows.train), Split(rows.heldout)
        reference = model
        if loss.NEEDS_REFERENCE:
            if config.reference_model:
                reference = _other_reference(config, tokenizer.hash)
            found["reference"] = weights_hash(reference)
        session.adopt(model)
        if loss.NEEDS_REFERENCE:
            if reference is not model:
                session.adopt(reference)
            train, heldout = _splits(reference, rows, config, notes, found, dtype, world)
            del reference
        loop = config.loop.with_steps(len(rows.train))
        objective = Preference(
            model,
            loss,
            train,
            heldout,
            name=Path(config.loss).stem if config.loss.endswith(".py") else config.loss,
            batch_size=loop.batch_size,
            micro_batch_size=min(loop.micro_batch_size, loop.batch_size),
            eval_rows=loop.eval_rows,
            seed=loop.seed,
            pad=model.config.pad_token_id or 0,
            dtype=dtype,
            world=world,
            fingerprint=found,
        )
        session.train(
            objective,
            config.optim,
            loop,
            tokenizer_folder=base,
            card=card,
            context=rows.longest,
            announcement=f"{rows.summary}\n{loop.max_steps:,} steps of {loop.batch_size}",
            template=template,
        )


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The precision of the loop's passes, for passes that are made outside of it."""
    enabled = dtype != torch.float32
    return torch.autocast(device.type, dtype if enabled else None, enabled=enabled)


def weights_hash(model: Llama) -> str:
    """A hash of all weights, wherever they were loaded from."""
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _other_reference(config: DpoConfig, tokenizer_hash: str) -> Llama:
    if load_tokenizer(config.reference_model).hash != tokenizer_hash:
        raise InputError(
            f"reference_model {config.reference_model} has another tokenizer than"
            f" {config.base_model}: their log-probabilities cannot be compared"
        )
    return load_model(config.reference_model, dtype=torch.float32)


def _splits(
    model: Llama,
    rows: PreferenceRows,
    config: DpoConfig,
    folder: Path,
    found: Mapping[str, str],
    dtype: torch.dtype,
    world: World,
) -> tuple[Split, Split]:
    """The rows with the reference's log-probabilities, computed or found where an earlier start
    left them."""
    device = model.output_weight().device
    pad = model.config.pad_token_id or 0
    model.eval()

    @torch.no_grad()
    def of_rows(part: Sequence[Row]) -> NDArray[np.float64]:
        sequences = [row.first for row in part] + [row.second for row in part]
        with autocast(device, dtype):
            batch = pack_sequences(sequences, pad, device)
            sums_S, _ = sequence_log_probs(model.hidden, model.output_weight(), batch)
        return sums_S.double().cpu().numpy().reshape(2, -1).T

    def of_split(name: str, split: Sequence[Row]) -> Split:
        values = reference_log_probs(
            split,
            of_rows,
            folder=folder,
            name=name,
            fingerprint=fingerprint.of_json([name, str(dtype), dict(found)]),
            micro_batch_size=config.loop.micro_batch_size,
            world=world,
            add_up=lambda values: world.sum(values, device),
        )
        return Split(split, values)

    return of_split("train", rows.train), of_split("heldout", rows.heldout)


def _parts(rows: Array, size: int) -> list[Array]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
