"""Vocabularies and strings on which back ends are compared."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import folders
from hanllama import cli
from hanllama.tokenizer.fuzz import PARTS, strings
from hanllama.tokenizer.load import copy_tokenizer

ALL = 20_000

# Pieces that contend with each other and with what the base has: halves, overlaps, whole words,
# runs of one character, pieces of characters that the base only spells in bytes.
_NEW_PIECES = [
    *[
        "你",
        "好",
        "你好",
        "好你",
        "世",
        "界",
        "世界",
        "好世",
        "的的",
        "的的的",
        "，。",
        "。“",
        "——",
    ],
    *[
        "𠮷",
        "𠮷野",
        "野家",
        "龜",
        "ＡＢＣ",
        "ﾊﾝｶｸ",
        "👨‍👩‍👧",
        "😀😀",
        "한국",
        "é",
        "\u200b",
        "　　",
    ],
    *["th", "the", "▁the", "he", "hello", "▁world", "aa", "aaa", "aaaa", "12", "123", "1234", "3."],
    *["▁▁▁▁", "a▁", "\n\n", "\n▁", "\t", "|>", "<|", "im_", "start"],
]


@pytest.fixture(scope="session")
def many_strings() -> list[str]:
    """20,000 different generated strings in a mixed order, so that any share of them is fair."""
    found = list(dict.fromkeys(strings(18_000, seed=2026)))
    random.Random(0).shuffle(found)
    assert len(found) >= ALL
    return found[:ALL]


@pytest.fixture(
    params=[pytest.param(2000, id="share"), pytest.param(ALL, id="all", marks=pytest.mark.slow)]
)
def texts(request: pytest.FixtureRequest, many_strings: list[str]) -> list[str]:
    """The first 2,000 of the strings, and, among the slow tests, all of them."""
    count: int = request.param
    return many_strings[:count]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE folder trained on the same parts that the strings are made of."""
    folder = tmp_path_factory.mktemp("trained")
    draw = random.Random(0)
    lines = [json.dumps({"text": "".join(draw.choices(PARTS, k=8))}) for _ in range(2000)]
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["tokenizer", "train", str(folder / "a.jsonl"), "--output", str(folder / "tok")]
    assert cli.main([*words, "--vocab-size", "900"]) == 0
    return folder / "tok"


@pytest.fixture(scope="session")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained folder, extended by pieces of our own with safe scores."""
    folder = tmp_path_factory.mktemp("extended")
    pieces = folder / "pieces.jsonl"
    pieces.write_text("".join(json.dumps({"piece": p}) + "\n" for p in _NEW_PIECES))
    base = folders.tokenizer(folder / "base")
    words = ["tokenizer", "extend", str(base), "--pieces", str(pieces)]
    assert cli.main([*words, "--output", str(folder / "tok")]) == 0
    return folder / "tok"


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Callable[[str], Path]:
    """The folder of a published SentencePiece model: `llama2` or `chatglm3`."""

    def folder(name: str) -> Path:
        made = tmp_path_factory.mktemp("published")
        (made / "lone").mkdir()
        (made / name).mkdir()
        source = shared_data / "tokenizers" / f"{name}_tokenizer.model"
        shutil.copy(source, made / "lone" / "tokenizer.model")
        copy_tokenizer(made / "lone", made / name)
        return made / name

    return folder


@pytest.fixture(scope="session")
def chinese_llama(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Callable[[str], Path]:
    """Llama-2 extended by the 20,000 Chinese pieces, with `safe` or `zero` scores."""

    def folder(scores: str) -> Path:
        made = tmp_path_factory.mktemp("chinese") / scores
        models = shared_data / "tokenizers"
        words = ["tokenizer", "extend", str(models / "llama2_tokenizer.model"), "--output"]
        words += [str(made), "--from", str(models / "chinese_sp_20k.model"), "--scores", scores]
        assert cli.main(words) == 0
        return made

    return folder
