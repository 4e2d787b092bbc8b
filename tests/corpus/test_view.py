"""`data view`: what is asked for is shown, a terminal is never acted on, keys turn the pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import folders
from builders.terminal import Typed
from hanllama import cli
from hanllama.base import pager
from hanllama.corpus.clean import CleanConfig, clean

SCREEN = {"COLUMNS": "80", "LINES": "24"}


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
    assert "no dropped document" in capsys.readouterr().err
    assert cli.main(["data", "view", str(corpus.parent / "in.jsonl"), "--show", "dropped"]) == 2
    assert "clean writes it" in capsys.readouterr().err


def test_text_cannot_act_on_the_terminal(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(corpus, capsys, "--id", "c")
    assert "\x1b" not in out and "\u202e" not in out
    assert r"\u{1b}[31m红\u{202e}" in out
    assert pager.visible("a\tb\n汉字𠮷 🙂") == "a\tb\n汉字𠮷 🙂"


def test_clusters_of_deduplication_are_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = {"kept": {"id": "a"}, "members": 2, "removed": [{"id": "b", "similarity": 0.9}]}
    (tmp_path / "clusters.jsonl").write_text(json.dumps(cluster) + "\n")
    out = shown(tmp_path, capsys, "--show", "duplicates")
    assert "members 2" in out and '"similarity": 0.9' in out


@pytest.fixture
def chats(tmp_path: Path) -> tuple[str, str]:
    """(a file of two conversations and a bad record, a tokenizer folder)."""
    lines = [
        {"instruction": "谁？", "output": "小\x1b[31m明"},
        {"messages": [{"role": "user", "content": "三加四"}, {"role": "tool", "content": "7"}]},
        {"conversations": [{"from": "human", "value": "几？"}, {"from": "gpt", "value": "七。"}]},
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return str(path), str(folders.tokenizer(tmp_path / "tok"))


def test_the_mask_is_in_brackets_where_there_is_no_terminal(
    chats: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, tok = chats
    chatml = ["--mask", "--tokenizer", tok, "--template", "chatml"]
    out = shown(Path(path), capsys, *chatml)
    assert r"⟦小\u{1b}[31m明<|im_end|>⟧" in out and "⟦七。<|im_end|>⟧" in out
    assert "谁？<|im_end|>" in out and out.count("⟦") == 2 and "\x1b" not in out
    assert "quarantined 1" in out and "1 x no answer of the assistant" in out
    vicuna = shown(Path(path), capsys, "--mask", "--tokenizer", tok, "--template", "vicuna")
    assert "⟦ 七。</s>⟧" in vicuna
    for wrong in (
        ["--mask"],
        ["--tokenizer", tok],
        ["--mask", "--tokenizer", tok],  # of a base model: no template
        [*chatml, "--show", "dropped"],
    ):
        assert cli.main(["data", "view", path, *wrong]) == 2


@pytest.mark.parametrize("colour", [True, False])
def test_the_mask_is_underlined_on_a_terminal(chats: tuple[str, str], colour: bool) -> None:
    path, tok = chats
    options = ["--mask", "--tokenizer", tok, "--template", "chatml"]
    options += [] if colour else ["--no-colour"]
    with Typed("data", "view", path, *options, **SCREEN) as typed:
        text = typed.until(pager.KEYS)
        typed.type("q")
        assert typed.process.wait(timeout=30) == 0
    # 4 underlines, 32 is green; a reader who sees no colour sees the line.
    assert ("\x1b[4;32m小" in text) == colour
    assert ("⟦小" in text) == (not colour)


def test_keys_turn_the_pages_of_a_terminal(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"第{n}篇。\n" * 40, "id": f"doc{n}"}) for n in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with Typed("data", "view", str(tmp_path / "a.jsonl"), **SCREEN) as typed:
        assert "doc0" in typed.until("lines 1–20 of 41")
        typed.type(" ")
        typed.until("lines 21–40 of 41")
        typed.type("n")
        assert "doc1" in typed.until("2 · lines 1–20")
        typed.type("p")
        assert "doc0" in typed.until("1 · lines 1–20")
        typed.type("n")
        typed.until("2 · lines 1–20")
        typed.type("n")
        typed.until("3 · lines 1–20")
        typed.type("n")  # there is no fourth
        assert "doc2" in typed.until("3 · lines 1–20")
        typed.type("q")
        assert typed.process.wait(timeout=30) == 0


def test_a_book_is_shown_to_its_end_and_wrapped_only_as_far_as_it_is_read() -> None:
    from rich.console import Console

    paragraphs = [f"第{n}段，" + "雪停了，院子里没有人。" * 40 for n in range(600)]
    book = pager.Item({}, "\n".join([*paragraphs, "长" * (pager.PIECE + 9), "完"]))
    assert len(book.text) > 250_000
    console = Console(width=80, height=24)
    lines = pager._Lines(pager._wrapped(console, book))
    assert lines.page(0, 1)[0].plain.startswith("第0段")
    assert lines.total == f"{1 + pager.AHEAD + 1:,} or more"
    everything = lines.page(0, 10**6)
    assert "".join(line.plain for line in everything) == book.text.replace("\n", "")
    assert lines.total == f"{len(everything):,}" and everything[-1].plain == "完"
