"""Every algorithm keeps what its file says: which back ends agree, whether texts come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece

from builders import folders
from hanllama import cli
from hanllama.base import fs, plugins
from hanllama.stories import grammar as stories
from hanllama.tokenizer import fuzz
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer, load_tokenizer
from hanllama.tokenizer.train import ALGORITHMS

NAMES = plugins.names(ALGORITHMS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "a.txt"
    words = "the quick fox jumps over lazy dogs and finds 12 eggs near a small river"
    english = "\n".join(" ".join(words.split()[i:] + words.split()[:i]) for i in range(15))
    stories_ = "\n".join(story.text for story in stories.stories(1500, seed=4))
    path.write_text(stories_ + "\n" + english, encoding="utf-8")
    return path


def train(corpus: Path, output: Path, *words: str) -> int:
    return cli.main(
        ["tokenizer", "train", str(corpus), "--output", str(output), "--vocab-size", "1200", *words]
    )


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in NAMES:
        made[name] = tmp_path_factory.mktemp("made") / name
        # Every algorithm at the size that this text supports.
        size = {"word": "290", "char": "900"}.get(name, "1200")
        assert train(corpus, made[name], "--algorithm", name, "--vocab-size", size) == 0
    return made


def raw(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode_raw([text])[0].tolist()
    return ids


@pytest.mark.parametrize("name", NAMES)
def test_the_back_ends_that_are_named_agree(name: str, trained: dict[str, Path]) -> None:
    folder, module = trained[name], plugins.load(ALGORITHMS, name)
    ours = load_tokenizer(folder)
    pieces = [ours.piece(i) for i in range(len(ours.special_tokens), ours.vocab_size)]
    strings = [*fuzz.strings(1500, seed=len(name)), *fuzz.contested(pieces, 2000, 1)]
    strings.append(folders.text(7, 20))
    assert set(module.BACK_ENDS) <= {"sentencepiece", "transformers", "llama.cpp"}
    if "sentencepiece" in module.BACK_ENDS:
        oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        for text in strings:
            assert raw(ours, text) == oracle.encode(text), repr(text)
    if "transformers" in module.BACK_ENDS:
        transformers = pytest.importorskip("transformers", reason="the outside oracle")
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        for text in strings:
            ids = theirs(text, split_special_tokens=True).input_ids
            assert ours.encode(text) == ids, repr(text)
    else:
        assert not (folder / "tokenizer.json").exists()


@pytest.mark.parametrize("name", NAMES)
def test_texts_come_back_where_the_file_says_so(name: str, trained: dict[str, Path]) -> None:
    tokenizer, module = load_tokenizer(trained[name]), plugins.load(ALGORITHMS, name)
    lost = 0
    for text in fuzz.strings(1500, seed=3):
        expected = text if name == "byte_bpe" else text.replace("▁", " ")
        lost += tokenizer.decode(raw(tokenizer, text)) != expected
    assert (lost == 0) == module.REVERSIBLE


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_have_the_same_ids_and_cannot_be_typed(
    name: str, trained: dict[str, Path]
) -> None:
    tokenizer = load_tokenizer(trained[name])
    plan = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    assert [tokenizer.special_tokens[token] for token in plan] == [0, 1, 2, 3, 4, 5]
    assert tokenizer.vocab_size <= 1200
    ids = raw(tokenizer, "".join(plan))
    assert not set(ids) & {1, 2, 3, 4, 5}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_folder_can_carry_it(name: str, trained: dict[str, Path], tmp_path: Path) -> None:
    copy_tokenizer(trained[name], tmp_path)
    assert load_tokenizer(tmp_path).hash == load_tokenizer(trained[name]).hash


def test_several_at_once_are_compared(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--algorithm", "bpe", "byte_bpe", "--chat-template", "chatml"]
    assert train(corpus, tmp_path / "all", *words) == 0
    found = fs.read_json(tmp_path / "all" / "compare.json")
    assert [row["name"] for row in found["tokenizers"]] == ["bpe", "byte_bpe"]
    for row in found["tokenizers"]:
        tokenizer = load_tokenizer(tmp_path / "all" / row["name"])
        assert row["vocabulary"] == tokenizer.vocab_size == 1200
        assert (tokenizer.folder / "chat_template.jinja").is_file()
    assert "tokens/character" in capsys.readouterr().out


def test_an_algorithm_of_ones_own_beside_a_shipped_one(corpus: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from hanllama.tokenizer.algorithms.bpe import *\n", encoding="utf-8")
    assert train(corpus, tmp_path / "all", "--algorithm", "bpe", str(mine)) == 0
    hashes = [load_tokenizer(tmp_path / "all" / name).hash for name in ("bpe", "mine")]
    assert hashes[0] == hashes[1]


def test_user_symbols_are_one_piece(corpus: Path, tmp_path: Path) -> None:
    for name in ("bpe", "byte_bpe"):
        symbols = ("【问】", "<思考>", "ab")
        words = ["--algorithm", name, "--user-symbols", *symbols]
        assert train(corpus, tmp_path / name, *words) == 0
        tokenizer = load_tokenizer(tmp_path / name)
        ids = raw(tokenizer, "【问】小兔子<思考>ab兔  子")
        for symbol in symbols:
            assert [tokenizer.piece(i) for i in ids].count(symbol) == 1
        assert tokenizer.decode(ids) == "【问】小兔子<思考>ab兔  子"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--algorithm", "bpee"], "did you mean 'bpe'"),
        (["--user-symbols", "啊", "啊"], "number 2 ('啊') stands twice"),
        (["--user-symbols", "</s>"], "('</s>') is special"),
        (["--user-symbols", "ab", "a b"], "number 2 ('a b') holds a space"),
        (["--user-symbols", "a▁b"], "('a▁b') holds a space"),
        (
            ["--character-coverage", "0.97"],
            "character_coverage must be float from 0.98 to 1, not 0.97",
        ),
        (["--user-symbols", "<0x41>"], "('<0x41>') is special"),
        (["--user-symbols", ""], "('') is empty"),
        (["--algorithm", "bpe", "bpe"], "'bpe' stands twice"),
        (["--chat-template", "chatm"], "did you mean 'chatml'"),
        (["--algorithm", "byte_bpe", "--vocab-size", "90000"], "the largest that works is"),
        (["--algorithm", "unigram", "--vocab-size", "90000"], "the largest that works is"),
        (
            ["--algorithm", "byte_bpe", "bpe", "--vocab-size", "90000"],
            "algorithm byte_bpe: vocab_size 90000 is larger",
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    corpus: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(corpus, tmp_path / "t", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_words_need_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_text(
        "没有一个空格的很长的一句话里面找不到任何可以当作词的东西因为它超过了三十个字符。\n" * 3
    )
    assert train(path, tmp_path / "t", "--algorithm", "word") == 2
    assert "segment the text first" in capsys.readouterr().err
