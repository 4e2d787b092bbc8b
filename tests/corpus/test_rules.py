"""Every rule does to its own examples what it says, and nothing more when it is applied again."""

from __future__ import annotations

from typing import Any

import pytest

from hanllama.base import config, plugins
from hanllama.corpus.rules import Drop

PACKAGE = "hanllama.corpus.rules"
NAMES = plugins.names(PACKAGE)


def examples() -> list[Any]:
    found = []
    for name in NAMES:
        for number, example in enumerate(plugins.load(PACKAGE, name).EXAMPLES):
            text, *parameters, expected = example
            given = parameters[0] if parameters else {}
            found.append(pytest.param(name, given, text, expected, id=f"{name}-{number}"))
    return found


@pytest.mark.parametrize(("name", "parameters", "text", "expected"), examples())
def test_example(name: str, parameters: dict[str, Any], text: str, expected: str | Drop) -> None:
    rule = config.load(plugins.load(PACKAGE, name).Rule, parameters, name)
    once = rule(text)
    assert once == expected
    if isinstance(once, str):
        assert rule(once) == once


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_why_and_shows_what_it_changes_and_what_it_leaves(name: str) -> None:
    module = plugins.load(PACKAGE, name)
    assert module.__doc__ and len(module.__doc__) > 100
    assert any(example[0] == example[-1] for example in module.EXAMPLES)
    assert any(example[0] != example[-1] for example in module.EXAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_that_make_no_sense_are_refused(name: str) -> None:
    cls = plugins.load(PACKAGE, name).Rule
    with pytest.raises(config.ConfigError, match="unknown key 'minimun'"):
        config.load(cls, {"minimun": 3}, name)
    for option in config.options(cls):
        with pytest.raises(config.ConfigError, match=name):
            config.load(cls, {option.key: -1}, name)
