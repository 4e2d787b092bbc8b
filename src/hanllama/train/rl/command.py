"""Shared by `hanllama ppo` and `hanllama grpo`: open prompts, policy, reference and reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.model.adapter import WEIGHTS as ADAPTER
from hanllama.model.adapter import find_base, is_adapter
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import load_model
from hanllama.model.folder import weights_fingerprint
from hanllama.model.llama import Llama
from hanllama.model.lora import adapters_off
from hanllama.model.reward import RewardModel, load_reward_model, padding_id
from hanllama.talks.conversations import parse_fill
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import Tokenizer, load_tokenizer
from hanllama.train.command import Session, day_of, reads_otherwise
from hanllama.train.rl.config import GrpoConfig, PpoConfig, RlLoopConfig, ScoringConfig
from hanllama.train.rl.data import PromptReader, Prompts, encode_prompts
from hanllama.train.rl.experience import LearnsFromAnswers, Reference, Setting
from hanllama.train.rl.scoring import Scorer, WeightedRule, build_rules


@dataclass(frozen=True)
class Opened:
    """Everything that a command needs besides its objective."""

    model: Llama
    card: ModelCard
    setting: Setting
    loop: RlLoopConfig
    tokenizer: Tokenizer
    template: ChatTemplate
    reader: PromptReader

    def train(
        self, objective: LearnsFromAnswers, session: Session, config: PpoConfig | GrpoConfig
    ) -> None:
        """Train from the beginning or the newest checkpoint to the last step."""
        if session.run is not None:
            data = session.output / "data"
            fs.make_folder(data)
            self.reader.write_quarantine(data)
            self.setting.prompts.write_left_out(data)
            fs.write_json(data / "prompts.json", self.reader.facts())
        session.train(
            objective,
            config.optim,
            self.loop,
            tokenizer_folder=self.tokenizer.folder,
            card=self.card,
            context=self.model.config.max_position_embeddings,
            announcement=self._announcement(objective),
            template=self.template,
        )

    def _announcement(self, objective: LearnsFromAnswers) -> str:
        setting, size = self.setting, objective.group_size
        steps, groups = objective.steps_per_experience, objective.answers // size
        deaf = (
            "kl_coefficient 0: no reference is loaded, and the KL and alarm.kl are not measured\n"
        )
        return (
            f"{self.reader.summary()}\n{setting.prompts.summary()}\n"
            f"{deaf if setting.reference is None else ''}"
            f"{self.model.config.parameter_count() / 1e6:.1f}M parameters;"
            f" {self.loop.max_steps:,} steps, {steps} per experience of {groups} prompts with"
            f" {size} answer{'s' if size > 1 else ''} each:"
            f" {self.loop.max_steps / steps * groups / len(setting.prompts.train):.2f} epochs"
        )


def open_policy(config: PpoConfig | GrpoConfig, session: Session) -> Opened:
    """Open the policy on its device, and its setting.

    Raises InputError for a model without a chat template, unusable prompts, or a reward model with
    another tokenizer, another chat template or fewer positions; ConfigError for invalid rules and
    step counts.
    """
    rules = build_rules(config.reward.rules)
    base = Path(config.base_model)
    tokenizer = load_tokenizer(base)
    if chat.of_folder(base) is None:
        raise InputError(
            f"{base} has no chat template: it is a base model, which cannot answer yet; train it"
            " with `hanllama sft` first"
        )
    template = session.chat_template(tokenizer)
    reader = PromptReader(config.data, fill=parse_fill(config.fill))
    records = list(reader)
    reader.check(config.max_quarantine_share)
    model, card = session.base_model(str(base), lora=config.lora)
    room = model.config.max_position_embeddings - config.rollout.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"rollout.max_new_tokens {config.rollout.max_new_tokens} leaves no room for a prompt in"
            f" the {model.config.max_position_embeddings} positions of {base}"
        )
    prompts = encode_prompts(records, template, room, config.heldout_share, config.loop.seed)
    scorer = Scorer(
        rules,
        tokenizer,
        model=_reward_model(config.reward, model, template, tokenizer, session),
        model_weight=config.reward.model_weight,
        missing_end_penalty=config.reward.missing_end_penalty,
    )
    scorer.check([*prompts.train, *prompts.heldout])
    session.adopt(model)
    loop = _settled(config, len(prompts.train), session.processes.size)
    setting = Setting(
        prompts=prompts,
        scorer=scorer,
        reference=_reference(model, base, session) if config.kl_coefficient > 0 else None,
        end_ids=template.end_ids,
        vocab_size=min(tokenizer.vocab_size, model.config.vocab_size),
        pad=padding_id(tokenizer, template.end_ids),
        world=session.processes,
        fingerprint=_fingerprint(config, prompts, tokenizer, template, rules),
    )
    return Opened(model, card, setting, loop, tokenizer, template, reader)


def _reward_model(
    config: ScoringConfig,
    policy: Llama,
    template: ChatTemplate,
    tokenizer: Tokenizer,
    session: Session,
) -> RewardModel | None:
    if not config.model:
        return None
    model = load_reward_model(config.model)
    check_reads_alike("reward", Path(config.model), model, policy, template, tokenizer)
    model.requires_grad_(False)
    return model.to(session.device).eval()


def check_reads_alike(
    role: str,
    folder: Path,
    model: Llama,
    policy: Llama,
    template: ChatTemplate,
    tokenizer: Tokenizer,
) -> None:
    """Raise InputError unless the reward or value model in a folder has the policy's tokenizer and
    chat template, and enough positions. A folder without a chat template passes.
    """
    found = chat.of_folder(folder)
    problem = reads_otherwise(folder, model, tokenizer, policy.config.max_position_embeddings)
    if not problem and found is not None and found != template.source:
        problem = f"has another chat template than {tokenizer.folder}"
    if problem:
        raise InputError(
            f"the {role} model {folder} {problem}; train one from the policy's own model: hanllama"
            " reward"
        )


def _reference(model: Llama, base: Path, session: Session) -> Reference:
    """The model before training: the policy without its adapters, or a second copy."""
    if model.adapter is not None:

        @contextmanager
        def without_adapters() -> Iterator[Llama]:
            with adapters_off(model):
                yield model

        return without_adapters
    reference = load_model(base, dtype=torch.float32).requires_grad_(False).to(session.device)
    return lambda: nullcontext(reference.eval())


def _settled(config: PpoConfig | GrpoConfig, prompts: int, processes: int) -> RlLoopConfig:
    """The loop's config with `max_steps` set to whole experiences."""
    loop = config.loop
    answers = loop.batch_size * config.mini_batches
    groups, steps = answers // config.group_size, config.mini_batches * config.passes
    if groups < processes:
        raise ConfigError(
            f"an experience of {groups} prompts is too small for {processes} processes: raise"
            " loop.batch_size or mini_batches"
        )
    if loop.max_steps % steps:
        raise ConfigError(
            f"loop.max_steps {loop.max_steps} is not a multiple of the {steps} steps of an"
            " experience (mini_batches x passes over it)"
        )
    experiences = max(1, round(loop.epochs * prompts / groups))
    return replace(loop, max_steps=loop.max_steps or experiences * steps)


def _fingerprint(
    config: PpoConfig | GrpoConfig,
    prompts: Prompts,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    rules: Sequence[WeightedRule],
) -> dict[str, str]:
    """The hashes that a resume requires to be the same."""
    found = {
        "data": prompts.hash,
        "tokenizer": tokenizer.hash,
        **day_of(template),
        "base_model": _weights_of(Path(config.base_model)),
    }
    if config.reward.model:
        found["reward.model"] = _weights_of(Path(config.reward.model))
    for rule in rules:
        found |= {f"reward {name}": fs.sha256(path) for name, path in rule.files.items()}
    return found


def _weights_of(folder: Path) -> str:
    """A hash of a model folder's weights; for an adapter, with its base's."""
    if not is_adapter(folder):
        return weights_fingerprint(folder)
    return f"{weights_fingerprint(find_base(folder))} {fs.sha256(folder / ADAPTER)}"
