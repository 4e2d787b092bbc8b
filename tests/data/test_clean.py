"""From a folder of text files to a corpus folder: what is in it, and what a user is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hanllama import cli, config, fs
from hanllama.data import ruleset
from hanllama.data.clean import CleanConfig, clean
from hanllama.errors import ConfigError, HanllamaError, InputError

BOOK = "第一章\r\n\r\n\r\n　　我们所要介绍的是祥\u200b子，不是骆驼。  \r\n“好。”\r\n"


def run(*inputs: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    """Clean, check the folder's checksums, return its documents."""
    values = {"inputs": [str(i) for i in inputs], "output": str(output), **options}
    clean(config.load(CleanConfig, values, "test"))
    fs.verify_sums(output)
    return corpus(output)


def corpus(folder: Path) -> list[dict[str, Any]]:
    lines = [x for p in sorted(folder.glob("part-*.jsonl")) for x in p.read_bytes().split(b"\n")]
    return [json.loads(line) for line in lines if line]


def test_books_of_any_encoding_become_one_document_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = tmp_path / "books"
    books.mkdir()
    (books / "a.txt").write_bytes(BOOK.replace("\u200b", "").encode("gbk"))
    (books / "b.txt").write_bytes(("别的书。" + BOOK).encode("utf-16"))
    (books / "cover.jpg").write_bytes(b"\xff\xd8")
    documents = run(books, output=tmp_path / "corpus")
    assert documents == [
        {
            "text": "第一章\n\n　　我们所要介绍的是祥子，不是骆驼。\n“好。”",
            "id": "books/a.txt",
            "source": "books/a.txt",
        },
        {
            "text": "别的书。第一章\n\n　　我们所要介绍的是祥子，不是骆驼。\n“好。”",
            "id": "books/b.txt",
            "source": "books/b.txt",
        },
    ]
    report = json.loads((tmp_path / "corpus" / "report.json").read_text())
    assert report["encodings"] == {"gbk": 1, "utf-16-le": 1}
    assert report["read"]["documents"] == report["kept"]["documents"] == 2
    assert report["kept"]["characters"] == sum(len(d["text"]) for d in documents)
    assert report["ignored_files"] == [str(books / "cover.jpg")]
    shown = capsys.readouterr().out
    assert "control_characters" in shown and "gbk 1" in shown and ".jpg" in shown
    page = (tmp_path / "corpus" / "report.html").read_text()
    assert "blank_lines" in page and "books/a.txt" in page


def test_the_first_of_equal_documents_stays_and_the_report_names_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.txt").write_text("同一本书。")
    (source / "b.txt").write_text("同一本书。\n\n")  # equal once cleaned
    records = [{"text": t, "id": "7"} for t in ("另一本。", "同一本书。", "另一本。")]
    (source / "c.jsonl").write_text("\n".join(json.dumps(r) for r in records))
    documents = run(source, output=tmp_path / "out")
    assert [d["id"] for d in documents] == ["in/a.txt", "7"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["duplicates"]["documents"] == 3
    assert report["duplicates"]["characters"] == 5 + 5 + 4
    assert report["duplicates"]["first"] == [
        {"id": "in/b.txt", "copy_of": "in/a.txt"},
        {"id": "7", "copy_of": "in/a.txt"},
        {"id": "7", "copy_of": "7"},
    ]
    kept = run(source, output=tmp_path / "all", exact_duplicates=False)
    assert len(kept) == 5


def test_the_funnel_counts_every_document_and_character(tmp_path: Path) -> None:
    texts = ["长" * 20 + "\n短", "短短\n短", "  \n", "长" * 30]
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join(json.dumps({"text": t}) for t in texts))
    run(source, output=tmp_path / "out", rules=["baby-llama2"])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rules = {r["rule"]: r for r in report["rules"]}
    assert report["read"]["characters"] == sum(map(len, texts))
    assert rules["line_length"]["documents_in"] == 4
    assert rules["line_length"]["documents_out"] == 2
    assert rules["line_length"]["characters_out"] == 50
    assert rules["line_length"]["changed"] == 1
    assert rules["line_length"]["dropped"] == {"no line of the right length": 2}
    examples = rules["line_length"]["examples"]["no line of the right length"]
    assert [e["beginning"] for e in examples] == ["短短\n短", "  \n"]
    for before, after in zip(report["rules"], report["rules"][1:], strict=False):
        assert after["documents_in"] == before["documents_out"]
        assert after["characters_in"] == before["characters_out"]


def test_a_large_corpus_is_cut_into_parts_between_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanllama.data.parts.PART_BYTES", 1000)
    texts = [f"{i:03d}" * 50 for i in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    documents = run(tmp_path / "a.jsonl", output=tmp_path / "out")
    assert [d["text"] for d in documents] == texts
    sizes = [p.stat().st_size for p in (tmp_path / "out").glob("part-*")]
    assert len(sizes) > 5 and max(sizes) <= 1000


# --- rules from presets, YAML and the user's own files -----------------------------------------


def test_rules_come_from_presets_yaml_names_and_files_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "shout.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "from hanllama.data.rules import Drop\n"
        "@dataclass(frozen=True)\n"
        "class Rule:\n"
        "    end: str = '！'\n"
        "    def __call__(self, text):\n"
        "        return Drop('quiet') if '静' in text else text.rstrip('！。') + self.end\n"
    )
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(f"rules:\n  - default\n  - min_characters: {{minimum: 3}}\n  - {own}\n")
    source = tmp_path / "a.jsonl"
    source.write_text(
        "\n".join(json.dumps({"text": t}) for t in ("走开。", "安静。", "好", "来吧"))
    )
    documents = run(source, output=tmp_path / "out", rules=[str(yaml)], workers=2)
    assert [d["text"] for d in documents] == ["走开！"]
    steps = ruleset.expand([str(yaml), {"line_length": {"maximum": 99}}, "blank_lines"])
    assert [(s.title, s.parameters) for s in steps] == [
        ("control_characters", {}),
        ("blank_lines", {}),
        ("min_characters", {}),
        ("min_characters", {"minimum": 3}),
        ("shout", {}),
        ("line_length", {"maximum": 99}),
        ("blank_lines", {}),
    ]


@pytest.mark.parametrize("name", ruleset.presets())
def test_every_preset_can_be_built(name: str) -> None:
    assert [step.build() for step in ruleset.expand([name])] or name == "none"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["line_lenght"], "did you mean 'line_length'"),
        (["defualt"], "did you mean 'default'"),
        ([{"line_length": {"maximun": 5}}], "did you mean 'maximum'"),
        ([{"line_length": {"maximum": 5}}], "minimum 10 and maximum 5 leave no line"),
        ([{"a": {}, "b": {}}], "neither a name nor"),
        (["absent.yaml"], "absent.yaml cannot be read"),
        (["absent.py"], "absent.py does not exist"),
    ],
)
def test_rules_that_do_not_exist_are_named(tmp_path: Path, rules: list[Any], message: str) -> None:
    (tmp_path / "a.txt").write_text("文")
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "a.txt", output=tmp_path / "out", rules=rules)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "rule bad failed on document .*/a.txt: ZeroDivisionError"),
        ("return None", "rule bad returned NoneType"),
    ],
)
def test_a_rule_of_ones_own_that_fails_is_named_with_its_document(
    tmp_path: Path, body: str, message: str, workers: int
) -> None:
    (tmp_path / "bad.py").write_text(
        f"class Rule:\n    def __call__(self, text):\n        {body}\n"
    )
    own = tmp_path / "bad.py"
    own.write_text("from dataclasses import dataclass\n@dataclass(frozen=True)\n" + own.read_text())
    (tmp_path / "a.txt").write_text("文")
    with pytest.raises(HanllamaError, match=message):
        run(tmp_path / "a.txt", output=tmp_path / "out", rules=[str(own)], workers=workers)
    assert not (tmp_path / "out").exists()


# --- what a user can get wrong -----------------------------------------------------------------


def test_errors_say_what_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("一篇文章。")
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text(" \n ")
    (tmp_path / "empty.jsonl").write_text("")
    out = str(tmp_path / "out")

    def fails(*words: str) -> str:
        assert cli.main(["clean", *words]) == 2
        return capsys.readouterr().err

    assert "does not exist" in fails(str(tmp_path / "absent"), "--output", out)
    assert "no file to read" in fails(str(tmp_path / "empty"), "--output", out)
    assert "there is no document" in fails(str(tmp_path / "empty.jsonl"), "--output", out)
    assert "no document is left of 1" in fails(str(tmp_path / "blank.txt"), "--output", out)
    assert "--output is required" in fails(str(tmp_path / "in"))
    assert "lies inside the input" in fails(
        str(tmp_path / "in"), "--output", str(tmp_path / "in" / "out")
    )
    assert "max_quarantine_share must be" in fails(
        str(tmp_path / "in"), "--output", out, "--max-quarantine-share", "5"
    )
    assert "was not written by hanllama" in fails(
        str(tmp_path / "in"), "--output", str(tmp_path / "empty"), "--force"
    )
    assert not Path(out).exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []

    assert cli.main(["clean", str(tmp_path / "in"), "--output", out]) == 0
    assert "--force replaces it" in fails(str(tmp_path / "in"), "--output", out)
    (tmp_path / "in" / "a.txt").write_text("改过的文章。")
    assert cli.main(["clean", str(tmp_path / "in"), "--output", out, "--force"]) == 0
    assert [d["text"] for d in corpus(Path(out))] == ["改过的文章。"]


def test_a_wrong_text_field_names_the_option(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"story_zh": "从前有一只小猫。"}\n')
    with pytest.raises(InputError, match=r"1 of 1 records .*no field 'text'.*--text-field"):
        run(source, output=tmp_path / "out")
    assert len(run(source, output=tmp_path / "out", text_field="story_zh")) == 1
    assert not (tmp_path / "out.quarantine.jsonl").exists()


def test_standard_input_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO('{"text": "一"}\n'.encode())))
    clean(CleanConfig(inputs=("-",), output=str(tmp_path / "out"), workers=1))
    assert corpus(tmp_path / "out") == [{"text": "一", "id": "stdin:1", "source": "stdin"}]


def test_the_real_novels_keep_every_line(shared_data: Path, tmp_path: Path) -> None:
    book = shared_data / "pretrain" / "novels" / "laoshe_luotuoxiangzi.txt"
    (document,) = run(book, output=tmp_path / "out")
    before = [line.strip() for line in book.read_text(encoding="utf-8").split("\n")]
    after = [line.strip() for line in document["text"].split("\n")]
    assert [line for line in after if line] == [line for line in before if line]
