"""Every named set, fetched from a look-alike of its published layout, is what training reads."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders.hub import Hub
from hanllama import cli
from hanllama.base import plugins
from hanllama.base.errors import ConfigError
from hanllama.corpus.fetch import sets
from hanllama.corpus.fetch.sets import DataSet, Text
from hanllama.reading import records
from hanllama.talks.conversations import Unusable


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def array(*rows: Any) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=2).encode()


def parquet(*rows: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def tar_gz(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return out.getvalue()


PAIR = {"human": "你会下棋吗?", "assistant": "会一点,我们来一局。"}
ALPACA = {"instruction": "把下面的话改成问句。", "input": "天黑了。", "output": "天黑了吗?"}
EXCHANGE = [("user", "把下面的话改成问句。\n天黑了。"), ("assistant", "天黑了吗?")]
QUESTIONS = "id,question,A,B,C,D,answer\n0,一加一等于几?,1,2,3,4,B\n".encode()

# A file in each set's published layout, and what must come of it: texts, exchanges, or files.
LOOKALIKES: dict[str, tuple[dict[str, bytes], list[Any]]] = {
    "webnovel-chinese": (
        {
            "data/webnovel_0.jsonl": lines(
                {"title": "山中客", "chapter": "第一章 雨夜", "text": "雨下了一整夜。"},
                {"title": "山中客", "chapter": None, "text": "天亮时客人走了。"},
            ),
            "example.jsonl": lines({"title": "不取", "chapter": "", "text": "示例"}),
        },
        ["第一章 雨夜\n雨下了一整夜。", "天亮时客人走了。"],
    ),
    "tinystories-zh": (
        {
            "TinyStories_all_data_zh.tar.gz": tar_gz(
                {
                    f"data/data0{n}.json": array(
                        {
                            "story": "A cat slept.",
                            "story_zh": f"第{n}只猫睡着了。",
                            "summary": "A cat.",
                            "source": "GPT-4",
                            "instruction": {"prompt:": "Write", "words": ["cat"], "features": []},
                        }
                    )
                    for n in (1, 2)
                }
            )
        },
        ["第1只猫睡着了。", "第2只猫睡着了。"],
    ),
    "wiki-zh": (
        {
            "wikipedia-cn-20230720-filtered.json": array(
                {"completion": "水\n水是一种液体。", "source": "wikipedia.zh2307"}
            ),
            "dataset_infos.json": b'{"default": {}}',
        },
        ["水\n水是一种液体。"],
    ),
    "zhihu-kol": (
        {
            "data/train-00000-of-00005-a1.parquet": parquet(
                {
                    "INSTRUCTION": "怎样学好下棋?",
                    "RESPONSE": "多下。",
                    "SOURCE": "Zhihu",
                    "METADATA": "{}",
                }
            )
        },
        ["怎样学好下棋?\n多下。"],
    ),
    "baike": (
        {
            "563w_baidubaike.json": lines(
                {
                    "title": "石榴",
                    "summary": "一种果树。",
                    "sections": [{"title": "形态", "content": "高三米。"}],
                    "tags": ["植物"],
                    "url": "https://example.org/1",
                },
                {"title": "芍药", "summary": None, "sections": [{"title": "", "content": "花。"}]},
            )
        },
        ["石榴\n一种果树。\n形态\n高三米。", "芍药\n花。"],
    ),
    "skypile": (
        {"data/2020-40_zh_head_0000.jsonl": lines({"text": "今天晴。"})},
        ["今天晴。"],
    ),
    "alpaca-zh": ({"alpaca_gpt4_data_zh.json": array(ALPACA)}, [EXCHANGE]),
    "belle-500k": (
        {"Belle_open_source_0.5M.json": lines({**ALPACA, "input": ""})},
        [[("user", "把下面的话改成问句。"), ("assistant", "天黑了吗?")]],
    ),
    "firefly": (
        {"firefly-train-1.1M.jsonl": lines({"kind": "NLI", "input": "问", "target": "答"})},
        [[("user", "问"), ("assistant", "答")]],
    ),
    "coig-cqia": (
        {
            "COIG-CQIA-full.jsonl": lines({**ALPACA, "task_type": {"major": ["问答"]}}),
            "zhihu/zhihu_a.jsonl": lines(ALPACA),
        },
        [EXCHANGE],
    ),
    "moss-003": (
        {
            "moss-003-sft-data.jsonl": lines(
                {"conversation_id": 1, "category": "Brainstorming", "conversation": [PAIR, PAIR]}
            )
        },
        [[("user", PAIR["human"]), ("assistant", PAIR["assistant"])] * 2],
    ),
    "sharegpt-zh": (
        {"sharegpt_jsonl/common_zh_70k.jsonl": lines({"conversation": [PAIR]})},
        [[("user", PAIR["human"]), ("assistant", PAIR["assistant"])]],
    ),
    "dpo-zh": (
        {
            "dpo_zh.json": array(
                {
                    "conversations": [{"from": "human", "value": "你好"}],
                    "chosen": {"from": "gpt", "value": "你好,请讲。"},
                    "rejected": {"from": "gpt", "value": "嗯。"},
                }
            ),
            "dpo_en.json": array({"conversations": []}),
        },
        [([("user", "你好")], [("assistant", "你好,请讲。")], [("assistant", "嗯。")])],
    ),
    "c-eval": (
        {"ceval-exam.zip": zipped({"val/art_studies_val.csv": QUESTIONS})},
        ["val/art_studies_val.csv"],
    ),
    "cmmlu": (
        {"cmmlu_v1_0_1.zip": zipped({"dev/anatomy.csv": QUESTIONS, "test/anatomy.csv": QUESTIONS})},
        ["dev/anatomy.csv", "test/anatomy.csv"],
    ),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HANLLAMA_HUB", raising=False)
        yield served


def spoken(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in messages]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a fetched folder, by the reader that every stage uses."""
    found = []
    for path in records.files([str(folder)]):
        assert path.name.endswith(".jsonl.zst"), "a later stage would read this as a corpus"
        for piece in records.pieces(path):
            assert all(isinstance(line, bytes) for line in piece.lines)
            found += [json.loads(line) for line in piece.lines if isinstance(line, bytes)]
    return found


def came_of(line: dict[str, Any]) -> Any:
    if "text" in line:
        return line["text"]
    if "messages" in line:
        return spoken(line["messages"])
    return tuple(spoken(line[part]) for part in ("prompt", "chosen", "rejected"))


def test_there_is_a_look_alike_of_every_set() -> None:
    assert sorted(LOOKALIKES) == sets.names() and len(LOOKALIKES) >= 12


@pytest.mark.parametrize("service", ["huggingface", "modelscope"])
@pytest.mark.parametrize("name", sorted(LOOKALIKES))
def test_a_set_in_its_published_layout_becomes_ours(
    hub: Hub, tmp_path: Path, name: str, service: str
) -> None:
    files, wanted = LOOKALIKES[name]
    found = sets.load(name)
    repo = found.repo if service == "huggingface" else found.modelscope
    if not repo:
        pytest.skip(f"{name} is not known on {service}")
    hub.repos[repo] = {"README.md": b"# card\n", ".gitattributes": b"", **files}
    out = tmp_path / "out"
    command = ["data", "fetch", name, "--output", str(out), "--hub", service]
    assert cli.main(command) == 0
    if found.layout is None:
        for path in wanted:
            assert (out / path).read_bytes() == QUESTIONS
        return
    held = read_lines(out)
    assert [came_of(line) for line in held] == wanted
    for line in held:
        assert line["licence"] == found.licence
        assert line["source"] == f"{service}:{repo}"
    assert len({line["id"] for line in held}) == len(held)


@pytest.mark.parametrize(
    "name", [n for n in sorted(LOOKALIKES) if sets.load(n).stage == "pretrain"]
)
def test_clean_reads_a_fetched_folder_as_it_is(hub: Hub, tmp_path: Path, name: str) -> None:
    files, wanted = LOOKALIKES[name]
    hub.repos[sets.load(name).repo] = files
    raw, corpus = tmp_path / "raw", tmp_path / "corpus"
    assert cli.main(["data", "fetch", name, "--output", str(raw)]) == 0
    assert cli.main(["clean", str(raw), "--output", str(corpus), "--rules", "none"]) == 0
    with records.Quarantine() as quarantine:
        texts = [d.text for d in records.read([str(corpus)], quarantine)]
    assert texts == wanted


@pytest.mark.parametrize("name", sets.names())
def test_every_set_says_what_a_user_must_know(name: str) -> None:
    found = sets.load(name)
    assert found.repo.count("/") == 1 and found.modelscope.count("/") in (0, 1)
    assert found.licence and found.size and found.verified and found.languages
    assert any("\u4e00" <= c <= "\u9fff" for c in found.zh) and found.en.isascii()
    assert (found.layout is None) == (found.stage == "eval")
    module = plugins.load(sets.PACKAGE, name.replace("-", "_"))
    assert module.__file__ is not None
    assert len(Path(module.__file__).read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize(
    ("layout", "record", "reason"),
    [
        (Text("text"), {}, "field 'text' is missing or empty"),
        (Text("text"), {"text": " \n"}, "empty"),
        (Text("text"), {"text": 3}, "'text' is not text"),
        (Text("text"), [], "not a JSON object"),
        ("alpaca", {"instruction": "问", "output": ""}, "an empty message of the assistant"),
        ("alpaca", {"question": "问"}, "layout alpaca does not fit the fields question"),
        ("firefly", {"conversation": "你好"}, "layout firefly does not fit"),
        ("firefly", {"conversation": []}, "no message"),
        (
            "sharegpt",
            {"conversations": [{"from": "moon", "value": "你好"}]},
            "unknown role: moon",
        ),
    ],
)
def test_a_record_of_another_form_is_refused_with_its_reason(
    layout: Any, record: Any, reason: str
) -> None:
    with pytest.raises(Unusable, match=reason):
        a_set(layout).line(record)


def a_set(layout: Any, **more: Any) -> DataSet:
    told = {"licence": "", "size": "", "zh": "", "en": "", "verified": ""}
    return DataSet("me/mine", ("*",), layout, **{"stage": "sft", **told, **more})


def test_a_set_names_a_layout_and_its_own_fields() -> None:
    fields = {"instruction": "q", "output": "a"}
    line = a_set("alpaca", fields=fields).line({"q": "问", "a": "答", "input": "不取"})
    assert spoken(line["messages"]) == [("user", "问"), ("assistant", "答")]
    sides = {"chosen": {"from": "gpt", "value": "二"}, "rejected": {"from": "gpt", "value": ""}}
    asked = {"conversations": [{"from": "human", "value": "一加一？"}]}
    with pytest.raises(Unusable, match="the rejected answer is empty"):
        a_set("sharegpt", stage="preference").line({**asked, **sides})


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'wiki-zh'"):
        sets.load("wikizh")


def test_a_set_file_of_ones_own_is_used_by_its_path(hub: Hub, tmp_path: Path) -> None:
    path = tmp_path / "my_poems.py"
    path.write_text(
        "from hanllama.corpus.fetch.sets import DataSet\n"
        "def layout(record):\n    return {'text': '\\n'.join(record['lines'])}\n"
        "SET = DataSet(repo='me/poems', files=('*.jsonl',), layout=layout, stage='pretrain',\n"
        "              licence='mine', size='small', languages=('zh',), zh='诗', en='poems',\n"
        "              verified='mine')\n",
        encoding="utf-8",
    )
    hub.repos["me/poems"] = {"a.jsonl": lines({"lines": ["春眠", "夏醒"]})}
    assert cli.main(["data", "fetch", str(path), "--output", str(tmp_path / "out")]) == 0
    assert [line["text"] for line in read_lines(tmp_path / "out")] == ["春眠\n夏醒"]


def test_a_file_that_holds_no_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no_set.py"
    path.write_text("SET = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no `SET"):
        sets.load(str(path))
