"""From a folder of text files to a corpus folder: what is in it, and what a user is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hanllama import cli
from hanllama.base import config, fs
from hanllama.base.errors import ConfigError, HanllamaError, InputError
from hanllama.corpus import ruleset
from hanllama.corpus.clean import CleanConfig, clean

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
    assert "control_characters" in shown and "1 x gbk" in shown and ".jpg" in shown
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
    monkeypatch.setattr("hanllama.corpus.parts.PART_BYTES", 1000)
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
        "from hanllama.corpus.rules import Drop\n"
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
    assert "holds no document" in fails(str(tmp_path / "empty.jsonl"), "--output", out)
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


# --- fields, samples, the report card ------------------------------------------------------------


def test_fields_are_mapped_and_licences_shared_out(tmp_path: Path) -> None:
    lines = [
        {"story_zh": f"从前有{n}只猫。", "nr": n, "from": "http://a.example/x", "rights": "CC0"}
        for n in range(3)
    ] + [{"story_zh": "从前有一只狗。", "nr": 9, "from": "b/c.txt", "kind": "童话"}]
    source = tmp_path / "a.jsonl"
    source.write_text("\n".join(json.dumps(line) for line in lines))
    documents = run(
        source,
        output=tmp_path / "out",
        text_field="story_zh",
        id_field="nr",
        source_field="from",
        category_field="kind",
        licence_field="rights",
    )
    assert documents[0] == {
        "text": "从前有0只猫。",
        "id": "0",
        "source": "http://a.example/x",
        "licence": "CC0",
    }
    groups = json.loads((tmp_path / "out" / "report.json").read_text())["kept"]["groups"]
    assert groups == {
        "source": {"a.example": [3, 21], "b": [1, 7]},
        "category": {"": [3, 21], "童话": [1, 7]},
        "licence": {"CC0": [3, 21], "": [1, 7]},
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sample_is_the_first_documents_that_fit(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        lines = [json.dumps({"text": f"{number}{n:03d}" + "文" * 96}) for n in range(100)]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"

    def sample(**limits: int) -> list[str]:
        return [
            d["text"][:4] for d in run(folder, output=out, workers=workers, force=True, **limits)
        ]

    assert sample(max_documents=130) == [f"0{n:03d}" for n in range(100)] + [
        f"1{n:03d}" for n in range(30)
    ]
    report = json.loads((out / "report.json").read_text())
    assert report["read"] == report["read"] | {"documents": 130, "characters": 13_000, "files": 2}
    assert sample(max_characters=1099) == [f"0{n:03d}" for n in range(10)]
    assert sample(max_characters=1100)[-1] == "0010"
    assert sample(max_characters=1) == ["0000"]
    assert len(sample(max_documents=5, max_characters=10_000)) == 5


def test_what_rules_drop_is_kept_to_look_at(tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.jsonl"
    source.parent.mkdir()
    texts = ["好文章" * 10, "bad words only " * 10, "好文章" * 10]
    source.write_text("\n".join(json.dumps({"text": t}) for t in texts))
    rules = ["default", {"han_ratio": {"minimum": 0.5}}]
    run(source, output=tmp_path / "out", rules=rules, dropped_characters=20)
    lines = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "id": "in/a.jsonl:2",
            "source": "in/a.jsonl",
            "rule": "han_ratio",
            "reason": "too few Han characters",
            "text": texts[1][:20],
        },
        {
            "id": "in/a.jsonl:3",
            "source": "in/a.jsonl",
            "rule": "exact duplicates",
            "reason": "equal to an earlier document",
            "text": "",
        },
    ]
    # And it is no corpus: what reads the folder reads its documents.
    assert len(run(tmp_path / "out", output=tmp_path / "again")) == 1


def test_the_report_card_shows_changes_lengths_scripts_and_escapes_them(tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.jsonl"
    source.parent.mkdir()
    texts = ["<b>標題</b>與正文都\u200b是繁體。", "简体的正文，有English。", "x" * 30]
    source.write_text("\n".join(json.dumps({"text": t}) for t in texts))
    rules = ["default", {"han_ratio": {"minimum": 0.3}}]
    run(source, output=tmp_path / "out", rules=rules)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["kept"]["scripts"]["documents"] == {
        "Chinese, simplified (简体)": 1,
        "Chinese, traditional (繁体)": 1,
    }
    characters = report["kept"]["scripts"]["characters"]
    assert sum(characters.values()) == report["kept"]["characters"]
    assert characters["Latin"] == 2 + 7
    (change,) = report["rules"][0]["changes"]
    assert change == {
        "id": "in/a.jsonl:1",
        "before": texts[0],
        "after": texts[0].replace("\u200b", ""),
    }
    assert sum(n for _, n in report["read"]["lengths"]) == 3
    assert sum(n for _, n in report["kept"]["lengths"]) == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;標題" in page and "<b>標題" not in page
    for heading in ("Lengths", "Scripts and languages", "Shares", "Changes, examples"):
        assert heading in page
