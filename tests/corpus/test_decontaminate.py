"""Planted questions are found, whatever was done to them; phrases of the trade are not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hanllama import cli
from hanllama.base import fs
from hanllama.corpus.decontaminate import questions

STEM = "小明家门前的那条河从哪一座山流下来，经过几个村子以后才到镇上？"
OPTIONS = ["北边的青石山，经过三个村子", "西边的白云岭，经过五个村子"]
ENGLISH = (
    "Which of the painted wooden boats on the far side of the quiet lake belongs to the old"
    " ferryman who never learned to swim?"
)
STORY = "早上起来，院子里落了一层雪。孩子们高兴极了，拿着扫帚跑出门去，一直玩到天黑才回家。"


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    """Each published layout, one invented question each."""
    folder = tmp_path / "exam"
    for name in ("header/dev", "bare/test", "lines", "nested", "shots"):
        (folder / name).mkdir(parents=True)
    with open(folder / "header/dev/a.csv", "w", newline="") as out:
        csv.writer(out).writerows(
            [["id", "question", "A", "B", "answer", "explanation"], [0, STEM, *OPTIONS, "A", STORY]]
        )
    with open(folder / "bare/test/b.csv", "w", newline="") as out:
        csv.writer(out).writerow([ENGLISH, "the red one, by the reeds", "the blue one", "B"])
    line = {"passage": None, "question": "谁把灯笼挂在了桥头？", "options": ["(A)老张", "(B)老李"]}
    (folder / "lines/c.json").write_text(
        "\n".join(json.dumps(x) for x in (line, {**line, "question": "桥头下面住着谁？"}))
    )
    (folder / "nested/d.json").write_text(
        json.dumps({"keywords": "x", "example": [{"question": "1. 月亮为什么跟着孩子走？"}]})
    )
    with open(folder / "shots/e.csv", "w", newline="") as out:
        csv.writer(out).writerows([["", "x"], ["sample 1", str({**line, "answer": None})]])
    return folder


def decontaminate(corpus: Path, exam: Path, output: Path, *words: str) -> list[dict[str, Any]]:
    command = ["decontaminate", str(corpus), "--eval", str(exam), "--output", str(output)]
    assert cli.main([*command, *words]) == 0
    fs.verify_sums(output)
    return [json.loads(x) for x in (output / "leaks.jsonl").read_text().split("\n") if x]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join(json.dumps({"text": t}) for t in texts))
    return path


def kept(folder: Path) -> list[str]:
    lines = [x for p in sorted(folder.glob("part-*")) for x in p.read_text().split("\n") if x]
    return [json.loads(line)["text"] for line in lines]


def test_every_layout_is_read_and_explanations_are_not(exam: Path) -> None:
    found = questions.read((str(exam),)).found
    assert {q.benchmark: q.text for q in found if q.benchmark in ("header", "nested")} == {
        "header": "\n".join([STEM, *OPTIONS]),
        "nested": "1. 月亮为什么跟着孩子走？",
    }
    assert [q.benchmark for q in found] == ["bare", "header", "lines", "lines", "nested", "shots"]
    assert next(q.text for q in found if q.benchmark == "shots").startswith("谁把灯笼")


@pytest.mark.parametrize(
    ("planted", "least"),
    [
        ("\n".join([STEM, *OPTIONS]), 0.99),
        (STEM, 0.3),
        ("\n".join([STEM, *OPTIONS]).replace("，", ", ").replace("的", " 的\u3000"), 0.99),
        (f"{STEM}{OPTIONS[0]}"[: len(STEM + "".join(OPTIONS)) * 2 // 3], 0.4),
    ],
    ids=["verbatim", "stem", "punctuation", "two thirds"],
)
def test_a_planted_question_is_found_where_it_is(
    tmp_path: Path, exam: Path, planted: str, least: float
) -> None:
    corpus = write(tmp_path / "corpus.jsonl", [STORY, STORY * 20 + planted + STORY, "别的文章。"])
    (leak,) = decontaminate(corpus, exam, tmp_path / "out")
    assert leak["benchmark"] == "header" and leak["number"] == 1
    assert leak["share"] >= least
    assert leak["document"].endswith(":2")
    assert leak["position"] == len(STORY) * 20
    assert kept(tmp_path / "out") == [STORY, "别的文章。"]


def test_english_is_compared_by_words(tmp_path: Path, exam: Path) -> None:
    shared = "on the far side of the quiet lake"  # 35 letters, 8 words: no overlap
    texts = [f"We rested {shared}, and then walked on.", f"Q: {ENGLISH.upper()}"]
    (leak,) = decontaminate(write(tmp_path / "c.jsonl", texts), exam, tmp_path / "out")
    assert leak["benchmark"] == "bare" and leak["document"].endswith(":2")


def test_passages_alone_can_go_and_a_second_run_finds_nothing(tmp_path: Path, exam: Path) -> None:
    text = "\n".join([STORY, STEM + OPTIONS[0], OPTIONS[1], STORY])
    corpus = write(tmp_path / "c.jsonl", [text])
    decontaminate(corpus, exam, tmp_path / "out", "--remove", "passages")
    assert kept(tmp_path / "out") == [f"{STORY}\n{STORY}"]
    assert decontaminate(tmp_path / "out", exam, tmp_path / "again") == []


def test_phrases_of_many_questions_or_documents_do_not_count(tmp_path: Path) -> None:
    exam, phrase = tmp_path / "exam", "根据上面这一段文字判断下面的说法哪一个正确"
    exam.mkdir()
    asked = [
        {"question": f"{phrase}，第{a}种和第{b}种石头"} for a in "甲乙丙丁戊" for b in "子丑寅卯辰"
    ]
    (exam / "many.json").write_text(json.dumps(asked))
    corpus = write(tmp_path / "c.jsonl", [f"{phrase}{n}" for n in range(3)])
    assert decontaminate(corpus, exam, tmp_path / "one") == []
    loose = ("--common-questions", "1000")
    assert decontaminate(corpus, exam, tmp_path / "two", *loose) != []
    assert decontaminate(corpus, exam, tmp_path / "x", *loose, "--common-documents", "2") == []


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, exam: Path) -> None:
    for number in range(4):
        texts = [f"{STORY}{n}" for n in range(20)] + [STEM + OPTIONS[number % 2]]
        write(tmp_path / f"c{number}.jsonl", texts)
    corpus = tmp_path / "*.jsonl"
    for workers in ("1", "2"):
        decontaminate(corpus, exam, tmp_path / f"out{workers}", "--workers", workers)
    sums = [(tmp_path / f"out{w}" / fs.SUMS).read_bytes() for w in "12"]
    assert sums[0] == sums[1]


def test_errors_say_what_to_do(
    tmp_path: Path, exam: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = str(write(tmp_path / "c.jsonl", [STORY]))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "mapping.json").write_text('{"law": {"name": "法律"}}')
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.json").write_text('{"question": "一\n')

    def fails(*words: str) -> str:
        assert cli.main(["decontaminate", *words]) == 2
        return capsys.readouterr().err

    assert "does not exist" in fails(corpus, "--eval", str(tmp_path / "absent"))
    assert "no question found" in fails(corpus, "--eval", str(tmp_path / "none"))
    assert "a.json, line 1: invalid JSON" in fails(corpus, "--eval", str(tmp_path / "bad"))
    assert "cannot be read twice" in fails("-", "--eval", str(exam))
    assert "minimum_share" in fails(corpus, "--eval", str(exam), "--minimum-share", "0")


def test_the_real_folders_are_all_understood(shared_data: Path) -> None:
    read = questions.read((str(shared_data / "eval"),))
    assert all(name.endswith("_mapping.json") for name in read.empty)
    assert len(read.found) > 50_000


def test_a_row_that_spills_over_its_header_is_named_not_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exam"
    folder.mkdir()
    rows = "question,A\n下面哪一座山最高,泰山\n下面哪一条河最长,长江,也叫扬子江\n"
    (folder / "a.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "corpus.txt").write_text("从前有一座山。", encoding="utf-8")
    words = ["decontaminate", str(tmp_path / "corpus.txt"), "--eval", str(folder)]
    assert cli.main(words) == 2
    assert "row 3: 3 fields under a header of 2" in capsys.readouterr().err
