"""Rules and a reward model, weighed and added up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import rollouts
from hanllama.base.errors import ConfigError, InputError
from hanllama.model.reward import reward_model_from
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.rl.data import Prompt
from hanllama.train.rl.rollouts import Rollout
from hanllama.train.rl.scoring import Scorer, build_rules
from hanllama.train.sequences import TokenSequence


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rollouts.chat_model(tmp_path_factory.mktemp("scoring") / "base")


def rollout(ids: list[int], answer: list[int], complete: bool = True) -> Rollout:
    mask = np.array([False] * len(ids) + [True] * len(answer))
    return Rollout(0, TokenSequence(np.array([*ids, *answer]), mask), answer, complete)


def test_rules_are_weighed_and_the_cut_off_pay(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    rules = build_rules(
        ["exact_answer", "length: {weight: 0.5, minimum: 4}", {"chinese_only": {"weight": -2}}]
    )
    scorer = Scorer(rules, tokenizer, missing_end_penalty=0.25)
    prompt = Prompt([{"role": "user", "content": "吃什么"}], "苹果", "f:1")
    answers = [tokenizer.encode(text)[1:] for text in ("苹果", "西瓜")]
    given = [rollout([1, 5], answers[0]), rollout([1, 5], answers[1], complete=False)]
    total, parts = scorer([prompt], given, size=2, pad=3)
    assert parts["exact_answer"].tolist() == [1, 0]
    assert parts["length"].tolist() == [0.5, 0.5]
    assert parts["chinese_only"].tolist() == [1, 1]
    assert total.tolist() == [1 + 0.25 - 2, 0.25 - 2 - 0.25]


def test_the_reward_model_scores_the_last_token(base: Path) -> None:
    model = reward_model_from(base, 0, 3).eval()
    scorer = Scorer([], load_tokenizer(base), model=model, model_weight=3.0)
    given = [rollout([1, 5, 6], [7, 8, 9, 2]), rollout([1, 9], [2]), rollout([1], [4, 4])]
    prompt = Prompt([], "", "f:1")
    for size in (1, 2, 3):
        total, parts = scorer([prompt], given, size=size, pad=3)
        for row, score in zip(given, parts["reward_model"].tolist(), strict=True):
            ids = torch.from_numpy(row.sequence.ids)[None]
            with torch.no_grad():
                alone = float(model.scores(model.hidden(ids)[:, -1]))
            assert score == pytest.approx(alone, abs=1e-5)
        assert torch.allclose(total, 3 * parts["reward_model"])


def test_a_rule_that_needs_an_answer_is_refused_before_the_run(base: Path) -> None:
    scorer = Scorer(build_rules(["exact_answer"]), load_tokenizer(base))
    prompts = [Prompt([], "二", "f:1"), Prompt([], "", "f:2")]
    scorer.check(prompts[:1])
    with pytest.raises(InputError, match=r"1 of 2 prompts have none, .*f:2"):
        scorer.check(prompts)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("lenght", "did you mean 'length'"),
        ("length: {maximun: 3}", "did you mean 'maximum'"),
        ("length: {weight: heavy}", "weight of length must be a number"),
        ("length: [", "not valid YAML"),
        ({"length": 3}, "neither a name nor"),
        ("nowhere.py", "nowhere.py does not exist"),
    ],
)
def test_rules_that_make_no_sense_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_rules([entry])


def test_a_rule_twice_and_a_reward_that_is_no_number(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="length is given twice"):
        build_rules(["length", "length: {weight: 2}"])
    file = rollouts.even_rule(tmp_path / "mine.py")
    file.write_text(rollouts.EVEN.replace("return sum", "return float('nan') * sum"))
    scorer = Scorer(build_rules([str(file)]), load_tokenizer(base))
    with pytest.raises(ConfigError, match="reward mine gave nan"):
        scorer([Prompt([], "", "")], [rollout([1], [4])], size=1, pad=3)


def test_a_rule_knows_every_file_that_its_rewards_depend_on(tmp_path: Path) -> None:
    mine = rollouts.even_rule(tmp_path / "mine.py")
    words = tmp_path / "words.txt"
    words.write_text("坏\n", encoding="utf-8")
    for entry in (str(mine), f"{mine}: {{weight: 0.5}}", {str(mine): {"weight": 2}}):
        (rule,) = build_rules([entry])
        assert rule.files == {str(mine): mine}
    (rule,) = build_rules(
        [{"forbidden_words": {"file": str(words), "words": ["字" * 5000, "a\0"]}}]
    )
    assert [p.name for p in rule.files.values()] == ["forbidden_words.py", "words.txt"]
