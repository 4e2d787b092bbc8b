"""Promises 1, 4, 8, 9, 10 and 19 for PPO and GRPO, on the toy reward for even token ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import rollouts
from hanllama.base import config as configs
from hanllama.base import fs
from hanllama.base.errors import InputError, Interrupted, NonFiniteError, ResumeError
from hanllama.model.adapter import LoraConfig
from hanllama.model.checkpoint import load_model
from hanllama.model.reward import RewardModel, reward_model_from
from hanllama.train import checkpoints
from hanllama.train.rl.config import RolloutConfig, ScoringConfig
from hanllama.train.rl.experience import LearnsFromAnswers, Setting
from hanllama.train.rl.grpo import Grpo, grpo
from hanllama.train.rl.ppo import Ppo, ppo

METHODS = ["ppo", "grpo"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, prompts.jsonl and even.py."""
    folder = tmp_path_factory.mktemp("rl")
    rollouts.chat_model(folder / "base")
    rollouts.prompts(folder / "prompts.jsonl")
    rollouts.even_rule(folder / "even.py")
    return folder


def config_of(method: str, place: Path, output: Path, **changed: Any) -> Any:
    make = rollouts.ppo_config if method == "ppo" else rollouts.grpo_config
    if method == "ppo":  # the coefficient that adapts is part of what a resume must find
        changed = {"kl_target": 0.1, "kl_horizon": 50, **changed}
    return make(place / "prompts.jsonl", output, place / "base", place / "even.py", **changed)


def run(config: Any) -> None:
    (ppo if hasattr(config, "ppo_epochs") else grpo)(config)


def losses(output: Path) -> list[str]:
    """Every step's loss as a hex float."""
    return [line["loss"].hex() for line in rollouts.metrics(output) if "loss" in line]


def weights(output: Path) -> list[bytes]:
    """The policy, and the value model where there is one."""
    files = ["model/model.safetensors", "model/adapter_model.safetensors"]
    files += ["value/model.safetensors"]
    return [(output / f).read_bytes() for f in files if (output / f).is_file()]


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("method", METHODS)
def test_resume_exact(place: Path, tmp_path: Path, method: str, lora: int) -> None:
    """12 + 12 steps equal 24: losses as hex floats, policy and value model byte for byte. A stop
    asked for inside of an experience comes at its end."""
    changed = {"lora": LoraConfig(rank=lora)}
    steps = {"max_steps": 24, "save_every": 100}
    run(config_of(method, place, tmp_path / "whole", **changed, loop=steps))
    stopped = config_of(method, place, tmp_path / "run", **changed, loop={**steps, "stop_at": 11})
    with pytest.raises(Interrupted, match="step 12 of 24"):
        run(stopped)
    assert len(losses(tmp_path / "run")) == 12
    run(config_of(method, place, tmp_path / "run", **changed, loop=steps))
    assert len(set(losses(tmp_path / "whole"))) == 24
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole") != []
    whole, again = (rollouts.metrics(tmp_path / name) for name in ("whole", "run"))
    assert whole[-2]["reward"] == again[-2]["reward"] and whole[-2]["kl"] == again[-2]["kl"]
    kl = [line["kl"] for line in whole if "loss" in line]
    assert abs(kl[0]) < 1e-4 < abs(kl[-1]), "the reference is where training began"
    if method == "ppo":
        coefficients = {line["kl_coefficient"] for line in again if "loss" in line}
        assert len(coefficients) == 6, "an experience each, adapted between them"


def test_what_is_left_out_is_named_in_the_run_folder(place: Path, tmp_path: Path) -> None:
    data = rollouts.prompts(tmp_path / "prompts.jsonl")
    with data.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "long", "prompt": "很长的问题" * 40}) + "\n")
    config = rollouts.grpo_config(
        data, tmp_path / "run", place / "base", place / "even.py", loop={"max_steps": 2}
    )
    grpo(config)
    lines = (tmp_path / "run" / "data" / "left_out.jsonl").read_text().splitlines()
    (entry,) = [json.loads(line) for line in lines]
    assert entry["id"] == "long" and entry["tokens"] > 56 and entry["reason"]


@pytest.mark.parametrize("method", METHODS)
def test_placeholders_of_prompts_are_filled(place: Path, tmp_path: Path, method: str) -> None:
    data = rollouts.prompts(tmp_path / "prompts.jsonl")
    with data.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"prompt": "{{name}}在哪？"}) + "\n")
    for number, fill in enumerate(((), ("name=小明",))):
        output = tmp_path / str(number)
        settings = {"fill": fill, "loop": {"max_steps": 4}}
        make = rollouts.ppo_config if method == "ppo" else rollouts.grpo_config
        run(make(data, output, place / "base", place / "even.py", **settings))
        notes = json.loads((output / "data" / "prompts.json").read_text())["notes"]
        assert notes == ({} if fill else {"placeholder {{name}} not filled": 1})


def test_a_resume_with_other_prompts_or_another_rule_is_refused(
    place: Path, tmp_path: Path
) -> None:
    rule = rollouts.even_rule(tmp_path / "rule.py")
    data = rollouts.prompts(tmp_path / "prompts.jsonl")
    config = rollouts.grpo_config(
        data, tmp_path / "run", place / "base", rule, loop={"stop_at": 2, "max_steps": 4}
    )
    with pytest.raises(Interrupted):
        grpo(config)
    rollouts.prompts(data, 30)
    with pytest.raises(ResumeError, match="data has changed"):
        grpo(config)
    rollouts.prompts(data)
    rule.write_text(rollouts.EVEN.replace("== 0", "== 1"), encoding="utf-8")
    with pytest.raises(ResumeError, match=r"reward .*rule\.py has changed"):
        grpo(config)


def test_a_resume_with_an_edited_rule_that_has_parameters_is_refused(
    place: Path, tmp_path: Path
) -> None:
    rule = rollouts.even_rule(tmp_path / "rule.py")
    words = tmp_path / "words.txt"
    words.write_text("坏\n", encoding="utf-8")
    rules = (f"{rule}: {{weight: 0.5}}", {"forbidden_words": {"file": str(words)}})
    config = rollouts.grpo_config(
        place / "prompts.jsonl",
        tmp_path / "run",
        place / "base",
        rule,
        reward=ScoringConfig(rules=rules),
        loop={"stop_at": 2, "max_steps": 4},
    )
    with pytest.raises(Interrupted):
        grpo(config)
    rule.write_text(rollouts.EVEN.replace("== 0", "== 1"), encoding="utf-8")
    with pytest.raises(ResumeError, match=r"reward .*rule\.py has changed"):
        grpo(config)
    rollouts.even_rule(rule)
    words.write_text("坏\n恶\n", encoding="utf-8")
    with pytest.raises(ResumeError, match=r"reward forbidden_words file .*words\.txt has changed"):
        grpo(config)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vocab_size": 380}, "another tokenizer"),
        ({"template": "{{ bos_token }}" + rollouts.TEMPLATE}, "another chat template"),
        ({"context": 32}, "32 positions, and 64 are needed"),
    ],
)
def test_a_reward_or_value_model_that_would_read_something_else_is_refused(
    place: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    other = rollouts.chat_model(tmp_path / "other", **changed)
    reward = str(rollouts.reward_model(tmp_path / "reward", other))
    for method in METHODS:
        scoring = ScoringConfig(model=reward)
        with pytest.raises(InputError, match=f"(?s)reward model .*{message}"):
            run(config_of(method, place, tmp_path / "run", reward=scoring))
    for folder in (reward, str(other)):
        with pytest.raises(InputError, match=f"(?s)value model .*{message}"):
            run(config_of("ppo", place, tmp_path / "run", value_model=folder))


def test_a_value_model_without_a_template_and_with_more_room_serves(
    place: Path, tmp_path: Path
) -> None:
    other = rollouts.chat_model(tmp_path / "other", template="", context=128)
    steps = {"max_steps": 4}
    run(config_of("ppo", place, tmp_path / "run", value_model=str(other), loop=steps))
    assert len(losses(tmp_path / "run")) == 4


@pytest.mark.parametrize("method", METHODS)
def test_a_run_without_a_reference_says_that_the_kl_alarm_is_deaf(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    for coefficient in (0.05, 0.0):
        output = tmp_path / str(coefficient)
        changed = {"kl_coefficient": coefficient, **({"kl_target": 0.0} if method == "ppo" else {})}
        run(config_of(method, place, output, **changed, loop={"max_steps": 4}))
        said = "no reference is loaded" in capsys.readouterr().out
        measured = any("kl" in line for line in rollouts.metrics(output))
        assert (said, measured) == (coefficient == 0, coefficient > 0)


@pytest.mark.parametrize("method", METHODS)
def test_nonfinite(place: Path, tmp_path: Path, method: str) -> None:
    """A NaN stops before the update: weights unchanged, rows recorded."""
    from safetensors.torch import load_file, save_file

    with pytest.raises(Interrupted):
        run(config_of(method, place, tmp_path / "run", loop={"stop_at": 4}))
    (checkpoint,) = checkpoints.all_in(tmp_path / "run" / "checkpoints")
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    fs.write_sums(checkpoint)
    before = file.read_bytes()
    with pytest.raises(NonFiniteError, match="step 5"):
        run(config_of(method, place, tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert record["step"] == 5 and record["rows"] == sorted(set(record["rows"]))
    lines = {f"{place.name}/prompts.jsonl:{number}" for number in range(1, 41)}
    assert set(record["names"]) <= lines
    assert len(record["names"]) == len(record["rows"]) > 0
    assert file.read_bytes() == before


@pytest.mark.parametrize("method", METHODS)
def test_golden(place: Path, tmp_path: Path, method: str) -> None:
    """20 steps equal the committed losses within 1e-4, and on one machine run twice exactly."""
    # Small steps: what other machines round otherwise must not become another token's draw.
    optim = rollouts.RlOptimConfig(learning_rate=1e-3)
    for name in ("a", "b"):
        steps = {"max_steps": 20, "save_every": 20}
        run(config_of(method, place, tmp_path / name, loop=steps, optim=optim))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    found = [float.fromhex(x) for x in losses(tmp_path / "a")]
    golden = Path(__file__).parent / f"golden_{method}.json"
    if os.environ.get("HANLLAMA_WRITE_GOLDEN"):
        golden.write_text(json.dumps([round(x, 6) for x in found]) + "\n")
    assert np.allclose(found, json.loads(golden.read_text()), rtol=0, atol=1e-4)


# --- gradients -----------------------------------------------------------------------------------


Make = Callable[..., LearnsFromAnswers]


@pytest.fixture
def make(place: Path) -> Make:
    """An objective whose policy has moved since its answers were written."""
    reference = load_model(place / "base").requires_grad_(False)

    def objective(method: str, size: int, **changed: Any) -> LearnsFromAnswers:
        setting = rollouts.setting(
            place / "base",
            place / "prompts.jsonl",
            place / "even.py",
            reference=lambda: nullcontext(reference),
            end_ids=[2, *range(300, 360)],  # a random model hardly ever writes the one
        )
        config = config_of(
            method,
            place,
            place / "unused",
            loop={"micro_batch_size": size},
            rollout=RolloutConfig(max_new_tokens=12, temperature=0.8),
            mini_batches=1,
            **({"ppo_epochs": 1} if method == "ppo" else {}),
            **changed,
        )
        policy = rollouts.livelier(load_model(place / "base"), 1, 0.1)
        made: LearnsFromAnswers
        if method == "grpo":
            made = Grpo(policy, setting, config)
        else:
            value = reward_model_from(place / "base", 0, setting.pad)
            made = Ppo(policy, value, setting, config)
            rollouts.livelier(made.value_model, 3, 0.05)
        made.prepare(0)
        rollouts.livelier(policy, 2, 0.01)
        return made

    return objective


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("ppo", {}),
        *[("grpo", {"aggregation": a}) for a in ("grpo", "dapo", "bnpo", "dr_grpo", "luspo")],
        ("grpo", {"ratio": "answer", "scale_rewards": "batch"}),
    ],
)
def test_accumulate(make: Make, method: str, changed: dict[str, Any]) -> None:
    """1x8 = 8x1 = 3x3 on answers of uneven length: losses and gradients within 1e-6. So neither
    whitening nor a group's mean depends on the micro-batch."""
    objective = make(method, 8, **changed)
    lengths = {len(r.answer_ids) for r in objective.experience.rollouts}
    assert len(lengths) > 2
    loss, whole = rollouts.gradients(objective)
    for size in (1, 3):
        objective.micro_batch_size = size
        again, parts = rollouts.gradients(objective)
        assert len(objective.prepare(0)) > 1
        assert again == pytest.approx(loss, abs=1e-6)
        for a, b in zip(whole, parts, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_accumulate_of_whole_experiences(make: Make) -> None:
    """Values, whitened advantages and returns do not depend on the micro-batch, either."""
    one, eight = (make("ppo", size) for size in (1, 8))
    assert isinstance(one, Ppo) and isinstance(eight, Ppo)
    for name in ("_values", "_advantages", "_returns"):
        for a, b in zip(getattr(one, name), getattr(eight, name), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-5)
    whitened = torch.cat(eight._advantages)
    assert float(whitened.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whitened.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_accumulate_two_gloo_processes(place: Path, tmp_path: Path, method: str) -> None:
    """torchrun with two gloo processes equals one; its checkpoint goes on in one process."""
    steps = {"max_steps": 8, "micro_batch_size": 3}
    run(config_of(method, place, tmp_path / "one", loop=steps))
    config = config_of(method, place, tmp_path / "run", loop={**steps, "stop_at": 4})
    file = tmp_path / "run.yaml"
    file.write_text(configs.to_yaml(config), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "hanllama", method, "--config", str(file)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env={**os.environ, **_ONE_THREAD}
    )
    assert result.returncode != 0, "stopped early, and says so"
    assert len(losses(tmp_path / "run")) == 4, result.stdout + result.stderr
    run(replace(config, loop=rollouts.loop(**steps)))
    one, two = (rollouts.metrics(tmp_path / name) for name in ("one", "run"))
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"tokens_per_second", "mfu"}:
            assert b[name] == pytest.approx(a[name], abs=1e-4), (name, a["step"])
    assert {"clipped", "policy_loss"} <= one[0].keys()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_accumulate_gradients_of_two_gloo_processes(
    place: Path, tmp_path: Path, method: str
) -> None:
    """The gradients of a step, summed by gloo, are within 1e-6 of one process's."""
    found = []
    for processes in (1, 2):
        rollout = RolloutConfig(max_new_tokens=12, temperature=0.8)
        loop = {"max_steps": 4, "micro_batch_size": 3}
        output = tmp_path / str(processes)
        config = config_of(method, place, output, rollout=rollout, loop=loop)
        file, kept = output.with_suffix(".yaml"), output.with_suffix(".pt")
        file.write_text(configs.to_yaml(config), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", str(Path(__file__).parent / "_gradients.py")]
        done = subprocess.run(
            [*command, str(kept), method, str(file)],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, **_ONE_THREAD},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(torch.load(kept))
    assert max(float(gradient.abs().max()) for gradient in found[0]) > 1e-3
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


# --- losses --------------------------------------------------------------------------------------


def test_losses_ppo(make: Make) -> None:
    """PPO's loss worked out answer by answer from logits, without packing, chunks or batches."""
    objective = make("ppo", 8)
    assert isinstance(objective, Ppo)
    (micro,) = objective.prepare(0)
    found = float(objective.loss(micro).detach())
    config, setting, experience = objective.config, objective.setting, objective.experience
    before = rollouts.livelier(load_model(setting_base(setting)), 1, 0.1)
    reference = load_model(setting_base(setting))
    rows = []
    for rollout, score in zip(experience.rollouts, experience.scores_A.tolist(), strict=True):
        ids = torch.from_numpy(rollout.sequence.ids)[None]
        first = int(rollout.sequence.mask.argmax())
        counted = [i for i in rollout.answer_ids if i != 2]
        share_even = sum(i % 2 == 0 for i in counted) / max(len(counted), 1)
        assert score == pytest.approx(share_even, abs=1e-6)
        old, its, now = (
            plain(model, ids, first, 0.8) for model in (before, reference, objective.model)
        )
        values = plain_values(objective.value_model, ids, first)
        rewards = -config.kl_coefficient * (old - its)
        rewards[-1] += score
        advantages, following, value_after = [], 0.0, 0.0
        for t in reversed(range(len(rewards))):
            delta = float(rewards[t]) + config.gamma * value_after - float(values[t])
            following = delta + config.gamma * config.lam * following
            value_after = float(values[t])
            advantages.insert(0, following)
        rows.append((old, now, torch.tensor(advantages, dtype=torch.float64)))
    flat = torch.cat([row[2] for row in rows])
    mean, deviation = flat.mean(), (flat.var() + 1e-8).sqrt()
    expected = 0.0
    clipped = 0
    for old, now, advantages in rows:
        for o, n, a in zip(old, now, advantages, strict=True):
            ratio, white = float((n - o).exp()), float((a - mean) / deviation)
            held = min(max(ratio, 1 - config.clip), 1 + config.clip)
            clipped += held * white < ratio * white
            # The value model has not moved, so its clip does nothing and its error is -A.
            expected += (
                max(-ratio * white, -held * white) + config.value_weight * 0.5 * float(a) ** 2
            )
    assert clipped > 0, "the clip must be seen to act"
    assert objective.step_metrics()["clipped"] * micro.weight == pytest.approx(clipped)
    assert found == pytest.approx(expected, abs=2e-4)


def setting_base(setting: Setting) -> Path:
    """The folder that the tokenizer of a setting came from."""
    return setting.scorer._tokenizer.folder


@torch.no_grad()
def plain(model: Any, ids: torch.Tensor, first: int, temperature: float) -> torch.Tensor:
    """log p of each token from `first` on, from the full matrix of logits, in float64."""
    log_probs = (model(ids)[0].double() / temperature).log_softmax(-1)
    return log_probs[first - 1 : -1].gather(1, ids[0, first:, None])[:, 0]


@torch.no_grad()
def plain_values(model: RewardModel, ids: torch.Tensor, first: int) -> torch.Tensor:
    return (model.hidden(ids)[0] @ model.score.weight[0]).double()[first - 1 : -1]
