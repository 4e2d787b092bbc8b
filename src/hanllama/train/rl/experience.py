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
from hanllama.train.objective import Micro, RowObjective
from hanllama.train.parallel import World
from hanllama.train.rl import rollout_alarms
from hanllama.train.rl.config import GrpoConfig, PpoConfig
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
    """What a policy is asked, and what its answers are scored by and compared with.

    Attributes:
        reference: None where no KL to it is wanted.
        end_ids: tokens that end an answer.
        vocab_size: of the tokenizer.
        pad: the token that fills packed rows.
        fingerprint: what a resume must find unchanged: prompts, tokenizer, models and rules.
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


class LearnsFromAnswers(RowObjective):
    """An objective that learns from its own model's answers; `weigh` and `loss_of` make it one.

    Weights are answer tokens. Passes are not compiled: rows are as wide as the longest of a batch,
    so hardly two batches have one shape.
    """

    def __init__(self, model: Llama, setting: Setting, config: PpoConfig | GrpoConfig) -> None:
        """
        Args:
            model: on its device.
            config: how answers are written and learnt from; its steps are settled.
        """
        super().__init__(model, config.loop, setting.world, setting.fingerprint)
        self.setting = setting
        self.rollout, self.group_size = config.rollout, config.group_size
        self.mini_batches, self.passes = config.mini_batches, config.passes
        self.answers = config.loop.batch_size * config.mini_batches
        """Of one experience, over all processes."""
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
        """Turn the scores of a new experience into what the loss wants; may add to its figures."""

    @abstractmethod
    def loss_of(self, learnable: Learnable) -> Tensor:
        """The sum of the losses of some answers' tokens; what they say goes into `figures`."""

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
        """Mean reward of answers to held-out prompts, by part, their length and KL.

        There is no held-out loss: what is optimised is the reward, and the model with the highest
        one may be the one that found the reward's weakness. The last checkpoint is the result.
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
        """The figures of the experience, and those of the step's tokens."""
        return {**self.experience.figures, **self.means}

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
        """Each prompt once an epoch, in an order of its own every time."""
        count = len(self.setting.prompts.train)
        return int(permutation(count, self.settings.seed, index // count)[index % count])

    def _answer(
        self, prompts: Sequence[Prompt], rows: Sequence[int], streams: Sequence[int]
    ) -> tuple[Experience, dict[str, float]]:
        """Write and score answers to prompts by number; figures of all processes."""
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
        """Models as they answer: no dropout, no gradients, the arithmetic of the passes."""
        modules = [self.model, *self.further_models().values()]
        _set_training(modules, False)
        try:
            with torch.no_grad(), autocast(self.device, self.dtype):
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
