"""Words given to the trainer are spelt alike wherever they stand, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanllama import cli
from hanllama.tokenizer import words
from hanllama.tokenizer.load import load_tokenizer

KINDS = ["小狐狸", "小刺猬", "小鸭子"]
# What stands before a kind in a story, and in a wish; enough of each for a vocabulary to join them.
PLACES = ["从前有一只", "竹林里住着一只", "请讲一个", "主角是"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "a.txt"
    lines = [f"{place}{kind}的故事。" for place in PLACES for kind in KINDS]
    path.write_text("\n".join(lines * 30) + "\n今天下雨，大家都在家里看书。\n" * 5)
    return path


def train(corpus: Path, output: Path, *more: str) -> int:
    size = ["--vocab-size", "340", "--character-coverage", "1.0"]
    return cli.main(["tokenizer", "train", str(corpus), "--output", str(output), *size, *more])


def spellings(folder: Path, word: str) -> set[tuple[str, ...]]:
    """How `word` is cut into pieces in its different places; a piece may reach out of it."""
    tokenizer, found = load_tokenizer(folder), set()
    for place in PLACES:
        text = f"{place}{word}的故事。"
        begin, at, over = len(place), 0, []
        pieces = [tokenizer.decode([i]) for i in tokenizer.encode_raw([text])[0].tolist()]
        for piece in pieces:
            if at < begin + len(word) and at + len(piece) > begin:
                over.append(piece)
            at += len(piece)
        assert "".join(pieces) == text
        found.add(tuple(over))
    return found


def test_a_word_is_spelt_alike_wherever_it_stands(corpus: Path, tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("\n".join(KINDS), encoding="gbk")
    assert train(corpus, tmp_path / "plain") == 0
    assert train(corpus, tmp_path / "cut", "--words", str(listed)) == 0
    assert any(len(spellings(tmp_path / "plain", word)) > 1 for word in KINDS)
    for word in KINDS:
        (one,) = spellings(tmp_path / "cut", word)
        assert "".join(one) == word
    record = json.loads((tmp_path / "cut" / "training.json").read_text())
    assert record["corpus"]["words"] == 3 and record["config"]["words"] == str(listed)


def test_of_several_words_at_one_place_the_longest_is_cut_out() -> None:
    lines = ["篱笆旁的小树", "小树在篱笆", "", "没有"]
    assert list(words.cut(lines, ["篱笆", "篱笆旁", "小树"])) == (
        ["篱笆旁", "的", "小树", "小树", "在", "篱笆", "没有"]
    )
    assert list(words.cut(lines, [])) == lines


def test_what_stands_behind_a_word_is_left_aside(tmp_path: Path) -> None:
    listed = tmp_path / "dict.txt"
    listed.write_text("\ufeff小狐狸 120 n\r\n\r\n刺猬\t3\n小狐狸 1\n", encoding="utf-8")
    assert words.read(listed) == ("小狐狸", "刺猬")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b" \n\n", "holds no word"), (b"\x89PNG\0\xff\xfe", "not text")],
)
def test_a_file_without_words_is_named(
    content: bytes | None,
    said: str,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = tmp_path / "words.txt"
    if content is not None:
        listed.write_bytes(content)
    assert train(corpus, tmp_path / "tok", "--words", str(listed)) == 2
    error = capsys.readouterr().err
    assert str(listed) in error and said in error
    assert not (tmp_path / "tok").exists()
