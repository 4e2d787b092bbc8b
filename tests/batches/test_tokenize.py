"""Promises of `hanllama tokenize`: the documents of the corpus, the same bytes with any workers."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hanllama import cli
from hanllama.base import fs
from hanllama.batches.shards import open_shards
from hanllama.tokenizer.load import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("tokenizer")
    (base / "a.txt").write_text("小兔子去森林里找蘑菇。\nthe fox\n" * 50, encoding="utf-8")
    out = base / "t"
    words = ["tokenizer", "train", str(base / "a.txt"), "--output", str(out)]
    assert cli.main([*words, "--vocab-size", "300"]) == 0
    return out


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """60 documents in two forms, unusable and blank ones between."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    draw = random.Random(0)
    words = ["小兔子", "森林", "蘑菇", "fox ", "𠮷", "。\n", "  "]
    records = []
    for i in range(50):
        text = f"{i}: " + "".join(draw.choices(words, k=draw.randint(5, 200)))
        records.append(json.dumps({"text": text, "id": str(i)}, ensure_ascii=False))
    records[10:10] = ['{"text": " \\n "}', "no json", '{"id": "no text"}']
    (folder / "a.jsonl").write_text("\n".join(records), encoding="utf-8")
    for i in range(10):
        text = "".join(draw.choices(words, k=400))
        (folder / f"b{i}.txt").write_text(text, encoding="utf-8")
    return folder


def run(corpus: Path, tokenizer: Path, output: Path, *more: str) -> int:
    words = ["tokenize", str(corpus), "--tokenizer", str(tokenizer), "--output", str(output)]
    return cli.main([*words, *more])


def rows(output: Path) -> dict[str, list[list[int]]]:
    found = {}
    for name, split in open_shards(output).splits.items():
        cuts = split.document_starts()[1:-1]
        found[name] = [r.tolist() for r in np.split(split.read(0, split.n_tokens), cuts)]
    return found


def texts(corpus: Path) -> list[str]:
    found = []
    for line in (corpus / "a.jsonl").read_text(encoding="utf-8").split("\n"):
        if line.startswith('{"text": "') and not line.startswith('{"text": " '):
            found.append(json.loads(line)["text"])
    for i in range(10):
        found.append((corpus / f"b{i}.txt").read_text(encoding="utf-8"))
    return found


def test_every_document_is_there_once_in_order_with_bos_and_eos(
    corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    assert run(corpus, tokenizer, tmp_path / "s", "--holdout", "0.1", "--shard-tokens", "900") == 0
    opened = load_tokenizer(tokenizer)
    expected = [[*opened.encode(t), opened.eos_id] for t in texts(corpus)]
    assert len(expected) == 60
    shards = open_shards(tmp_path / "s")
    held = shards.manifest["holdout"]["documents"]
    found = rows(tmp_path / "s")
    assert found["heldout"] == [expected[i] for i in held]
    assert found["train"] == [r for i, r in enumerate(expected) if i not in held]
    assert 0 < len(held) < 20
    n_bytes = sum(s.n_bytes for s in shards.splits.values())
    assert n_bytes == sum(len(t.encode()) for t in texts(corpus))
    assert load_tokenizer(shards.tokenizer_folder).hash == shards.manifest["tokenizer_hash"]


def test_the_same_bytes_with_any_number_of_workers(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [(1, 2**20, True), (1, 1, True), (2, 1, True), (3, 2000, True), (2, 1, False)]
    for workers, job_bytes, forked in cases:
        monkeypatch.setattr("hanllama.base.workers.JOB_BYTES", job_bytes)
        monkeypatch.setattr("hanllama.base.workers.forks", lambda forked=forked: forked)
        output = tmp_path / f"{workers}-{job_bytes}-{forked}"
        assert run(corpus, tokenizer, output, "--workers", str(workers)) == 0
        fs.verify_sums(output)
    sums = {path.read_bytes() for path in tmp_path.glob("*/SHA256SUMS")}
    assert len(list(tmp_path.glob("*/SHA256SUMS"))) == len(cases)
    assert len(sums) == 1


def test_the_same_bytes_when_the_tokens_do_not_fit_in_memory(
    corpus: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanllama.base.workers.JOB_BYTES", 1000)
    assert run(corpus, tokenizer, tmp_path / "held") == 0
    n_tokens = sum(s.n_tokens for s in open_shards(tmp_path / "held").splits.values())
    # From the first batch on, from the middle, and with the last one.
    for limit in (1, n_tokens, 2 * n_tokens - 1):
        monkeypatch.setattr("hanllama.batches.spool.SPOOL_MEMORY", limit)
        output = tmp_path / str(limit)
        assert run(corpus, tokenizer, output) == 0
        assert (output / "SHA256SUMS").read_bytes() == (tmp_path / "held/SHA256SUMS").read_bytes()
        assert not list(output.glob(".spool*"))


def test_what_has_not_changed_is_not_tokenized_again(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "s"
    assert run(corpus, tokenizer, output) == 0
    made = (output / "manifest.json").stat().st_mtime_ns
    capsys.readouterr()
    assert run(corpus, tokenizer, output, "--workers", "2") == 0
    assert f"{output} is complete" in capsys.readouterr().out
    assert (output / "manifest.json").stat().st_mtime_ns == made
    with open(corpus / "b9.txt", "a", encoding="utf-8") as out:
        out.write("一")
    for words, why in [
        ((), "corpus changed"),
        (("--seed", "1"), "corpus changed and options changed"),
    ]:
        assert run(corpus, tokenizer, output, *words) == 2
        assert why in capsys.readouterr().err
    assert run(corpus, tokenizer, output, "--force") == 0
    assert (output / "manifest.json").stat().st_mtime_ns != made


def test_a_killed_run_goes_on_to_the_same_bytes(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL after some of the batches, twice; then damage, then another text."""
    program = (
        "import os, signal, sys\n"
        "from hanllama import cli\n"
        "from hanllama.base import workers\n"
        "from hanllama.batches import spool\n"
        "workers.JOB_BYTES, spool.SAVE_SECONDS = 1000, -1.0\n"
        "save, left = spool.Journal.save, [int(sys.argv.pop(1))]\n"
        "def counted(journal):\n"
        "    save(journal)\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "spool.Journal.save = counted\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )

    def start(saves: int, name: str) -> subprocess.CompletedProcess[str]:
        words = ["tokenize", str(corpus), "--tokenizer", str(tokenizer), "--workers", "1"]
        command = [sys.executable, "-c", program, str(saves), *words]
        command += ["--output", str(tmp_path / name)]
        return subprocess.run(command, capture_output=True, text=True)

    assert start(0, "whole").returncode == 0
    assert not (tmp_path / "whole.partial").exists()
    assert start(4, "s").returncode == start(3, "s").returncode == -signal.SIGKILL
    assert not (tmp_path / "s").exists()
    last = start(0, "s")
    assert last.returncode == 0 and f"going on from {tmp_path}/s.partial" in last.stderr
    assert (tmp_path / "s/SHA256SUMS").read_bytes() == (tmp_path / "whole/SHA256SUMS").read_bytes()
    assert not (tmp_path / "s.partial").exists() and not list(tmp_path.glob(".tmp-*"))

    assert start(3, "hurt").returncode == -signal.SIGKILL
    log = tmp_path / "hurt.partial/batches"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    hurt = start(0, "hurt")
    assert hurt.returncode == 2 and "is damaged; remove" in hurt.stderr

    assert start(3, "other").returncode == -signal.SIGKILL
    (corpus / "b9.txt").write_text("另一本书。\n" * 20, encoding="utf-8")
    other = start(0, "other")
    assert other.returncode == 0 and "corpus changed; beginning anew" in other.stderr
    assert texts(corpus)[-1].startswith("另一本书")
    assert sum(len(part) for part in rows(tmp_path / "other").values()) == 60


def test_unusable_and_blank_records_are_counted_and_kept(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(corpus, tokenizer, tmp_path / "s") == 0
    said = capsys.readouterr().out
    assert "unusable records  2" in said and "blank documents   1" in said
    kept = (tmp_path / "s" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line"] for line in kept] == [12, 13]


def test_what_is_said_is_what_is_there(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text(f"{i}小兔子齉齉\n" * 10, encoding="utf-8")
    output = tmp_path / "s"
    words = ["tokenize", f"{tmp_path}/*.txt", "--tokenizer", str(tokenizer)]
    assert cli.main([*words, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    opened, found = load_tokenizer(tokenizer), rows(output)
    tokens = sum(len(r) for part in found.values() for r in part)
    fallback = opened.is_fallback()
    unknown = sum(int(fallback[r].sum()) for part in found.values() for r in part)
    assert unknown == 20 * 10 * 2 * 3, "two rare characters a line, three bytes each"
    characters = sum(len(f"{i}小兔子齉齉\n" * 10) for i in range(20))
    assert f"characters/token  {characters / tokens:.3f}" in said
    assert f"unknown           {unknown / tokens:.3%}" in said


def test_a_single_book_is_divided_at_a_line_end(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "".join(f"{i}：小兔子去森林\n" for i in range(300))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    assert run(tmp_path / "book.txt", tokenizer, tmp_path / "s", "--holdout", "0.05") == 0
    assert "end of one document" in capsys.readouterr().out
    opened, found = load_tokenizer(tokenizer), rows(tmp_path / "s")
    (train,), (held,) = found["train"], found["heldout"]
    assert opened.decode(train) + opened.decode(held) == text
    assert opened.decode(train).endswith("\n")
    assert 0.03 < len(opened.decode(held)) / len(text) <= 0.05
    assert train[0] == held[0] == opened.bos_id and train[-1] == held[-1] == opened.eos_id


@pytest.mark.parametrize(("content", "why"), [("", "unusable|used"), (" \n\n", "blank|used|text")])
def test_an_empty_corpus_is_refused(
    content: str, why: str, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    assert run(tmp_path / "a.txt", tokenizer, tmp_path / "s") == 2
    error = capsys.readouterr().err
    assert "is empty" in error and any(w in error for w in why.split("|"))
    assert not (tmp_path / "s").exists() and not list(tmp_path.glob(".tmp-*"))


def test_bad_input_is_refused_with_exit_code_2(
    corpus: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "s"
    for words, message in [
        ((tmp_path / "missing", tokenizer, output), "does not exist"),
        ((corpus, tmp_path / "missing", output), "does not exist"),
        ((corpus, corpus, output), "holds no tokenizer"),
        ((corpus, tokenizer, output, "--holdout", "0.6"), "holdout must be"),
        ((corpus, tokenizer, output, "--shard-tokens", "0"), "shard_tokens must be"),
        ((corpus, tokenizer, tokenizer), "exists already"),
    ]:
        assert run(*words) == 2  # type: ignore[arg-type]
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_without_a_holdout_everything_is_for_training(
    corpus: Path, tokenizer: Path, tmp_path: Path
) -> None:
    assert run(corpus, tokenizer, tmp_path / "s", "--holdout", "0") == 0
    found = rows(tmp_path / "s")
    assert list(found) == ["train"] and len(found["train"]) == 60


def test_editions_of_one_novel_do_not_straddle_the_split(
    shared_data: Path, tokenizer: Path, tmp_path: Path
) -> None:
    """Real books: two editions of 《三国演义》 (one GBK) and 《红楼梦》 among small ones."""
    inputs = [shared_data / "pretrain/novels/sanguo.txt", shared_data / "messy/sanguo_orig.gbk.txt"]
    inputs += [
        shared_data / "pretrain/novels/honglou.txt",
        shared_data / "messy/honglou_leftbook.txt",
    ]
    inputs += [shared_data / "pretrain/novels/qibaishi_zishu.txt"]
    words = ["tokenize", *map(str, inputs), "--tokenizer", str(tokenizer)]
    for seed in ("0", "1"):
        output = tmp_path / seed
        assert cli.main([*words, "--output", str(output), "--seed", seed]) == 0
        chosen = open_shards(output).manifest["holdout"]
        assert chosen["documents"] == [4] and chosen["note"] == ""
