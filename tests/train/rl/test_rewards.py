"""Every rule reward gives to its own examples what it says, and never more than 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hanllama.base import config, plugins
from hanllama.base.errors import ConfigError
from hanllama.train.rl.rewards import Answer

PACKAGE = "hanllama.train.rl.rewards"
NAMES = plugins.names(PACKAGE)
REQUIRED: dict[str, dict[str, Any]] = {"forbidden_words": {"words": ["乙"]}}


def examples() -> list[Any]:
    found = []
    for name in NAMES:
        for number, example in enumerate(plugins.load(PACKAGE, name).EXAMPLES):
            answer, *parameters, expected = example
            given = parameters[0] if parameters else {}
            found.append(pytest.param(name, given, answer, expected, id=f"{name}-{number}"))
    return found


@pytest.mark.parametrize(("name", "parameters", "answer", "expected"), examples())
def test_example(name: str, parameters: dict[str, Any], answer: Answer, expected: float) -> None:
    reward = config.load(plugins.load(PACKAGE, name).Reward, parameters, name)
    assert reward(answer) == pytest.approx(expected, abs=1e-12)


def test_the_rules_of_the_plan_are_there() -> None:
    assert {
        "length",
        "repetition",
        "format",
        "chinese_only",
        "forbidden_words",
        "exact_answer",
    } <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_why_and_shows_what_it_rewards_and_what_not(name: str) -> None:
    module = plugins.load(PACKAGE, name)
    assert module.__doc__ and len(module.__doc__) > 200
    rewards = [example[-1] for example in module.EXAMPLES]
    assert max(rewards) == 1.0 and min(rewards) < 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text", ["", " ", "𠮷" * 3, "\u2028", "甲乙\udc80", "a" * 5000, "甲" * 5000, "＊？（"]
)
def test_any_text_gets_a_reward_from_0_to_1(name: str, text: str) -> None:
    reward = config.load(plugins.load(PACKAGE, name).Reward, REQUIRED.get(name, {}), name)
    value = reward(Answer(text, reference="甲"))
    assert 0 <= value <= 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("length", {"minimum": 9, "maximum": 3}),
        ("length", {"tolerance": -1}),
        ("repetition", {"n": 0}),
        ("repetition", {"free": 1}),
        ("format", {"pattern": "("}),
        ("chinese_only", {"free": -0.1}),
        ("forbidden_words", {}),
        ("forbidden_words", {"words": [" "]}),
        ("forbidden_words", {"file": "nowhere.txt"}),
        ("exact_answer", {"pattern": "答案"}),
        ("exact_answer", {"pattern": "(("}),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=name):
        config.load(plugins.load(PACKAGE, name).Reward, parameters, name)


def test_forbidden_words_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("坏话\n\n骂人\n", encoding="utf-8")
    windows = tmp_path / "windows.txt"
    windows.write_text("坏话\n\n骂人\n", encoding="utf-8-sig", newline="\r\n")
    cls = plugins.load(PACKAGE, "forbidden_words").Reward
    for path in (file, windows):
        reward = config.load(cls, {"file": str(path), "words": ["丁"]}, "forbidden_words")
        said = ("说坏话", "他骂 人", "丁", "他笑")
        assert [reward(Answer(t)) for t in said] == [0, 0, 0, 1], path
