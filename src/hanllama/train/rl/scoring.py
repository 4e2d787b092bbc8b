"""The score of an answer: the weighted sum of rule rewards and a reward model.

`reward.rules` is a list of names, paths of `.py` files or `name: {parameter: value}`; every rule
also takes `weight` (default 1). On the command line the last form is YAML in quotes,
`'length: {weight: 0.5, maximum: 100}'`. The user's rules have the form of ours
(`train/rl/rewards/`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hanllama.base import config, plugins
from hanllama.base.errors import ConfigError, InputError
from hanllama.model.reward import RewardModel
from hanllama.tokenizer.load import Tokenizer
from hanllama.train.rl.data import Prompt
from hanllama.train.rl.rewards import Answer, RuleReward
from hanllama.train.rl.rollouts import Rollout, scores_of

PACKAGE = "hanllama.train.rl.rewards"


@dataclass(frozen=True)
class WeightedRule:
    """A rule with its weight.

    Attributes:
        title: its name; for a user's file, the file's name without `.py`.
        needs_reference: it compares with the right answer in the data.
        files: the files that its rewards depend on, by name: its source, and the files that its
            parameters name.
    """

    title: str
    rule: RuleReward
    weight: float
    needs_reference: bool
    files: Mapping[str, Path]

    def reward(self, answer: Answer) -> float:
        """An answer's reward, without the weight; ConfigError when it is not a finite number."""
        value = float(self.rule(answer))
        if not math.isfinite(value):
            raise ConfigError(f"reward {self.title} gave {value}; a reward is a finite number")
        return value


def build_rules(entries: Sequence[Any], where: str = "reward.rules") -> list[WeightedRule]:
    """Build the rules of a list of entries.

    Raises ConfigError for an unknown rule or parameter, or a name given twice.
    """
    rules = [_build(*_named(entry, where), where) for entry in entries]
    titles = [rule.title for rule in rules]
    for title in titles:
        if titles.count(title) > 1:
            raise ConfigError(f"{where}: {title} is given twice; remove one, or raise its weight")
    return rules


def _named(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    """An entry as (name, parameters)."""
    if isinstance(entry, str) and ": " in entry:
        import yaml

        try:
            entry = yaml.safe_load(entry)
        except yaml.YAMLError as error:
            raise ConfigError(f"{where}: {entry!r} is not valid YAML: {error}") from error
    return plugins.named(entry, where)


def _build(name: str, parameters: dict[str, Any], where: str) -> WeightedRule:
    module = plugins.load(PACKAGE, name)
    cls = plugins.member(PACKAGE, name, "Reward")
    weight = parameters.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ConfigError(f"{where}: weight of {name} must be a number, not {weight!r}")
    rule: RuleReward = config.load(cls, parameters, f"reward {name}")
    title = Path(name).stem if name.endswith(".py") else name
    needs_reference = getattr(module, "NEEDS_REFERENCE", False)
    return WeightedRule(title, rule, float(weight), needs_reference, _files(name, module, rule))


def _files(name: str, module: ModuleType, rule: Any) -> dict[str, Path]:
    """The rule's source, and every file that a parameter names."""
    found = {name: Path(str(module.__file__))}
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str | Path) and _is_file(Path(one)):
                found[f"{name} {field.name} {one}"] = Path(one)
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # not a path: too long, or with a null character
        return False


class Scorer:
    """Scores answers: the weighted sum of all parts, and each part for the report."""

    def __init__(
        self,
        rules: Sequence[WeightedRule],
        tokenizer: Tokenizer,
        *,
        model: RewardModel | None = None,
        model_weight: float = 1.0,
        missing_end_penalty: float = 0.0,
    ) -> None:
        self._rules, self._tokenizer, self._model = rules, tokenizer, model
        self._model_weight, self._missing_end_penalty = model_weight, missing_end_penalty

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise InputError when a rule needs the right answer and a prompt has none."""
        names = [rule.title for rule in self._rules if rule.needs_reference]
        bare = [prompt.id for prompt in prompts if not prompt.reference]
        if names and bare:
            raise InputError(
                f"reward {names[0]} compares with the right answer, but {len(bare):,} of"
                f" {len(prompts):,} prompts have none, such as {bare[0]}; add it as `answer` beside"
                " `prompt`, or leave these prompts out"
            )

    def __call__(
        self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], *, size: int, pad: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores [A], and the rewards [A] of each part without its weight, float32 on the CPU.

        Args:
            prompts: the prompts that `rollouts` answer, by number.
            size: answers in a batch of the reward model.

        Raises ConfigError when a rule returns no finite number.
        """
        answers = [self._answer(prompts[r.prompt], r) for r in rollouts]
        parts: dict[str, Tensor] = {}
        total_A = torch.zeros(len(rollouts))
        for rule in self._rules:
            given = [rule.reward(answer) for answer in answers]
            parts[rule.title] = torch.tensor(given)
            total_A += rule.weight * parts[rule.title]
        if self._model is not None:
            scores_A = scores_of(self._model, rollouts, size=size, pad=pad)
            parts["reward_model"] = scores_A.float().cpu()
            total_A += self._model_weight * parts["reward_model"]
        cut_A = torch.tensor([not r.complete for r in rollouts])
        return total_A - self._missing_end_penalty * cut_A, parts

    def _answer(self, prompt: Prompt, rollout: Rollout) -> Answer:
        text = self._tokenizer.decode(rollout.answer_ids)
        return Answer(text, prompt.messages, prompt.reference, rollout.complete, rollout.answer_ids)
