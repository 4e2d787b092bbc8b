"""What PPO and GRPO have in common: write answers, score them, learn from them for a while.

An experience is so many answers to so many prompts, written by the policy as it then is. It is made
when its first optimizer step is prepared and gives `mini_batches` x `passes` of them; checkpoints
fall between two experiences, so none is ever saved. Which prompts it holds, every draw of its
answers and their order in the steps follow from (seed, number of the experience): a resumed run
writes the same answers.

With several processes each writes the answers to its share of the prompts; what concerns all
(whitening, figures) is summed over them. A mini-batch is a set of answers of the experience,
whoever wrote them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hanllama.batches.mix import permutation
from hanllama.model.batches import FittingBatches
from hanllama.model.device import autocast
from hanllama.model.llama import Llama
from hanllama.train.figures import Figures
from hanllama.train.objective import Micro, Objective
from hanllama.train.parallel import World
from hanllama.train.rl import rollout_alarms
from hanllama.train.rl.config import AlarmConfig, RolloutConfig
from hanllama.train.rl.data import Prompt, Prompts
from hanllama.train.rl.rollouts import Rollout, log_probs_of, roll_out
from hanllama.train.rl.scoring import Scorer
from hanllama.train.sequences import SequenceBatch, pack_sequences

Reference = Callable[[], AbstractContextManager[Llama]]
"""The reference model, for as long as a `with` block lasts."""

# Held-out answers draw from random streams that no answer of the training reaches.
_HELDOUT_STREAMS = 1 << 48
# The order of the prompts and that of the answers in the steps are different permutations.
_STEP_ORDER = 1 << 32


@dataclass(frozen=True)
class Setting:
    """Where and how answers are written and scored.

    Attributes:
        reference: None where no KL to it is wanted.
        answers: of one experience, over all processes.
        group_size: answers to one prompt.
        mini_batches: optimizer steps of one pass over an experience.
        passes: over an experience.
        end_ids: tokens that end an answer.
        vocab_size: of the tokenizer.
        pad: the token that fills packed rows.
        dtype: of the arithmetic of all passes.
        eval_prompts: held-out prompts that an evaluation answers; 0 means all.
        may_halve: on out-of-memory while answers are written, fewer of them at a time.
    """

    prompts: Prompts
    scorer: Scorer
    reference: Reference | None
    rollout: RolloutConfig
    alarm: AlarmConfig
    answers: int
    group_size: int
    mini_batches: int
    passes: int
    end_ids: Sequence[int]
    vocab_size: int
    pad: int
    seed: int
    dtype: torch.dtype
    eval_prompts: int
    may_halve: bool
    world: World
    fingerprint: Mapping[str, str]


@dataclass(frozen=True)
class Experience:
    """This process's answers of an experience.

    Attributes:
        places: of each answer in the experience, from 0.
        rollouts: their `prompt` counts the prompts to learn from.
        scores_A: the rewards.
        log_probs: of each answer's tokens when it was written, [n] each.
        reference: the same by the reference model; None without one.
        figures: of all processes' answers together.
    """

    places: list[int]
    rollouts: list[Rollout]
    scores_A: Tensor
    log_probs: list[Tensor]
    reference: list[Tensor] | None
    figures: dict[str, float]


class LearnsFromAnswers(Objective):
    """An objective that learns from its own model's answers; `weigh` and `loss_of` make it one.

    Weights are answer tokens. Passes are not compiled: rows are as wide as the longest of a batch,
    so hardly two batches have one shape.
    """

    def __init__(self, model: Llama, setting: Setting, micro_batch_size: int) -> None:
        self.model, self.micro_batch_size = model, micro_batch_size
        self.setting = setting
        self.steps_per_experience = setting.mini_batches * setting.passes
        self.device = model.output_weight().device
        self._number = -1
        self._experience: Experience | None = None
        self._watch = rollout_alarms.Watch(setting.alarm, setting.answers // setting.group_size)
        self._alarms: list[str] = []
        self._notices: list[str] = []
        self._batches = FittingBatches(
            setting.rollout.batch,
            "rollout.batch",
            may_halve=setting.may_halve,
            tell=self._notices.append,
        )
        self.of_tokens = Figures(self.names)
        self._micros_left = 0
        self._means: Mapping[str, float] = {}

    names: Sequence[str]
    """Of the figures of a step's tokens."""

    @abstractmethod
    def weigh(self, experience: Experience) -> None:
        """Turn the scores of a new experience into what the loss wants; may add to its figures."""

    @abstractmethod
    def loss_of(self, learnable: Learnable) -> Tensor:
        """The sum of the losses of some answers' tokens; what they say goes into `of_tokens`."""

    def begin_step(self, rollouts: Sequence[Rollout]) -> None:
        """Told before each step which of this process's answers it learns from."""

    @property
    def experience(self) -> Experience:
        """The one that is learnt from now."""
        assert self._experience is not None, "an experience is made when a step is prepared"
        return self._experience

    # --- the objective ---

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's micro-batches; at the first step of an experience its answers, too."""
        number, inside = divmod(step, self.steps_per_experience)
        if number != self._number:
            self._begin(number)
        elif inside:
            self._alarms = []
        setting = self.setting
        turn, part = divmod(inside, setting.mini_batches)
        order = permutation(
            setting.answers, setting.seed + _STEP_ORDER, number * setting.passes + turn
        )
        chosen = set(np.array_split(order, setting.mini_batches)[part].tolist())
        own = [i for i, place in enumerate(self.experience.places) if place in chosen]
        self.begin_step([self.experience.rollouts[i] for i in own])
        size = self.micro_batch_size
        parts = [own[start : start + size] for start in range(0, len(own), size)]
        # A process without an answer in this step still takes part in its sums.
        micros = [self._micro(part) for part in parts] or [Micro(0.0, [], None)]
        self.of_tokens, self._micros_left = Figures(self.names), len(micros)
        return micros

    def loss(self, micro: Micro) -> Tensor:
        """The sum of the losses of the micro-batch's tokens."""
        loss = self._nothing() if micro.data is None else self.loss_of(micro.data)
        self._micros_left -= 1
        if self._micros_left == 0:  # on every process: the figures become those of the whole step
            self._means = self.of_tokens.means(self.setting.world, self.device)
        return loss

    def _micro(self, answers: list[int]) -> Micro:
        rollouts = [self.experience.rollouts[i] for i in answers]
        batch = pack_sequences([r.sequence for r in rollouts], self.setting.pad, self.device)
        tokens = float(sum(len(r.answer_ids) for r in rollouts))
        return Micro(tokens, [r.prompt for r in rollouts], Learnable(answers, batch))

    def evaluate(self) -> Mapping[str, float]:
        """Mean reward of answers to held-out prompts, by part, their length and KL.

        There is no held-out loss: what is optimised is the reward, and the model with the highest
        one may be the one that found the reward's weakness. The last checkpoint is the result.
        """
        setting = self.setting
        held = setting.prompts.heldout
        count = min(setting.eval_prompts or len(held), len(held))
        if not count:
            return {}
        own = list(range(count))[setting.world.rank :: setting.world.size]
        streams = [_HELDOUT_STREAMS + number for number in own]
        _, figures = self._answer(held, own, streams)
        wanted = {k: v for k, v in figures.items() if k not in ("reward_std", "entropy")}
        return {f"heldout_{name}": value for name, value in wanted.items()}

    def row_names(
        self, rows: Sequence[int], decode: Callable[[Sequence[int]], str]
    ) -> Sequence[str]:
        """The ids of the prompts."""
        return [self.setting.prompts.train[row].id for row in rows]

    def fingerprint(self) -> Mapping[str, str]:
        """Prompts, tokenizer, models and rules."""
        return self.setting.fingerprint

    def step_metrics(self) -> Mapping[str, float]:
        """The figures of the experience, and those of the step's tokens."""
        return {**self.experience.figures, **self._means}

    def alarms(self) -> Sequence[str]:
        """What went wrong in the experience that the step began, and memory that ran out."""
        notices = self._notices[:]
        self._notices.clear()
        return [*self._alarms, *notices]

    def state(self) -> Mapping[str, Any]:
        """The first experience's figures, which alarms compare with, and the alarms raised."""
        return self._watch.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take both back."""
        self._watch.restore(state)

    # --- an experience ---

    def _begin(self, number: int) -> None:
        setting = self.setting
        groups = setting.answers // setting.group_size
        own = range(groups)[setting.world.rank :: setting.world.size]
        places = [g * setting.group_size + i for g in own for i in range(setting.group_size)]
        rows = [self._prompt_row(number * groups + place // setting.group_size) for place in places]
        streams = [number * setting.answers + place for place in places]
        with self.deciding():
            answered, figures = self._answer(setting.prompts.train, rows, streams)
            self._experience = replace(answered, places=places, figures=figures)
            self.weigh(self._experience)
        self._number = number
        self._alarms = self._watch.look_at(figures)

    def _prompt_row(self, index: int) -> int:
        """Each prompt once an epoch, in an order of its own every time."""
        count = len(self.setting.prompts.train)
        return int(permutation(count, self.setting.seed, index // count)[index % count])

    def _answer(
        self, prompts: Sequence[Prompt], rows: Sequence[int], streams: Sequence[int]
    ) -> tuple[Experience, dict[str, float]]:
        """Write and score answers to prompts by number; figures of all processes."""
        setting, size = self.setting, self.micro_batch_size
        written = roll_out(
            self.model,
            [prompts[row].ids for row in rows],
            setting.rollout,
            setting.end_ids,
            streams=streams,
            seed=setting.seed,
            vocab_size=setting.vocab_size,
            batches=self._batches,
        )
        rollouts = [replace(r, prompt=row) for r, row in zip(written, rows, strict=True)]
        scores_A, parts = setting.scorer(prompts, rollouts, size=size, pad=setting.pad)
        told = {"size": size, "pad": setting.pad, "temperature": setting.rollout.temperature}
        log_probs = log_probs_of(self.model, rollouts, **told)  # type: ignore[arg-type]
        reference = None
        if setting.reference is not None:
            with setting.reference() as model:
                reference = log_probs_of(model, rollouts, **told)  # type: ignore[arg-type]
        found = Experience([], rollouts, scores_A, log_probs, reference, {})
        return found, self._figures(found, parts)

    def _figures(self, found: Experience, parts: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over the answers (entropy: over the tokens) of all processes.

        The entropy is estimated by -log p of the tokens that were drawn, whose mean it is; the KL
        by k1, summed over an answer.
        """
        sums = {
            "answers": float(len(found.rollouts)),
            "reward": float(found.scores_A.double().sum()),
            "squares": float(found.scores_A.double().square().sum()),
            **{f"reward_{name}": float(part.double().sum()) for name, part in parts.items()},
            "answer_tokens": float(sum(len(r.answer_ids) for r in found.rollouts)),
            "complete": float(sum(r.complete for r in found.rollouts)),
            "entropy": -float(sum(float(values.double().sum()) for values in found.log_probs)),
        }
        if found.reference is not None:
            pairs = zip(found.log_probs, found.reference, strict=True)
            sums["kl"] = float(sum(float((ours - its).double().sum()) for ours, its in pairs))
        totals = self.setting.world.sum(list(sums.values()), self.device)
        figures = dict(zip(sums, totals, strict=True))
        answers, tokens = figures.pop("answers"), figures["answer_tokens"]
        squares, entropy = figures.pop("squares"), figures.pop("entropy")
        means = {name: total / answers for name, total in figures.items()}
        variance = max(squares / answers - means["reward"] ** 2, 0.0)
        return {**means, "reward_std": math.sqrt(variance), "entropy": entropy / tokens}

    # --- for objectives of this kind ---

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Models as they answer: no dropout, no gradients, the arithmetic of the passes."""
        modules = [self.model, *self.further_models().values()]
        _set_training(modules, False)
        try:
            with torch.no_grad(), autocast(self.device, self.setting.dtype):
                yield
        finally:
            _set_training(modules, True)

    def _nothing(self) -> Tensor:
        """The loss of a process that has no answer in this step: 0, with a gradient of 0."""
        trained = [p for m in (self.model, *self.further_models().values()) for p in m.parameters()]
        parameter = next(p for p in trained if p.requires_grad)
        return parameter.reshape(-1)[0] * 0.0


@dataclass(frozen=True)
class Learnable:
    """The content of a micro-batch.

    Attributes:
        answers: which of this process's answers of the experience.
        batch: the same, packed.
    """

    answers: list[int]
    batch: SequenceBatch

    def pick(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The answers' part of something that every answer of the experience has."""
        return [values[i] for i in self.answers]


def _set_training(modules: Sequence[nn.Module], training: bool) -> None:
    for module in modules:
        module.train(training)
