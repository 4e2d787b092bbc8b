"""Promises of `hanllama tokenizer train`: fixed ids, equal bytes, errors with their remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hanllama import cli
from hanllama.tokenizer.load import load_tokenizer
from hanllama.tokenizer.train import LineSample


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [f"第{i}天，小兔子去森林里找蘑菇，找到了{i * 7 % 50}个。" for i in range(400)]
    (folder / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    records = [json.dumps({"text": f"story {i}: the fox and the hen"}) for i in range(100)]
    (folder / "b.jsonl").write_text("\n".join(records), encoding="utf-8")
    return folder


def run(*words: str | Path) -> int:
    return cli.main(["tokenizer", "train", *map(str, words)])


def test_the_plan_of_ids_and_the_files(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, "--output", tmp_path / "t", "--vocab-size", "350") == 0
    tokenizer = load_tokenizer(tmp_path / "t")
    assert tokenizer.vocab_size == 350 and tokenizer.adds_bos
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, 3)
    described = json.loads((tmp_path / "t" / "tokenizer.json").read_text(encoding="utf-8"))
    names = list(described["model"]["vocab"])
    assert names[:6] == ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    assert names[6:262] == [f"<0x{b:02X}>" for b in range(256)]
    record = json.loads((tmp_path / "t" / "training.json").read_text(encoding="utf-8"))
    assert record["corpus"]["documents"] == 101
    assert record["tokenizer_hash"] == tokenizer.hash
    text = "第12天，小兔子 and the fox 𠮷"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_same_bytes_with_any_number_of_threads(corpus: Path, tmp_path: Path) -> None:
    for threads in ("1", "3"):
        out = tmp_path / threads
        assert run(corpus, "--output", out, "--vocab-size", "340", "--threads", threads) == 0
    sums = [(tmp_path / t / "SHA256SUMS").read_bytes() for t in ("1", "3")]
    assert sums[0] == sums[1]


def test_chinese_without_any_space_still_has_its_prefix_piece(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("小兔子去森林\n森林里有蘑菇\n" * 30, encoding="utf-8")
    assert run(tmp_path / "a.txt", "--output", tmp_path / "t", "--vocab-size", "275") == 0
    tokenizer = load_tokenizer(tmp_path / "t")
    assert tokenizer.decode(tokenizer.encode(" 小 兔子")) == " 小 兔子"
    assert not tokenizer.is_fallback()[tokenizer.encode("小兔子")].any()


def test_too_large_a_vocabulary_names_the_largest_and_that_one_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("小兔子去森林\n", encoding="utf-8")
    words = (tmp_path / "a.txt", "--output", tmp_path / "t", "--vocab-size")
    assert run(*words, "5000") == 2
    found = re.search(r"the largest that works is (\d+)", capsys.readouterr().err)
    assert found
    assert not (tmp_path / "t").exists()
    assert run(*words, str(int(found[1]) + 1)) == 2
    assert run(*words, found[1]) == 0


def test_too_small_a_vocabulary_names_what_is_needed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (corpus, "--output", tmp_path / "t", "--vocab-size")
    assert run(*words, "100") == 2
    assert "256 bytes" in capsys.readouterr().err
    assert run(*words, "270") == 2
    found = re.search(r"take (\d+)", capsys.readouterr().err)
    assert found and run(*words, found[1]) == 0


@pytest.mark.parametrize("content", ["", " \n\n \n"])
def test_an_empty_corpus_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    assert run(tmp_path / "a.txt", "--output", tmp_path / "t") == 2
    assert "holds no text" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_lines_too_long_are_counted_and_only_such_lines_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("小兔子去森林\n" * 20 + "很长" * 2000 + "\n", encoding="utf-8")
    words = ("--output", tmp_path / "t", "--vocab-size", "275", "--max-sentence-length", "1000")
    left_out = (*words, "--cut-long-lines", "false")
    assert run(path, *left_out) == 0
    assert "left out            1 lines longer than 1,000 bytes" in capsys.readouterr().out
    path.write_text("很长" * 2000, encoding="utf-8")
    assert run(path, *left_out, "--force") == 2
    assert "longer than max_sentence_length 1000" in capsys.readouterr().err
    assert load_tokenizer(tmp_path / "t"), "the previous tokenizer survives a failed --force"
    assert run(path, *words, "--force", "--vocab-size", "266") == 0, "cut, they can be trained on"
    record = json.loads((tmp_path / "t" / "training.json").read_text(encoding="utf-8"))
    assert record["corpus"]["sample_bytes"] == 12_000 and record["corpus"]["lines_too_long"] == 1


def test_an_existing_output_is_kept_without_force(corpus: Path, tmp_path: Path) -> None:
    words = (corpus, "--output", tmp_path / "t", "--vocab-size")
    assert run(*words, "340") == 0
    assert run(*words, "350") == 2
    assert load_tokenizer(tmp_path / "t").vocab_size == 340
    assert run(*words, "350", "--force") == 0
    assert load_tokenizer(tmp_path / "t").vocab_size == 350


def test_the_preset_sets_what_the_user_has_not(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (corpus, "--output", tmp_path / "t", "--preset", "baby-llama2")
    assert run(*words) == 2  # this corpus does not support its 32,000
    assert "vocab_size 32000 is larger" in capsys.readouterr().err
    assert run(*words, "--vocab-size", "390") == 0
    record = json.loads((tmp_path / "t" / "training.json").read_text(encoding="utf-8"))
    assert record["settings"]["max_sentence_length"] == 2657
    assert record["settings"]["vocab_size"] == 390


def test_a_sample_is_bounded_uniform_and_a_function_of_the_seed() -> None:
    def sample(seed: int, limit: int) -> list[str]:
        lines = LineSample(limit, seed)
        for i in range(2000):
            lines.add(f"{i:04d}", 4)
            assert not limit or lines.bytes <= limit
        return lines.lines

    assert sample(1, 400) == sample(1, 400)
    assert sample(1, 400) != sample(2, 400)
    assert len(sample(1, 400)) == 100 and sample(1, 400) == sorted(sample(1, 400))
    assert len(sample(1, 0)) == 2000
    # 100 of 2,000 a seed: the mean position of 20 samples is within 4 standard errors of 999.5.
    positions = [int(line) for seed in range(20) for line in sample(seed, 400)]
    assert abs(sum(positions) / len(positions) - 999.5) < 4 * 577 / len(positions) ** 0.5
