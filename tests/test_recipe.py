"""Recipes as they are written: the shipped ones are valid, and one may extend another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hanllama import cli, recipe
from hanllama.base.errors import ConfigError


@pytest.mark.parametrize("scale", ["full", "tiny"])
@pytest.mark.parametrize("name", recipe.names())
def test_every_shipped_recipe_is_valid_at_every_scale(
    name: str, scale: str, tmp_path: Path
) -> None:
    shipped = recipe.read(name)
    assert shipped.name == name
    assert set(shipped.description) == {"zh", "en"}
    inputs = [str(tmp_path)] if shipped.needs_input else []
    overlay = recipe.tiny_overlay() if scale == "tiny" else {}
    stages = recipe.resolve(shipped, inputs, tmp_path / "out", overlay, ())
    assert len(stages) == len(shipped.stages)


def test_tiny_speaks_of_verbs_that_exist() -> None:
    assert set(recipe.tiny_overlay()) <= set(cli.COMMANDS)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="recipe 'dmeo' does not exist; did you mean 'demo'"):
        recipe.read("dmeo")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        recipe.read("nowhere.yaml")


# --- extending -----------------------------------------------------------------------------------


def written(path: Path, **fields: Any) -> str:
    path.write_text(yaml.safe_dump(fields, allow_unicode=True), encoding="utf-8")
    return str(path)


def test_an_extension_changes_adds_and_stops(tmp_path: Path) -> None:
    file = written(
        tmp_path / "longer.yaml",
        extends="demo",
        until="pretrain",
        stages=[
            {"name": "pretrain", "options": {"loop": {"max-steps": 4000}, "context": 256}},
            {"name": "again", "verb": "pretrain", "options": {"data": "{tokens}"}},
        ],
    )
    demo, longer = recipe.read("demo"), recipe.read(file)
    assert longer.name == "longer" and not longer.needs_input
    names = [stage["name"] for stage in demo.stages]
    kept = names[: names.index("pretrain") + 1]
    assert [stage["name"] for stage in longer.stages] == [*kept, "again"]
    before, *_, pretrain, again = recipe.resolve(longer, [], tmp_path / "run", {}, ())
    as_it_was = {s.name: s for s in recipe.resolve(demo, [], tmp_path / "run", {}, ())}
    assert before == as_it_was["stories"]
    was = as_it_was["pretrain"].config
    assert (pretrain.config.loop.max_steps, pretrain.config.context) == (4000, 256)
    assert pretrain.config.optim == was.optim and pretrain.config.loop.batch_size == 3
    assert again.output == tmp_path / "run" / f"{len(kept) + 1:02d}-again"


def test_extensions_of_files_stand_beside_them(tmp_path: Path) -> None:
    stage = {"name": "stories", "verb": "corpus stories", "options": {"count": 10, "seed": 3}}
    written(tmp_path / "base.yaml", stages=[stage])
    change = {"name": "stories", "options": {"count": 20}}
    written(tmp_path / "middle.yaml", extends="base.yaml", stages=[change])
    top = written(
        tmp_path / "top.yaml",
        extends="middle.yaml",
        stages=[{"name": "stories", "options": {"seed": 4}}],
    )
    (made,) = recipe.resolve(recipe.read(top), [], tmp_path / "run", {}, ())
    assert (made.config.count, made.config.seed) == (20, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extends": "demmo"}, "recipe 'demmo' does not exist; did you mean 'demo'"),
        ({"extends": "other.yaml"}, r"other\.yaml does not exist"),
        ({"extends": "odd.yaml"}, r"odd\.yaml extends itself"),
        ({"extends": "demo", "until": "pretain"}, "no stage 'pretain' to stop at; did you mean"),
        ({"until": "sft"}, "`until` needs `extends`"),
        (
            {"extends": "demo", "stages": [{"name": "sft", "verb": "dpo"}]},
            "stage sft of recipe demo: unknown key 'verb'",
        ),
        ({"extends": "demo", "stages": [{"name": "sft", "options": 3}]}, "options must hold"),
        ({"extends": "demo", "stages": [{"name": "new"}]}, "unknown verb None"),
        ({"extends": "demo", "stages": [{"name": ["new"]}]}, "name must be small letters"),
        (
            {"extends": "demo", "stages": [{"name": "sft"}, {"name": "sft", "verb": "sft"}]},
            "two stages are named 'sft'",
        ),
    ],
)
def test_a_bad_extension_is_refused(tmp_path: Path, fields: Any, message: str) -> None:
    stages = [{"name": "more", "verb": "corpus stories"}]
    file = written(tmp_path / "odd.yaml", **{"stages": stages, **fields})
    with pytest.raises(ConfigError, match=message):
        recipe.read(file)


def test_a_circle_is_found_whatever_the_paths_are_called(tmp_path: Path) -> None:
    stages = [{"name": "more", "verb": "corpus stories"}]
    place = f"../{tmp_path.name}/odd.yaml"
    file = written(tmp_path / "odd.yaml", extends=place, stages=stages)
    with pytest.raises(ConfigError, match="extends itself"):
        recipe.read(file)
