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

from hanllama.base.errors import InputError
from hanllama.corpus import ruleset
from hanllama.corpus.clean import CleanConfig, clean
from hanllama.reading import records

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


def test_bad_lines_above_the_set_share_leave_nothing_but_the_quarantine(tmp_path: Path) -> None:
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


def test_clean_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    source = mixed_corpus(tmp_path / "in")
    folders = []
    for workers in (1, 2, 4):
        folders.append(tmp_path / f"out-{workers}")
        clean(
            CleanConfig(
                inputs=(str(source),),
                output=str(folders[-1]),
                rules=(
                    "default",
                    {"min_characters": {"minimum": 100}},
                    {"line_length": {"minimum": 3}},
                ),
                workers=workers,
            )
        )
    one, two, four = (contents(folder) for folder in folders)
    assert one == two == four
    report = json.loads(one["report.json"])
    assert report["duplicates"]["documents"] >= 10 and report["quarantined"]["invalid JSON"] >= 5
    assert {"utf-8", "gb18030", "utf-16-le"} <= set(report["encodings"])
    assert one["dropped.jsonl"].count(b'"rule": "min_characters"') > 50


@pytest.mark.parametrize("rules", ruleset.presets())
def test_clean_same_twice_as_once(tmp_path: Path, rules: str) -> None:
    source = mixed_corpus(tmp_path / "in", lines=200)
    (source / "novel.txt").write_text(NOVEL * 3)
    check_twice_is_once([source], tmp_path, rules)


@pytest.mark.slow
@pytest.mark.parametrize("rules", ruleset.presets())
def test_clean_same_twice_as_once_on_real_books(
    tmp_path: Path, rules: str, shared_data: Path
) -> None:
    books = [shared_data / "messy", shared_data / "pretrain" / "novels" / "xiaohong_quanji.txt"]
    check_twice_is_once(books, tmp_path, rules)


def check_twice_is_once(source: list[Path], folder: Path, rules: str) -> None:
    once, twice = folder / "once", folder / "twice"
    for places, target in ((source, once), ([once], twice)):
        names = tuple(str(place) for place in places)
        clean(CleanConfig(inputs=names, output=str(target), rules=(rules,), workers=1))
    parts = {k: v for k, v in contents(once).items() if k.startswith("part-")}
    assert parts and parts == {k: v for k, v in contents(twice).items() if k.startswith("part-")}


# What the rules take and change, in a few made-up lines.
NOVEL = """第一章　雨夜
本书来自某某小说网,请记住网址 www.example.com
\u200b　　天刚亮，老张就推着车出了门。街上没有人，只有一条狗跟着他走了很远,很远。
　　“你回去吧！”他对狗说。“哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈，”有人在墙后面笑。


　　他的电话是13800138000，邮箱是someone@example.com，他谁也不告诉。
求推荐票！求月票！手机用户请浏览阅读，更优质的阅读体验。
　　雨下了一整天，河水涨到了桥面上，村里的人都站在堤上看着，谁也没有说话，
　　只有孩子们还在跑来跑去。&nbsp;<br>天黑以前，水退了。
（本章完）
"""


# --- 13 ----------------------------------------------------------------------------------------


def start(source: Path, out: Path, workers: int) -> subprocess.Popen[Any]:
    """The command as a user runs it, but a state is saved after every job."""
    program = "from hanllama.base import workers; from hanllama.corpus import clean;"
    program += "from hanllama import cli; import sys;"
    program += "clean.SAVE_SECONDS = 0; workers.JOB_BYTES = 100_000;"
    program += "sys.exit(cli.main(sys.argv[1:]))" if workers == 1 else GUARDED
    words = ["clean", str(source), "--output", str(out), "--workers", str(workers), "--force"]
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_ctrl_c,
    )


# A worker process starts with the parent's own program.
GUARDED = "__name__ == '__main__' and sys.exit(cli.main(sys.argv[1:]))"


def accept_ctrl_c() -> None:
    """Under nohup the tests themselves ignore Ctrl-C, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_a_state(process: subprocess.Popen[Any], out: Path) -> None:
    state = out.with_name("out.partial") / "state.json"
    deadline = time.monotonic() + 60
    while not state.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


def children(process_id: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(process_id).children(recursive=True)]


@pytest.mark.parametrize("workers", [1, 2])
def test_clean_kill_in_the_middle_then_the_same_bytes(tmp_path: Path, workers: int) -> None:
    source = mixed_corpus(tmp_path / "in", lines=3000)
    expected, out = tmp_path / "expected", tmp_path / "out"
    clean(CleanConfig(inputs=(str(source),), output=str(expected), workers=1))

    process = start(source, out, workers)
    wait_for_a_state(process, out)
    workers_of_it = children(process.pid)
    assert len(workers_of_it) >= workers - 1  # the first process works, too
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    deadline = time.monotonic() + 60
    while any(is_alive(pid) for pid in workers_of_it):  # orphans must go by themselves
        assert time.monotonic() < deadline
        time.sleep(0.01)

    again = start(source, out, workers)
    _, shown = again.communicate(timeout=60)
    assert again.returncode == 0 and f"going on from {out}.partial" in shown, shown
    assert contents(out) == contents(expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expected", "in", "out"]


def is_alive(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_clean_stopped_by_a_signal_goes_on_and_meanwhile_keeps_the_previous_corpus(
    tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    source = mixed_corpus(tmp_path / "in", lines=3000)
    expected, out = tmp_path / "expected", tmp_path / "out"
    clean(CleanConfig(inputs=(str(source),), output=str(expected), workers=1))
    (tmp_path / "old.txt").write_text("旧的语料。")
    clean(CleanConfig(inputs=(str(tmp_path / "old.txt"),), output=str(out), workers=1))
    before = contents(out)

    process = start(source, out, workers)
    wait_for_a_state(process, out)
    os.kill(process.pid, number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + number, shown
    assert "Traceback" not in shown
    assert f"saved {out}.partial; the same command goes on from here" in shown
    assert contents(out) == before

    state = json.loads((tmp_path / "out.partial" / "state.json").read_text())
    assert state["input_bytes"] > 0 and state["funnel"]["documents"] > 0
    again = start(source, out, workers)
    _, shown = again.communicate(timeout=60)
    assert again.returncode == 0 and f"going on from {out}.partial" in shown, shown
    assert contents(out) == contents(expected)
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("change", ["input", "rules", "options"])
def test_clean_killed_starts_afresh_when_anything_changed(
    tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = mixed_corpus(tmp_path / "in", lines=300)
    out = tmp_path / "out"
    options: dict[str, Any] = {"inputs": (str(source),), "output": str(out), "workers": 1}
    process = start(source, out, 1)
    wait_for_a_state(process, out)
    process.kill()
    process.communicate()
    if out.exists():
        pytest.skip("it was finished before it could be killed")
    if change == "input":
        (source / "book-0.txt").write_text("另一本书。")
    elif change == "rules":
        options["rules"] = ("default", "line_length")
    else:
        options["max_documents"] = 7
    clean(CleanConfig(**options))
    assert f"the {change} changed; beginning anew" in capsys.readouterr().err
    expected = tmp_path / "expected"
    clean(CleanConfig(**{**options, "output": str(expected)}))
    assert contents(out) == contents(expected)


def test_clean_of_standard_input_says_that_it_begins_again(tmp_path: Path) -> None:
    words = [*COMMAND, "-", "--output", str(tmp_path / "out"), "--workers", "1"]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b'{"text": "a"}\n' * 200_000)
    process.stdin.flush()
    assert process.stderr.readline().startswith(b"clean:")  # at work: the handlers are there
    process.terminate()
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command begins again" in shown.decode()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_corpus_is_an_error_not_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("")
    with pytest.raises(InputError, match="empty file"):
        clean(CleanConfig(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
