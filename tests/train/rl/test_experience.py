"""PPO and GRPO as a user meets them: they learn a toy task, say what goes wrong, refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import chats, rollouts
from hanllama import cli
from hanllama.base.errors import ConfigError, HanllamaError, InputError
from hanllama.model import decode as decoding
from hanllama.model.checkpoint import load_model
from hanllama.model.reward import load_reward_model, reward_model_from
from hanllama.train.rl import rollout_alarms
from hanllama.train.rl.config import AlarmConfig, RolloutConfig, ScoringConfig
from hanllama.train.rl.grpo import Grpo, grpo
from hanllama.train.rl.ppo import Ppo, ppo
from hanllama.train.rl.rollouts import apart, log_probs_of, roll_out, together
from hanllama.train.sft.config import SftOptimConfig
from hanllama.train.sft.sft import sft


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, prompts.jsonl and even.py."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("experience")
    rollouts.chat_model(folder / "base")
    rollouts.prompts(folder / "prompts.jsonl")
    rollouts.even_rule(folder / "even.py")
    return folder


def toy(place: Path) -> tuple[Path, Path, Path]:
    return place / "prompts.jsonl", place / "base", place / "even.py"


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_the_toy_task_is_solved_from_several_seeds(
    place: Path, tmp_path: Path, method: str, seed: int
) -> None:
    """The reward for even token ids rises from one half to above 0.9, on held-out prompts too."""
    data, base, rule = toy(place)
    steps = {"max_steps": 72, "batch_size": 32, "micro_batch_size": 32, "seed": seed}
    loop = {**steps, "save_every": 100}
    if method == "ppo":
        ppo(rollouts.ppo_config(data, tmp_path / "run", base, rule, kl_coefficient=0.01, loop=loop))
    else:
        loop["max_steps"] = 48
        grpo(rollouts.grpo_config(data, tmp_path / "run", base, rule, loop=loop))
    lines = rollouts.metrics(tmp_path / "run")
    rewards = [line["reward"] for line in lines if "loss" in line]
    assert 0.4 < rewards[0] < 0.6
    assert rewards[-1] > 0.9
    assert lines[-1]["heldout_reward"] > 0.85


@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_memory_that_ends_while_answers_are_written_lowers_the_rollouts_batch(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Not the micro-batch, which has nothing to do with it; the answers are the same."""
    run, config = (ppo, rollouts.ppo_config) if method == "ppo" else (grpo, rollouts.grpo_config)
    data, base, rule = toy(place)
    run(config(data, tmp_path / "whole", base, rule, loop={"max_steps": 4}))  # type: ignore[operator]
    rows: list[int] = []
    plain = decoding.decode

    def small_memory(model: Any, prompts: Any, *rest: Any, **more: Any) -> Any:
        rows.append(len(prompts))
        tokens = plain(model, prompts, *rest, **more)
        yield next(tokens)
        if len(prompts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield from tokens

    monkeypatch.setattr(decoding, "decode", small_memory)
    run(config(data, tmp_path / "run", base, rule, loop={"max_steps": 4}))  # type: ignore[operator]
    lines = rollouts.metrics(tmp_path / "run")
    events = [line["event"] for line in lines if "memory" in line.get("event", "")]
    assert rows[:3] == [16, 8, 4] and max(rows[3:]) == 4, "once and for all"
    assert events == [
        "out of memory while answers were written with rollout.batch 16; going on with 8",
        "out of memory while answers were written with rollout.batch 8; going on with 4",
    ]
    for name in ("loss", "reward", "answer_tokens", "heldout_reward"):
        whole = [m[name] for m in rollouts.metrics(tmp_path / "whole") if name in m]
        found = [m[name] for m in lines if name in m]
        assert found == pytest.approx(whole, abs=1e-5) and found, name
    fixed = {"max_steps": 4, "auto_micro_batch": False}
    with pytest.raises(HanllamaError, match=r"rollout\.batch 16: lower rollout\.batch or rollout"):
        run(config(data, tmp_path / "no", base, rule, loop=fixed))  # type: ignore[operator]


def test_a_run_leaves_a_policy_a_value_model_and_a_report(place: Path, tmp_path: Path) -> None:
    data, base, rule = toy(place)
    words = ["ppo", str(data), "--output", str(tmp_path / "run"), "--base-model", str(base)]
    words += ["--rules", str(rule), "length: {weight: 0.1}", "--mini-batches", "2"]
    words += ["--rollout.max-new-tokens", "8", "--batch-size", "8", "--max-steps", "4"]
    words += ["--optim.learning-rate", "1e-3", "--value-learning-rate", "5e-3"]
    words += ["--missing-end-penalty", "0.5", "--log-every", "1", "--heldout-share", "0.2"]
    words += ["--device", "cpu"]
    assert cli.main(words) == 0
    assert load_model(tmp_path / "run" / "model").config == load_model(base).config
    load_reward_model(tmp_path / "run" / "value")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for name in ("reward_even", "reward_length", "kl_coefficient", "entropy", "answer_tokens"):
        assert name in page or name.replace("_", " ") in page, name
    assert "Training reward went from" in page and "Heldout reward even" in page
    assert "answers to held-out prompts" in page and "No held-out text" not in page
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "ppo" in card
    assert cli.main(words) == 0, "complete: nothing to do, and no error"


def test_grpo_by_a_reward_model_alone(place: Path, tmp_path: Path) -> None:
    from hanllama.base import fs
    from hanllama.model.card import ModelCard
    from hanllama.model.checkpoint import save_model

    data, base, _ = toy(place)
    judge = tmp_path / "judge"
    with fs.publish(judge) as beside:
        save_model(beside, reward_model_from(base, 5, 3), base, ModelCard("judge"))
    before = (judge / "model.safetensors").read_bytes()
    config = rollouts.grpo_config(
        data,
        tmp_path / "run",
        base,
        "length",
        reward=ScoringConfig(model=str(judge)),
        loop={"max_steps": 40, "batch_size": 32, "micro_batch_size": 32, "save_every": 100},
    )
    grpo(config)
    rewards = [m["reward_reward_model"] for m in rollouts.metrics(tmp_path / "run") if "loss" in m]
    assert rewards[-1] > rewards[0] + 0.2
    assert (judge / "model.safetensors").read_bytes() == before
    other = rollouts.chat_model(tmp_path / "other", vocab_size=420)
    with pytest.raises(InputError, match="another tokenizer"):
        grpo(replace(config, base_model=str(other), output=str(tmp_path / "run2")))


def test_answers_depend_on_nothing_that_is_written_beside_them(place: Path) -> None:
    """The same answers in batches of 1, 3 and 16, log-probabilities to the rounding of sums."""
    data, base, rule = toy(place)
    setting = rollouts.setting(base, data, rule, end_ids=[2, *range(300, 330)])
    model = rollouts.livelier(load_model(base), 4, 0.1)
    ids = [p.ids for p in setting.prompts.train[:16]]
    told = {"streams": range(16), "seed": 3, "vocab_size": setting.vocab_size}

    def answers(batch: int) -> Any:
        config = RolloutConfig(max_new_tokens=20, batch=batch)
        return roll_out(model, ids, config, setting.end_ids, **told)  # type: ignore[arg-type]

    whole = answers(16)
    assert len({len(r.answer_ids) for r in whole}) >= 3
    assert any(r.complete for r in whole) and not all(r.complete for r in whole)
    for batch in (1, 3):
        assert [r.answer_ids for r in answers(batch)] == [r.answer_ids for r in whole]
    for size in (1, 5):
        for a, b in zip(
            log_probs_of(model, whole, size=size, pad=3, temperature=1.0),
            log_probs_of(model, whole, size=16, pad=3, temperature=1.0),
            strict=True,
        ):
            assert torch.allclose(a, b, rtol=0, atol=1e-5)


def test_packed_values_are_taken_apart_and_put_together_again() -> None:
    values, sequence = torch.arange(6.0), torch.tensor([2, 2, 0, 1, 1, 1])
    parts = apart(values, sequence, 3)
    assert [p.tolist() for p in parts] == [[2.0], [3.0, 4.0, 5.0], [0.0, 1.0]]
    assert together(parts, sequence).tolist() == values.tolist()


FINE = {"reward": 0.5, "reward_std": 0.2, "kl": 3.0, "entropy": 2.0, "answer_tokens": 50.0}


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"reward_std": 0.0}, "reward", "every answer got the reward 0.5"),
        ({"groups_without_signal": 1.0}, "reward", "in every group"),
        ({"kl": 31.0}, "kl", "31.0 nats an answer"),
        ({"entropy": 0.3}, "entropy", "fell to 0.3 nats a token, from 2"),
        ({"answer_tokens": 101.0}, "length", "grew to 101 tokens, from 50"),
    ],
)
def test_alarms(changed: dict[str, float], kind: str, words: str) -> None:
    wrong = {**FINE, **changed}
    found = rollout_alarms.found(wrong, [wrong], [FINE], AlarmConfig())
    assert list(found) == [kind]
    assert words in found[kind]
    assert rollout_alarms.found(FINE, [FINE], [FINE], AlarmConfig()) == {}


def test_a_few_prompts_that_ask_for_more_raise_no_alarm() -> None:
    """Experiences of four prompts ask for long and short answers by turns, or tell nothing."""
    watch = rollout_alarms.Watch(AlarmConfig(), prompts=4)
    easy = {**FINE, "groups_without_signal": 1.0}
    assert rollout_alarms.Watch(AlarmConfig(), prompts=4).look_at(easy) == []  # four prompts alone
    long = {**FINE, "answer_tokens": 120.0}
    silent = {**FINE, "entropy": 0.2, "groups_without_signal": 1.0}
    assert [watch.look_at(f) for f in (FINE, long, silent, long, FINE, silent, long, FINE)] == 8 * [
        []
    ]
    for _ in range(7):
        assert watch.look_at(silent) == []
    again = rollout_alarms.Watch(AlarmConfig(), prompts=4)
    again.restore(watch.state())
    for one in (watch, again):
        entropy, reward = sorted(one.look_at(silent), key=lambda text: "group" in text)
        assert "fell to 0.2" in entropy and "in every group" in reward
        assert one.look_at(silent) == []


def test_an_alarm_is_raised_once_and_stands_in_metrics(place: Path, tmp_path: Path) -> None:
    """A rule that gives everybody the same: said at the first step, not at every one."""
    data, base, _ = toy(place)
    rule = tmp_path / "same.py"
    rule.write_text(
        rollouts.EVEN.replace("return sum(", "return 0.25 + 0 * sum("), encoding="utf-8"
    )
    grpo(rollouts.grpo_config(data, tmp_path / "run", base, rule, loop={"max_steps": 6}))
    events = [m for m in rollouts.metrics(tmp_path / "run") if "event" in m]
    assert [m["step"] for m in events] == [1]
    assert "every answer got the reward 0.25" in events[0]["event"]
    assert "every answer got" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_policy_that_finds_one_token_rings_for_kl_and_entropy(
    place: Path, tmp_path: Path
) -> None:
    """No figures made up: a reward for one token, and so large steps that nothing else is left."""
    data, base, _ = toy(place)
    rule = tmp_path / "ten.py"
    rule.write_text(rollouts.EVEN.replace("i % 2 == 0", "i == 10"), encoding="utf-8")
    rollout = RolloutConfig(max_new_tokens=16)
    loop = {"max_steps": 40, "batch_size": 32, "micro_batch_size": 32, "save_every": 100}
    grpo(rollouts.grpo_config(data, tmp_path / "run", base, rule, rollout=rollout, loop=loop))
    lines = rollouts.metrics(tmp_path / "run")
    rung = "; ".join(line["event"] for line in lines if "event" in line)
    assert "nats an answer, above alarm.kl 30" in rung
    assert "the policy hardly explores" in rung
    assert lines[0]["entropy"] > 5 and [m for m in lines if "loss" in m][-1]["entropy"] < 1


def test_a_policy_that_is_paid_by_the_token_rings_for_length(tmp_path: Path) -> None:
    """A model that answers in a few words, because it was taught to, learns to go on."""
    said = [{"role": "assistant", "content": "好。"}]
    short = [
        {"messages": [{"role": "user", "content": f"{n}？"}, *said], "id": n} for n in range(60)
    ]
    data = chats.write(tmp_path / "short.jsonl", short)
    optim = SftOptimConfig(learning_rate=1e-2)
    config = chats.config(
        data, chats.base(tmp_path / "base"), tmp_path / "sft", max_steps=30, optim=optim
    )
    sft(config)
    rule = tmp_path / "paid.py"
    by_share = "sum(i % 2 == 0 for i in ids) / max(len(ids), 1)"
    rule.write_text(rollouts.EVEN.replace(by_share, "len(ids)"), encoding="utf-8")
    rollout = RolloutConfig(max_new_tokens=24)
    loop = {"max_steps": 12, "batch_size": 64, "micro_batch_size": 64, "save_every": 100}
    run, model = tmp_path / "run", tmp_path / "sft" / "model"
    grpo(rollouts.grpo_config(data, run, model, rule, rollout=rollout, loop=loop))
    rung = [line["event"] for line in rollouts.metrics(run) if "event" in line]
    assert any("check whether the reward favours length" in words for words in rung), rung


@pytest.mark.slow  # measuring the peak of a CPU without such arithmetic takes most of a minute
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", ["ppo", "grpo"])
def test_lower_precisions_do_the_same_roughly(
    place: Path, tmp_path: Path, method: str, dtype: str
) -> None:
    """Answers, log-probabilities and losses in the arithmetic of the passes, as the loop's own."""
    data, base, rule = toy(place)
    found = {}
    for name in (dtype, "float32"):
        loop = {"max_steps": 4, "dtype": name}
        if method == "ppo":
            ppo(rollouts.ppo_config(data, tmp_path / name, base, rule, loop=loop))
        else:
            grpo(rollouts.grpo_config(data, tmp_path / name, base, rule, loop=loop))
        lines = [m for m in rollouts.metrics(tmp_path / name) if "loss" in m]
        found[name] = [lines[0]["loss"], lines[0]["entropy"], lines[1]["grad_norm"]]
    assert found[dtype] != found["float32"]
    assert found[dtype] == pytest.approx(found["float32"], abs=0.1)


def test_the_value_model_has_a_learning_rate_of_its_own(place: Path) -> None:
    data, base, rule = toy(place)
    setting = rollouts.setting(base, data, rule)
    value = reward_model_from(base, 0, setting.pad)
    for own, scale in ((0.0, 1.0), (5e-2, 5.0)):
        config = rollouts.ppo_config(data, data, base, rule, value_learning_rate=own)
        objective = Ppo(load_model(base), value, setting, config)
        assert objective.learning_rate_scales() == pytest.approx({"value": scale})
        assert list(objective.further_models()) == ["value"]


def test_each_prompt_comes_once_an_epoch(place: Path) -> None:
    data, base, rule = toy(place)
    setting = rollouts.setting(base, data, rule)
    objective = Grpo(load_model(base), setting, rollouts.grpo_config(data, data, base, rule))
    count = len(setting.prompts.train)
    first = [objective._prompt_row(i) for i in range(count)]
    second = [objective._prompt_row(i) for i in range(count, 2 * count)]
    assert sorted(first) == sorted(second) == list(range(count))
    assert first != second


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loop": {"max_steps": 3}}, "max_steps 3 is not a multiple of the 2 steps"),
        ({"rollout": RolloutConfig(max_new_tokens=64)}, "leaves no room for a prompt"),
        ({"reward": ScoringConfig(rules=("exact_answr",))}, "did you mean 'exact_answer'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    place: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    data, base, rule = toy(place)
    with pytest.raises(ConfigError, match=message):
        grpo(rollouts.grpo_config(data, tmp_path / "run", base, rule, **changed))
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_a_base_model_is_refused(place: Path, tmp_path: Path) -> None:
    import shutil

    data, base, rule = toy(place)
    plain = tmp_path / "plain"
    shutil.copytree(base, plain)
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="is a base model"):
        grpo(rollouts.grpo_config(data, tmp_path / "run", plain, rule))


def test_groups_must_be_whole() -> None:
    with pytest.raises(ConfigError, match="into groups of 3"):
        rollouts.grpo_config(Path("a"), Path("b"), Path("c"), "length", group_size=3)
    with pytest.raises(ConfigError, match="nothing scores the answers"):
        ScoringConfig()
