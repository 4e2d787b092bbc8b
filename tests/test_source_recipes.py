"""The recipes of the systems that hanllama reproduces run end to end, small, on data of their form.

The text is the stories' generator's, written in the layouts in which the real sets are published:
novels as txt files of GB18030 and UTF-8, TinyStories' records, conversations and preferences as
JSON, a vocabulary as a bare tokenizer.model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from hanllama import cli, pipeline, recipe
from hanllama.model.checkpoint import load_model
from hanllama.stories.grammar import stories as generate_stories
from hanllama.tokenizer.train import TokenizerTrainConfig
from hanllama.tokenizer.train import train as train_tokenizer

SOURCES = [n for n in recipe.names() if n.startswith(("baby-llama2", "tiny-llama2", "tinystories"))]

OTHERS = [name for name in SOURCES if name not in ("tiny-llama2-9m", "tinystories-zh")]


def write_json(path: Path, records: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")


@pytest.fixture(scope="module")
def stories() -> list[str]:
    return [story.text for story in generate_stories(900, seed=3)]


@pytest.fixture(scope="module")
def chinese_folder(tmp_path_factory: pytest.TempPathFactory, stories: list[str]) -> Path:
    """One folder with pretrain/, sft/, preference/ and tokenizer/, as the recipes want."""
    root = tmp_path_factory.mktemp("sources")
    (root / "pretrain").mkdir()
    for book in range(6):
        text = "\n".join(stories[book * 100 : book * 100 + 100])
        encoding = "gb18030" if book % 2 else "utf-8"
        (root / "pretrain" / f"小说{book}.txt").write_bytes(text.encode(encoding))
    asked = [
        {"instruction": f"讲第{number}个故事。", "input": "", "output": story[:50]}
        for number, story in enumerate(stories[600:700])
    ]
    write_json(root / "sft" / "alpaca.json", asked)
    pairs = [
        {
            "conversations": [{"from": "human", "value": f"讲第{number}个故事。"}],
            "chosen": {"from": "gpt", "value": story[:50]},
            "rejected": {"from": "gpt", "value": story[:20]},
        }
        for number, story in enumerate(stories[700:780])
    ]
    write_json(root / "preference" / "pairs.json", pairs)
    made = root / "made"
    books = (str(root / "pretrain"),)
    train_tokenizer(TokenizerTrainConfig(inputs=books, output=str(made), vocab_size=1200))
    (root / "tokenizer").mkdir()
    shutil.copy(made / "tokenizer.model", root / "tokenizer")
    return root


@pytest.fixture(scope="module")
def tinystories_folder(tmp_path_factory: pytest.TempPathFactory, stories: list[str]) -> Path:
    root = tmp_path_factory.mktemp("tinystories")
    records = [
        {
            "story": "",
            "story_zh": story[:60],
            "summary": story[:12],
            "source": "GPT-4",
            "instruction": {
                "prompt:": "",
                "words": [story[3:5], story[8:10]],
                "features": ["Dialogue"],
            },
        }
        for story in stories
    ]
    write_json(root / "data00.json", records)
    return root


def run_tiny(name: str, given: Path, output: Path) -> list[Path]:
    pipeline.run(
        pipeline.RunConfig(recipe=name, input=(str(given),), output=str(output), scale="tiny")
    )
    return sorted(output.glob("*/model"))


def test_every_source_has_its_recipe() -> None:
    sizes = [f"tiny-llama2-{size}" for size in ("134m", "24m", "256m", "58m", "9m")]
    assert ["baby-llama2-115m", *sizes, "tinystories-zh"] == SOURCES


def test_the_whole_chain_of_tiny_llama2(chinese_folder: Path, tmp_path: Path) -> None:
    models = run_tiny("tiny-llama2-9m", chinese_folder, tmp_path / "run")
    stages = [model.parent.name.split("-")[1] for model in models]
    assert stages == ["pretrain", "sft", "reward", "ppo", "dpo"]
    load_model(tmp_path / "run" / "09-dpo" / "model")
    assert (tmp_path / "run" / "10-samples.jsonl").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_recipes_of_novels(name: str, chinese_folder: Path, tmp_path: Path) -> None:
    assert run_tiny(name, chinese_folder, tmp_path / "run")


@pytest.mark.slow
def test_tinystories(tinystories_folder: Path, tmp_path: Path) -> None:
    models = run_tiny("tinystories-zh", tinystories_folder, tmp_path / "run")
    assert [model.parent.name for model in models] == ["05-pretrain", "06-sft"]


@pytest.mark.parametrize("name", SOURCES)
def test_plan_says_what_each_stage_costs_at_full_size(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", name, "--no-measure", "--devices", "rtx4090", "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)["plans"]
    trained = [
        s.name for s in _stages(name) if s.name in ("pretrain", "sft", "reward", "ppo", "dpo")
    ]
    assert [p["name"] for p in plans] == [f"{name}: {stage}" for stage in trained]
    assert all(p["devices"][0]["hours"] > 0 for p in plans)


def _stages(name: str) -> list[recipe.Stage]:
    return recipe.resolve(recipe.read(name), ["input"], Path("runs"), {}, ())
