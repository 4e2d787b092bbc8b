"""Looking at vocabularies: scripts, lists, segmentations; comparing them by stated definitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import folders
from hanllama import cli
from hanllama.base import fs
from hanllama.stories import grammar as stories
from hanllama.tokenizer.compare import Comparison
from hanllama.tokenizer.load import load_tokenizer
from hanllama.tokenizer.view import script_of, vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.tokenizer(tmp_path_factory.mktemp("view") / "bpe")


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("view")
    text = "\n".join(s.text for s in stories.stories(3000, seed=2))
    (place / "a.txt").write_text(text, encoding="utf-8")
    words = ["--algorithm", "unigram", "--vocab-size", "1500", "--output", str(place / "t")]
    assert cli.main(["tokenizer", "train", str(place / "a.txt"), *words]) == 0
    return place / "t"


def view(folder: Path, *words: str) -> int:
    return cli.main(["tokenizer", "view", str(folder), *words])


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("小兔子", "Han"),
        ("𠮷", "Han"),
        ("〇", "Han"),
        (" the", "Latin"),
        ("ａ", "full width"),
        ("12", "digits"),
        ("3.", "digits"),
        ("，。", "punctuation"),
        ("  ", "space"),
        ("\n", "space"),
        ("カタ", "Kana"),
        ("한국", "Hangul"),
        ("Д", "Cyrillic"),
        ("A股", "mixed"),
        ("😀", "symbols"),
        ("<0xE4>", "bytes"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


def test_every_id_is_shown_once(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    pieces = vocabulary(tokenizer)
    assert [p.id for p in pieces] == list(range(tokenizer.vocab_size))
    assert sum(p.script == "bytes" for p in pieces) == 256
    assert [p.text for p in pieces if p.script == "special"] == list(tokenizer.special_tokens)


def test_lists_by_script_search_and_use(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("河边河边河边山上", encoding="utf-8")
    words = ["--script", "han", "--sort", "frequency", "--text", str(tmp_path / "a.txt")]
    assert view(folder, *words, "--limit", "2") == 0
    listed = capsys.readouterr().out.split("uses\n")[1].split("\n")
    assert listed[0].split()[-1] == "3" and listed[0].split()[1] in "河边"
    assert "never used on this text" in listed[-2]
    assert view(folder, "--search", "石头", "--limit", "0") == 0
    assert "石头" in capsys.readouterr().out


def test_a_sentence_and_its_alternatives(unigram: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sentence", "小兔子去森林里找朋友。", "--alternatives", "3", "--sample", "4"]
    assert view(unigram, *words, "--seed", "5") == 0
    out = capsys.readouterr().out
    best = out.split("\n")[1].strip()
    block = out.split("log probability):\n")[1].split("\n\n")[0].split("\n")
    scores = [float(line.split()[0]) for line in block]
    assert scores == sorted(scores, reverse=True) and 1 < len(set(block)) == len(block) <= 3
    assert block[0].split(None, 1)[1] == best
    drawn = out.split("drawn (alpha 0.2):\n")[1].strip().split("\n")
    assert len(drawn) == 4
    for line in [*block, *drawn]:
        text = "".join(p for p in line.split() if not p.startswith("-"))
        assert text == "▁小兔子去森林里找朋友。"
    assert view(unigram, *words, "--seed", "5") == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("command", ["view", "compare"])
def test_records_of_the_text_that_cannot_be_used_are_told(
    folder: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "小兔子"}\n{"word": "小"}\n', encoding="utf-8")
    assert cli.main(["tokenizer", command, str(folder), "--text", str(text)]) == 0
    assert "unusable records    1 (1 x " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--script", "Klingon"], "no piece is of the script 'Klingon'; there are: Han"),
        (["--sample", "3"], "need a --sentence"),
        (["--sort", "frequency"], "needs --text"),
        (
            ["--sentence", "好", "--sample", "2", "--alpha", "-1"],
            "alpha must be float of 0 or more, not -1",
        ),
        (
            ["--sentence", "好", "--sample", "2", "--seed", "-1"],
            "seed must be int of 0 or more, not -1",
        ),
        (
            ["--sentence", "好", "--alternatives", "513"],
            "alternatives must be int from 0 to 512, not 513",
        ),
        (["--sentence", "好", "--sample", "2"], "only a unigram model"),
    ],
)
def test_what_cannot_be_shown_is_said(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert view(folder, *words) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in message.split("; there are: "))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"hidden_size": 512}', "is no tokenizer.json: it has no `model`"),
        (b"\x0a\x00", "is not a SentencePiece model: INTERNAL: piece must not be empty"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert view(tmp_path / "config.json") == 2
    assert message in capsys.readouterr().err


def test_the_numbers_of_a_comparison_by_hand(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    texts = ["河边", "石头a龘"]
    ids = [tokenizer.encode_raw([t])[0].tolist() for t in texts]
    comparison = Comparison(width=8)
    comparison.add("one", tokenizer, texts)
    (row,) = comparison.rows
    n = sum(map(len, ids))
    assert row.tokens_per_character == n / 6
    assert row.tokens_per_sample == n / 2
    assert row.tokens_per_sample / row.tokens_per_character == 3  # characters per sample
    assert row.bytes_per_token == 16 / n
    spelt = sum(tokenizer.piece(i).startswith("<0x") and i >= 6 + 0x80 for r in ids for i in r)
    assert row.byte_share == pytest.approx(spelt / n) and spelt >= 3  # 龘 in three bytes
    assert row.embedding_parameters == 8 * tokenizer.vocab_size
    assert row.round_trip_failures == 0


def test_compare_writes_a_report(
    folder: Path, unigram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tokenizer", "compare", str(folder), str(unigram), "--output", str(tmp_path / "c")]
    assert cli.main(words) == 0
    assert "tokens/character" in capsys.readouterr().out
    found = fs.read_json(tmp_path / "c" / "compare.json")
    assert [row["name"] for row in found["tokenizers"]] == ["bpe", "t"]
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert "Embedding" in page and "白" in page
    assert cli.main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["tokenizer", "compare", str(tmp_path / "nothing")]) == 2
