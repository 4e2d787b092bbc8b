"""Shared by PPO and GRPO: write answers, score them, learn from them for a few steps.

An experience is a set of answers that the present policy writes. It is made when its first
optimizer step is prepared, and serves `mini_batches` x `passes` steps. Checkpoints fall between two
experiences, so none is ever saved. Its prompts, the draws of its answers and their order in the
steps depend only on (seed, number of the experience): a resumed run writes the same answers.

Each of several processes writes the answers to its share of the prompts; whitening and figures are
summed over all. A mini-batch is a set of answers of the experience, from any process.
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
from hanllama.train.objective import Micro, RowObjective
from hanllama.train.parallel import World
from hanllama.train.rl import rollout_alarms
from hanllama.train.rl.config import GrpoConfig, PpoConfig
from hanllama.train.rl.data import Prompt, Prompts
from hanllama.train.rl.rollouts import Rollout, log_probs_of, roll_out
from hanllama.train.rl.scoring import Scorer
from hanllama.train.sequences import SequenceBatch, pack_sequences

Reference = Callable[[], AbstractContextManager[Llama]]
"""Gives the reference model inside a `with` block."""

# Held-out answers draw from random streams that training never reaches.
_HELDOUT_STREAMS = 1 << 48
# The order of the prompts and that of the answers in the steps are different permutations.
_STEP_ORDER = 1 << 32


@dataclass(frozen=True)
class Setting:
    """The surroundings of a policy: prompts, scores and the reference model.

    Attributes:
        reference: None if no KL to it is measured.
        end_ids: tokens that end an answer.
        vocab_size: the tokenizer's.
        pad: the token that fills packed rows.
        fingerprint: the hashes of prompts, tokenizer, models and rules that a resume requires.
    """

    prompts: Prompts
    scorer: Scorer
    reference: Reference | None
    end_ids: Sequence[int]
    vocab_size: int
    pad: int
    world: World
    fingerprint: Mapping[str, str]


@dataclass(frozen=True)
class Experience:
    """This process's answers of an experience.

    Attributes:
        places: the number of each answer in the experience, from 0.
        rollouts: the answers; `prompt` is a number among the training prompts.
        scores_A: the rewards.
        log_probs: the log-probabilities of each answer's tokens when it was written, [n] each.
        reference: the same under the reference model; None without one.
        figures: means over the answers of all processes.
    """

    places: list[int]
    rollouts: list[Rollout]
    scores_A: Tensor
    log_probs: list[Tensor]
    reference: list[Tensor] | None
    figures: dict[str, float]


class LearnsFromAnswers(RowObjective):
    """An objective that learns from its model's answers; a subclass adds `weigh` and `loss_of`.

    A micro-batch's weight is its number of answer tokens. Passes are not compiled: rows are as wide
    as the longest of a batch, so batches hardly ever have the same shape.
    """

    def __init__(self, model: Llama, setting: Setting, config: PpoConfig | GrpoConfig) -> None:
        """
        Args:
            model: on its device.
            config: with `loop.max_steps` set.
        """
        super().__init__(model, config.loop, setting.world, setting.fingerprint)
        self.setting = setting
        self.rollout, self.group_size = config.rollout, config.group_size
        self.mini_batches, self.passes = config.mini_batches, config.passes
        self.answers = config.loop.batch_size * config.mini_batches
        """Answers of an experience, over all processes."""
        self.steps_per_experience = config.mini_batches * config.passes
        self._number = -1
        self._experience: Experience | None = None
        self._watch = rollout_alarms.Watch(config.alarm, self.answers // self.group_size)
        self._alarms: list[str] = []
        self._notices: list[str] = []
        self._batches = FittingBatches(
            config.rollout.batch,
            "rollout.batch",
            may_halve=config.loop.auto_micro_batch and setting.world.size == 1,
            tell=self._notices.append,
        )

    @abstractmethod
    def weigh(self, experience: Experience) -> None:
        """Turn the scores of a new experience into advantages; may add to its figures."""

    @abstractmethod
    def loss_of(self, learnable: Learnable) -> Tensor:
        """The sum of the losses of the answers' tokens; adds to `figures`."""

    def begin_step(self, rollouts: Sequence[Rollout]) -> None:
        """Called before each step with this process's answers in it."""

    @property
    def experience(self) -> Experience:
        """The present experience."""
        assert self._experience is not None, "an experience is made when a step is prepared"
        return self._experience

    # --- the objective ---

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's micro-batches; the first step of an experience also writes its answers."""
        number, inside = divmod(step, self.steps_per_experience)
        if number != self._number:
            self._begin(number)
        elif inside:
            self._alarms = []
        turn, part = divmod(inside, self.mini_batches)
        seed = self.settings.seed + _STEP_ORDER
        order = permutation(self.answers, seed, number * self.passes + turn)
        chosen = set(np.array_split(order, self.mini_batches)[part].tolist())
        own = [i for i, place in enumerate(self.experience.places) if place in chosen]
        self.begin_step([self.experience.rollouts[i] for i in own])
        size = self.micro_batch_size
        parts = [own[start : start + size] for start in range(0, len(own), size)]
        # A process without an answer in this step still takes part in its sums.
        micros = [self._micro(part) for part in parts] or [Micro(0.0, [], None)]
        self.begin_passes(len(micros))
        return micros

    def loss(self, micro: Micro) -> Tensor:
        """The sum of the losses of the micro-batch's tokens."""
        loss = self._nothing() if micro.data is None else self.loss_of(micro.data)
        self.end_pass()
        return loss

    def _micro(self, answers: list[int]) -> Micro:
        rollouts = [self.experience.rollouts[i] for i in answers]
        batch = pack_sequences([r.sequence for r in rollouts], self.setting.pad, self.device)
        tokens = float(sum(len(r.answer_ids) for r in rollouts))
        return Micro(tokens, [r.prompt for r in rollouts], Learnable(answers, batch))

    def evaluate(self) -> Mapping[str, float]:
        """The mean reward of answers to held-out prompts, by part, with their length and KL.

        There is no held-out loss, and the highest reward may come from a weakness of the reward:
        the last checkpoint is the result.
        """
        setting = self.setting
        held = setting.prompts.heldout
        count = self.evaluated(len(held))
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

    def step_metrics(self) -> Mapping[str, float]:
        """The figures of the experience and of the step's tokens."""
        return {**self.experience.figures, **self.means}

    def alarms(self) -> Sequence[str]:
        """The alarms of an experience that the step began, and notices of exhausted memory."""
        notices = self._notices[:]
        self._notices.clear()
        return [*self._alarms, *notices]

    def state(self) -> Mapping[str, Any]:
        """The state of the alarms."""
        return self._watch.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the alarms."""
        self._watch.restore(state)

    # --- an experience ---

    def _begin(self, number: int) -> None:
        size, groups = self.group_size, self.answers // self.group_size
        own = range(groups)[self.world.rank :: self.world.size]
        places = [group * size + i for group in own for i in range(size)]
        rows = [self._prompt_row(number * groups + place // size) for place in places]
        streams = [number * self.answers + place for place in places]
        with self.deciding():
            answered, figures = self._answer(self.setting.prompts.train, rows, streams)
            self._experience = replace(answered, places=places, figures=figures)
            self.weigh(self._experience)
        self._number = number
        self._alarms = self._watch.look_at(figures)

    def _prompt_row(self, index: int) -> int:
        """The prompt at a place of the run: each once per epoch, in another order every epoch."""
        count = len(self.setting.prompts.train)
        return int(permutation(count, self.settings.seed, index // count)[index % count])

    def _answer(
        self, prompts: Sequence[Prompt], rows: Sequence[int], streams: Sequence[int]
    ) -> tuple[Experience, dict[str, float]]:
        """Write and score answers to the prompts `rows`; the figures are over all processes."""
        setting, size = self.setting, self.micro_batch_size
        written = roll_out(
            self.model,
            [prompts[row].ids for row in rows],
            self.rollout,
            setting.end_ids,
            streams=streams,
            seed=self.settings.seed,
            vocab_size=setting.vocab_size,
            batches=self._batches,
        )
        rollouts = [replace(r, prompt=row) for r, row in zip(written, rows, strict=True)]
        scores_A, parts = setting.scorer(prompts, rollouts, size=size, pad=setting.pad)
        told = {"size": size, "pad": setting.pad, "temperature": self.rollout.temperature}
        log_probs = log_probs_of(self.model, rollouts, **told)  # type: ignore[arg-type]
        reference = None
        if setting.reference is not None:
            with setting.reference() as model:
                reference = log_probs_of(model, rollouts, **told)  # type: ignore[arg-type]
        found = Experience([], rollouts, scores_A, log_probs, reference, {})
        return found, self._figures(found, parts)

    def _figures(self, found: Experience, parts: Mapping[str, Tensor]) -> dict[str, float]:
        """Means over the answers (entropy: over the tokens) of all processes.

        The entropy is estimated by the mean -log p of the drawn tokens, the KL by k1, summed over
        an answer.
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
        totals = self.world.sum(list(sums.values()), self.device)
        figures = dict(zip(sums, totals, strict=True))
        answers, tokens = figures.pop("answers"), figures["answer_tokens"]
        squares, entropy = figures.pop("squares"), figures.pop("entropy")
        means = {name: total / answers for name, total in figures.items()}
        variance = max(squares / answers - means["reward"] ** 2, 0.0)
        return {**means, "reward_std": math.sqrt(variance), "entropy": entropy / tokens}

    # --- for objectives of this kind ---

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Switch off dropout and gradients inside the block, with the passes' precision."""
        modules = [self.model, *self.further_models().values()]
        _set_training(modules, False)
        try:
            with torch.no_grad(), autocast(self.device, self.dtype):
                yield
        finally:
            _set_training(modules, True)

    def _nothing(self) -> Tensor:
        """The loss of a process without an answer in this step: 0, with a gradient of 0."""
        trained = [p for m in (self.model, *self.further_models().values()) for p in m.parameters()]
        parameter = next(p for p in trained if p.requires_grad)
        return parameter.reshape(-1)[0] * 0.0


@dataclass(frozen=True)
class Learnable:
    """The content of a micro-batch.

    Attributes:
        answers: numbers among this process's answers of the experience.
        batch: these answers, packed.
    """

    answers: list[int]
    batch: SequenceBatch

    def pick(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The values of these answers, out of those of the whole experience."""
        return [values[i] for i in self.answers]


def _set_training(modules: Sequence[nn.Module], training: bool) -> None:
    for module in modules:
        module.train(training)
