"""Promises 11 (bad_lines), 12 (clean_same) and 13 (clean_kill) of cleaning."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hanllama import records
from hanllama.data.clean import CleanConfig, clean
from hanllama.errors import InputError

COMMAND = [sys.executable, "-m", "hanllama", "clean"]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def mixed_corpus(folder: Path, lines: int = 2000) -> Path:
    """Books in three encodings, JSON lines with bad ones among them, duplicates across files."""
    rng = random.Random(0)
    folder.mkdir()

    def text(length: int) -> str:
        characters = "的一是不了在人有我他这中大来上个国和也子时道说到地你出就以那要，。\n\u200b "
        return "".join(rng.choices(characters, k=length))

    for number, codec in enumerate(["utf-8", "gb18030", "utf-16"] * 2):
        (folder / f"book-{number}.txt").write_bytes(text(30_000).encode(codec))
    (folder / "copy.txt").write_bytes((folder / "book-1.txt").read_bytes())
    records_ = [json.dumps({"text": text(rng.randrange(5, 1500))}) for _ in range(lines)]
    for place in range(100, lines, 100):
        records_[place] = "{" if place % 200 else records_[place - 1]
    half = lines // 2
    (folder / "a.jsonl").write_text("\n".join(records_[:half]))
    documents = (records.Document(json.loads(x)["text"]) for x in records_[half:] if x != "{")
    records.write_jsonl(folder / "b.jsonl.zst", documents)
    return folder


# --- 11 ----------------------------------------------------------------------------------------


def test_bad_lines_are_counted_exactly_and_kept_with_file_line_and_reason(tmp_path: Path) -> None:
    good = json.dumps({"text": "一篇好文章。"}).encode()
    bad: dict[int, tuple[bytes, str]] = {
        3: (b'{"text": "\xc4\xe3\xba\xc3"}', "line is not valid UTF-8"),
        10: (b'{"text": "cut', "invalid JSON"),
        11: (b"null", "null"),
        40: (b'{"title": "x"}', "no field 'text'"),
        41: (b'{"text": null}', "field 'text' is null"),
        42: (b'{"text": ["x"]}', "field 'text' is not text"),
        43: (b'["text"]', "not a JSON object"),
        70: (b'{"text": "' + b"x" * 50_000_000 + b'"}', "longer than 32 MiB"),
        71: (b'{"text": "\\ud800"}', "field 'text' holds half a surrogate pair"),
        72: (b"[" * 100_000, "invalid JSON"),
        100: (b"\x00\x00", "invalid JSON"),
    }
    lines = [bad[n][0] if n in bad else good for n in range(1, 1001)]
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    out = tmp_path / "out"
    clean(CleanConfig(inputs=(str(source),), output=str(out), exact_duplicates=False, workers=1))
    corpus = (out / "part-00000.jsonl").read_bytes().split(b"\n")[:-1]
    assert len(corpus) == 1000 - len(bad)
    entries = [json.loads(x) for x in (out / "quarantine.jsonl").read_text().split("\n")[:-1]]
    assert [(e["file"], e["line"], e["reason"]) for e in entries] == [
        (str(source), number, reason) for number, (_, reason) in bad.items()
    ]
    assert all(len(e["raw"]) <= 2000 for e in entries)
    report = json.loads((out / "report.json").read_text())
    assert sum(report["quarantined"].values()) == len(bad)


def test_above_the_set_share_nothing_is_written_but_the_quarantine(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "好文章"}\n' * 9 + "{\n")
    out = tmp_path / "out"
    words = [*COMMAND, str(source), "--output", str(out), "--max-quarantine-share"]
    failed = subprocess.run([*words, "0.09"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "1 of 10 records" in failed.stderr and "Traceback" not in failed.stderr
    assert "line 10" in failed.stderr and str(out) + ".quarantine.jsonl" in failed.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "out.quarantine.jsonl"]
    (entry,) = (tmp_path / "out.quarantine.jsonl").read_text().split("\n")[:-1]
    assert json.loads(entry)["line"] == 10
    passed = subprocess.run([*words, "0.1"], capture_output=True, text=True)
    assert passed.returncode == 0, passed.stderr
    assert not (tmp_path / "out.quarantine.jsonl").exists()


# --- 12 ----------------------------------------------------------------------------------------


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    source = mixed_corpus(tmp_path / "in")
    folders = []
    for workers in (1, 2, 4):
        folders.append(tmp_path / f"out-{workers}")
        clean(CleanConfig(inputs=(str(source),), output=str(folders[-1]), workers=workers))
    one, two, four = (contents(folder) for folder in folders)
    assert one == two == four
    report = json.loads(one["report.json"])
    assert report["duplicates"]["documents"] >= 10 and report["quarantined"]["invalid JSON"] >= 5
    assert {"utf-8", "gb18030", "utf-16-le"} <= set(report["encodings"])


@pytest.mark.parametrize("rules", ["default", "baby-llama2", "none"])
def test_cleaning_twice_is_cleaning_once(tmp_path: Path, rules: str) -> None:
    source = mixed_corpus(tmp_path / "in", lines=400)
    once, twice = tmp_path / "once", tmp_path / "twice"
    for place, target in ((source, once), (once, twice)):
        clean(CleanConfig(inputs=(str(place),), output=str(target), rules=(rules,), workers=1))
    parts = {k: v for k, v in contents(once).items() if k.startswith("part-")}
    assert parts and parts == {k: v for k, v in contents(twice).items() if k.startswith("part-")}


# --- 13 ----------------------------------------------------------------------------------------


def start(source: Path, out: Path, workers: int) -> subprocess.Popen[Any]:
    words = [*COMMAND, str(source), "--output", str(out), "--workers", str(workers)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def accept_ctrl_c() -> None:
    """Under nohup the tests themselves ignore Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children(process_id: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(process_id).children(recursive=True)]


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_in_the_middle_it_leaves_nothing_and_the_rerun_gives_the_same_bytes(
    tmp_path: Path, workers: int
) -> None:
    source = mixed_corpus(tmp_path / "in", lines=3000)
    expected = tmp_path / "expected"
    clean(CleanConfig(inputs=(str(source),), output=str(expected), workers=1))
    whole = (expected / "part-00000.jsonl").stat().st_size

    out = tmp_path / "out"
    part = tmp_path / ".tmp-out" / "part-00000.jsonl"
    process = start(source, out, workers)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > whole // 8):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    workers_of_it = children(process.pid)
    assert len(workers_of_it) >= (workers if workers > 1 else 0)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert part.stat().st_size < whole and not out.exists()
    while any(is_alive(pid) for pid in workers_of_it):  # orphans must go by themselves
        assert time.monotonic() < deadline
        time.sleep(0.01)

    assert start(source, out, workers).wait() == 0
    assert contents(out) == contents(expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expected", "in", "out"]


def is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal_it_cleans_up_and_keeps_the_previous_corpus(
    tmp_path: Path, number: signal.Signals
) -> None:
    source = mixed_corpus(tmp_path / "in", lines=3000)
    small = tmp_path / "small.txt"
    small.write_text("旧的语料。")
    out = tmp_path / "out"
    clean(CleanConfig(inputs=(str(small),), output=str(out), workers=1))
    before = contents(out)
    words = [*COMMAND, str(source), "--output", str(out), "--workers", "2", "--force"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_ctrl_c,
    )
    part = tmp_path / ".tmp-out" / "part-00000.jsonl"
    deadline = time.monotonic() + 60
    while not part.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in shown
    assert contents(out) == before
    assert not (tmp_path / ".tmp-out").exists()


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    import resource

    source = mixed_corpus(tmp_path / "in", lines=2000)
    out = tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    words = [*COMMAND, str(source), "--output", str(out), "--workers", "1"]
    failed = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit)
    assert failed.returncode == 2
    assert "cannot write" in failed.stderr and "part-00000.jsonl" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_an_empty_corpus_is_an_error_not_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("")
    with pytest.raises(InputError, match="empty file"):
        clean(CleanConfig(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
