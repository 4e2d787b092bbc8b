"""`data view`: what is asked for is shown, a terminal is never acted on, keys turn the pages."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanllama import cli
from hanllama.data import view
from hanllama.data.clean import CleanConfig, clean


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    records = [
        {"text": "第一篇文章，讲的是山。", "id": "a", "category": "散文"},
        {"text": "短", "id": "b"},
        {"text": "第二篇文章，讲的是水。\x1b[31m红\u202e", "id": "c"},
        {"text": "第一篇文章，讲的是山。", "id": "d"},
        {"title": "no text"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(json.dumps(r) for r in records))
    rules = ({"min_characters": {"minimum": 5}},)
    clean(
        CleanConfig(
            inputs=(str(source),),
            output=str(tmp_path / "corpus"),
            rules=rules,
            max_quarantine_share=0.5,
        )
    )
    return tmp_path / "corpus"


def shown(corpus: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert cli.main(["data", "view", str(corpus), *words]) == 0
    return capsys.readouterr().out


def test_every_kind_is_shown_with_its_facts(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = shown(corpus, capsys)
    assert "id a" in kept and "category 散文" in kept and "讲的是水" in kept and "id d" not in kept
    dropped = shown(corpus, capsys, "--show", "dropped")
    assert "rule min_characters" in dropped and dropped.count("===") == 1 and "短" in dropped
    duplicates = shown(corpus, capsys, "--show", "duplicates")
    assert "id d" in duplicates and duplicates.count("===") == 1
    quarantined = shown(corpus, capsys, "--show", "quarantined")
    assert "line 5" in quarantined and "no field 'text'" in quarantined and "title" in quarantined


def test_search_id_rule_and_reason_choose(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "id a" not in shown(corpus, capsys, "--search", "水")
    assert "id c" not in shown(corpus, capsys, "--id", "a")
    assert "id a" in shown(corpus, capsys, "--limit", "1")
    assert "id c" not in shown(corpus, capsys, "--limit", "1")
    assert "短" in shown(corpus, capsys, "--show", "dropped", "--rule", "min_characters")
    assert cli.main(["data", "view", str(corpus), "--show", "dropped", "--rule", "urls"]) == 2
    assert "nothing dropped is as asked for" in capsys.readouterr().err
    assert cli.main(["data", "view", str(corpus.parent / "in.jsonl"), "--show", "dropped"]) == 2
    assert "clean writes it" in capsys.readouterr().err


def test_text_cannot_act_on_the_terminal(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(corpus, capsys, "--id", "c")
    assert "\x1b" not in out and "\u202e" not in out
    assert r"\u{1b}[31m红\u{202e}" in out
    assert view.visible("a\tb\n汉字𠮷 🙂") == "a\tb\n汉字𠮷 🙂"


def test_clusters_of_deduplication_are_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = {"kept": {"id": "a"}, "members": 2, "removed": [{"id": "b", "similarity": 0.9}]}
    (tmp_path / "clusters.jsonl").write_text(json.dumps(cluster) + "\n")
    out = shown(tmp_path, capsys, "--show", "duplicates")
    assert "members 2" in out and '"similarity": 0.9' in out


def test_keys_turn_the_pages_of_a_terminal(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"第{n}篇。\n" * 40, "id": f"doc{n}"}) for n in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hanllama", "data", "view", str(tmp_path / "a.jsonl")],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(its_end)

    def screen_with(wanted: str) -> str:
        text = ""
        deadline = time.monotonic() + 30
        while wanted not in text:
            assert time.monotonic() < deadline, text
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            text += os.read(terminal, 65536).decode("utf-8", "replace")
        return text

    def press(key: str) -> None:
        os.write(terminal, key.encode())

    assert "doc0" in screen_with("lines 1–20 of 41")
    press(" ")
    screen_with("lines 21–40 of 41")
    press("n")
    assert "doc1" in screen_with("2 · lines 1–20")
    press("p")
    assert "doc0" in screen_with("1 · lines 1–20")
    press("n")
    screen_with("2 · lines 1–20")
    press("n")
    screen_with("3 · lines 1–20")
    press("n")  # there is no fourth
    assert "doc2" in screen_with("3 · lines 1–20")
    press("q")
    assert process.wait(timeout=30) == 0
    os.close(terminal)
