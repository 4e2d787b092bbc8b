"""What `hanllama plan` shows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.plans import SHAPE, written
from hanllama import cli
from hanllama.base.errors import ConfigError
from hanllama.plan.options import PlanConfig


def _fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["plan", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    return said.err


def test_the_list_shows_stated_and_exact_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "9M " in lines["tiny-llama2-9m"] and "4,393,216*" in lines["tiny-llama2-9m"]
    assert "7B " in lines["llama2-7b"] and "6,738,415,616*" in lines["llama2-7b"]
    assert cli.main(["plan", "--list", "--vocab-size", "2000", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["presets"]
    demo = next(row for row in rows if row["name"] == "demo-1m")
    assert demo["tied"] == demo["without_embeddings"] + 2000 * 128


def test_json_and_the_table_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--preset", "llama2-7b", "--tokens", "1e9", "--devices", "h200"]
    assert cli.main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["plans"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert f"{found['parameters']:,}" in shown and f"${found['devices'][0]['cost']:,.2f}" in shown
    assert "NOT fit" in shown and not found["devices"][0]["fits"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a pretrain config, a recipe"),
        (["missing.yaml"], "config file missing.yaml does not exist"),
        (["dmeo"], "'dmeo' is no recipe; did you mean 'demo'?"),
        (["demo", "--preset", "demo-1m"], "not both"),
        (["demo", "--devices", "h10"], "device 'h10' is unknown; did you mean 'h100'?"),
        (["--preset", "tiny-llama2-24"], "did you mean 'tiny-llama2-24m'"),
        (["--preset", "tiny-llama2-24m"], "give --tokens"),
        (["--preset", "demo-1m", "--tokens", "1e6"], "give --vocab-size"),
        (["demo", "--count", "0"], "count must be int of 1 or more, not 0"),
        (["demo", "--mfu", "40"], "mfu must be float from 0 to 1, not 40"),
    ],
)
def test_a_users_mistake_ends_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _fails(capsys, *words)


def test_impossible_dimensions_and_unknown_keys_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, model={**SHAPE, "num_attention_heads": 3})
    said = _fails(capsys, path, "--vocab-size", "10", "--tokens", "1000")
    assert "hidden_size 8 is not divisible by num_attention_heads 3" in said
    path = written(tmp_path, model=SHAPE, contxt=4)
    assert "unknown key 'contxt'; did you mean 'context'?" in _fails(capsys, path)
    path = written(tmp_path, data="nowhere", model=SHAPE)
    said = _fails(capsys, path, "--vocab-size", "10")
    assert "data folder nowhere does not exist yet" in said
    with pytest.raises(ConfigError, match=r"tokens must be .* not -1"):
        PlanConfig(tokens=-1)
