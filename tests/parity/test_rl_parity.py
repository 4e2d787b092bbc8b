"""GRPO against TRL's GRPOTrainer on the same tiny model, prompts and answers.

TRL does everything but the writing of the answers, which are ours: rewards, advantages, reference
log-probabilities, loss and gradients. trl and transformers are the oracles and no part of the
product.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import rollouts, trl_oracle
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import load_model, save_model
from hanllama.train.rl.config import RolloutConfig
from hanllama.train.rl.experience import Setting
from hanllama.train.rl.grpo import Grpo

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")

GROUP, BETA = 4, 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("rl")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return rollouts.chat_model(folder / "base")


@pytest.fixture(scope="module")
def setting(folder: Path, base: Path) -> Setting:
    data, rule = rollouts.prompts(folder / "prompts.jsonl"), rollouts.even_rule(folder / "even.py")
    reference = load_model(base).requires_grad_(False)
    return rollouts.setting(
        base,
        data,
        rule,
        reference=lambda: nullcontext(reference),
    )


def even(completion_ids: list[list[int]], **unused: Any) -> list[float]:
    answers = [[i for i in ids if i != 2] for ids in completion_ids]
    return [sum(i % 2 == 0 for i in ids) / max(len(ids), 1) for ids in answers]


VARIANTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("grpo", {"aggregation": "grpo"}, {"loss_type": "grpo"}),
    ("dapo", {"aggregation": "dapo"}, {"loss_type": "dapo"}),
    ("bnpo", {"aggregation": "bnpo"}, {"loss_type": "bnpo"}),
    ("dr_grpo", {"aggregation": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    ("luspo", {"aggregation": "luspo"}, {"loss_type": "luspo"}),
    ("no-scale", {"scale_rewards": "none"}, {"scale_rewards": "none"}),
    ("batch-scale", {"scale_rewards": "batch"}, {"scale_rewards": "batch"}),
    ("higher", {"clip_high": 0.28}, {"epsilon_high": 0.28}),
    (
        "answer",
        {"ratio": "answer", "clip_low": 0.001, "clip_high": 0.002},
        {"importance_sampling_level": "sequence", "epsilon": 0.001, "epsilon_high": 0.002},
    ),
    ("plain-kl", {"kl_correction": False}, {"use_bias_correction_kl": False}),
    ("no-kl", {"kl_coefficient": 0.0}, {"beta": 0.0}),
]


@pytest.mark.parametrize(
    ("ours", "theirs"), [v[1:] for v in VARIANTS], ids=[v[0] for v in VARIANTS]
)
def test_losses_and_gradients_of_grpo_equal_trl(
    base: Path,
    setting: Setting,
    tmp_path: Path,
    ours: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    """Loss and gradients within 1e-5, with the policy moved since it wrote the answers."""
    config = rollouts.grpo_config(
        Path("unused"),
        Path("unused"),
        base,
        "length",
        group_size=GROUP,
        mini_batches=1,
        loop={"batch_size": 2 * GROUP},
        rollout=RolloutConfig(max_new_tokens=12, temperature=0.9),
        **{"kl_coefficient": BETA, **ours},
    )
    policy = rollouts.livelier(load_model(base), 1, 0.02)
    objective = Grpo(policy, setting, config)
    (micro,) = objective.prepare(0)
    rollouts.livelier(policy, 2, 0.01)  # an update has happened: ratios are no longer 1
    loss, gradients = rollouts.gradients_of(objective, [micro], micro.weight)
    clipped = objective.step_metrics()["clipped"]
    assert clipped > 0, "the clip must be seen to act"

    moved = tmp_path / "moved"
    moved.mkdir()
    save_model(moved, policy, base, ModelCard("moved"))
    trainer = make_trainer(moved, base, tmp_path, {"beta": BETA, **theirs})
    inputs = scored(trainer, objective)
    advantages = objective._advantages_A
    assert torch.allclose(inputs["advantages"], advantages, rtol=0, atol=1e-5)
    expected = trainer._compute_loss(trainer.model, inputs)
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    found = dict(trainer.model.named_parameters())
    for (name, _), gradient in zip(policy.named_parameters(), gradients, strict=True):
        assert torch.allclose(gradient, found[name].grad, rtol=0, atol=1e-5), name


def make_trainer(model: Path, base: Path, folder: Path, changed: dict[str, Any]) -> Any:
    """TRL's trainer, fp32 on the CPU, over the model in `model` with the reference in `base`."""
    trainer = trl_oracle.trainer(
        trl.GRPOTrainer,
        trl.GRPOConfig,
        model,
        folder / "trl",
        [{"prompt": "甲"}] * 8,
        settings={
            "per_device_train_batch_size": 2 * GROUP,
            "num_generations": GROUP,
            "max_completion_length": 12,
            "temperature": 0.9,
            "fp16": False,
            "disable_tqdm": True,
            **changed,
        },
        tokenizer=transformers.AutoTokenizer.from_pretrained(base),
        reward_funcs=even,
    )
    if trainer.beta:
        reference = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        trainer.ref_model.load_state_dict(reference.state_dict())
    trainer.model.train()
    # The accumulation that the trainer's loop would set: one batch to a step.
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def scored(trainer: Any, objective: Grpo) -> dict[str, Any]:
    """TRL's scoring of our answers, with our log-probabilities of when they were written."""
    experience = objective.experience
    prompts = [r.sequence.ids[~r.sequence.mask].tolist() for r in experience.rollouts]
    answers = [r.answer_ids for r in experience.rollouts]
    texts = [""] * len(answers)

    def generate(given: list[str]) -> tuple[Any, ...]:
        return prompts, answers, None, texts, None, {}, None, None

    trainer._generate = generate
    inputs: dict[str, Any] = trainer._generate_and_score_completions(
        [{"prompt": "甲"}] * len(texts)
    )
    old = torch.zeros(inputs["completion_mask"].shape)
    for row, values in enumerate(experience.log_probs):
        old[row, : len(values)] = values
    return {**inputs, "old_per_token_logps": old}
