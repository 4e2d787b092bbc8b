"""Conversations: every published layout gives the same messages, and nothing is lost in silence."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from builders import folders
from hanllama.base import plugins
from hanllama.base.errors import ConfigError, InputError
from hanllama.talks.conversations import Conversation, ConversationReader, masks, parse_fill
from hanllama.talks.conversations.form import assistant, user
from hanllama.talks.preferences import PreferenceReader
from hanllama.tokenizer.chat import ChatTemplate, problem
from hanllama.tokenizer.load import load_tokenizer

LAYOUTS = plugins.names(ConversationReader.PACKAGE)
ASKED, SAID = "水在几度结冰？", "零度。"
RECORDS: dict[str, dict[str, Any]] = {
    "openai": {"messages": [user(ASKED), assistant(SAID)]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}]
    },
    "alpaca": {"instruction": ASKED, "input": "", "output": SAID},
    "colossal": {"source": ASKED, "target": SAID, "category": "物理"},
    "firefly": {"conversation": [{"human": ASKED, "assistant": SAID}]},
    "tinystories": {"instruction": {"prompt:": ASKED}, "story": "zero", "story_zh": SAID},
}  # fmt: skip


def jsonl(path: Path, *records: Any) -> Path:
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(*paths: Path, **options: Any) -> tuple[list[Conversation], ConversationReader]:
    reader = ConversationReader([str(path) for path in paths], **options)
    return list(reader), reader


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_does_what_its_examples_say_and_no_other_fits(name: str) -> None:
    layouts = {n: plugins.load(ConversationReader.PACKAGE, n) for n in LAYOUTS}
    for record, messages in layouts[name].EXAMPLES:
        assert [n for n in LAYOUTS if layouts[n].fits(record)] == [name]
        assert layouts[name].messages(record) == messages
        assert problem(messages) is None


def test_every_layout_gives_the_same_messages_and_is_named(tmp_path: Path) -> None:
    assert set(RECORDS) == set(LAYOUTS)
    paths = [jsonl(tmp_path / f"{name}.jsonl", record) for name, record in RECORDS.items()]
    found, reader = read(*paths)
    assert [c.messages for c in found] == [[user(ASKED), assistant(SAID)]] * len(RECORDS)
    assert {Path(f).stem: dict(n) for f, n in reader.layouts.items()} == {
        n: {n: 1} for n in RECORDS
    }


def test_a_file_of_mixed_layouts_is_read_record_by_record(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "mixed.jsonl", *RECORDS.values(), *RECORDS.values(), {"text": "无"})
    found, reader = read(path)
    assert len(found) == 2 * len(RECORDS)
    assert reader.layouts[str(path)] == Counter(dict.fromkeys(RECORDS, 2))
    assert reader.quarantine.reasons == {"no layout of conversations fits the fields text": 1}


def test_the_source_of_colossal_is_its_prompt_and_of_the_others_a_label(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        RECORDS["colossal"] | {"id": 7},
        RECORDS["alpaca"] | {"source": "书", "category": "问答"},
        RECORDS["sharegpt"],
    )
    found, _ = read(path)
    place = f"{tmp_path.name}/a.jsonl"
    assert [(c.id, c.source, c.category) for c in found] == [
        ("7", place, "物理"),
        (f"{place}:2", "书", "问答"),
        (f"{place}:3", place, ""),
    ]


def test_the_house_form_is_read_back_as_it_was(tmp_path: Path) -> None:
    written = Conversation([user(ASKED), assistant(SAID)], "a-1", "书", "问答")
    assert read(jsonl(tmp_path / "a.jsonl", written.record()))[0] == [written]


def test_what_a_layout_may_carry_beside_its_turns(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "水在"}, {"type": "text", "text": "几度结冰？"}]
    called = [{"function": {"name": "look", "arguments": "{}"}}]
    path = jsonl(
        tmp_path / "a.jsonl",
        {"messages": [{"role": "user", "content": parts}, assistant(SAID)]},
        {"messages": [{"role": "developer", "content": "简短。"}, user("问"), assistant("答")]},
        {"messages": [user("查"), {"role": "assistant", "content": None, "tool_calls": called},
                      {"role": "tool", "content": "有"}, assistant("有。")]},
        {"instruction": "问", "output": "答", "system": "简短。", "history": [["早", "早！"]]},
        {"conversations": [{"from": "system", "value": ""}, {"from": "human", "value": "问"},
                           {"from": "gpt", "value": "答"}], "tools": "[]"},
    )  # fmt: skip
    found, reader = read(path)
    assert reader.quarantine.count == 0
    system = {"role": "system", "content": "简短。"}
    call = json.dumps(called, ensure_ascii=False)
    assert [c.messages for c in found] == [
        [user(ASKED), assistant(SAID)],
        [system, user("问"), assistant("答")],
        [user("查"), assistant(call), {"role": "tool", "content": "有"}, assistant("有。")],
        [system, user("早"), assistant("早！"), user("问"), assistant("答")],
        [user("问"), assistant("答")],
    ]


def test_a_layout_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "quiz.py"
    own.write_text(
        "def fits(record): return 'q' in record\n"
        "def messages(record):\n"
        "    return [{'role': 'user', 'content': record['q']},"
        " {'role': 'assistant', 'content': record['a']}]\n"
    )
    path = jsonl(tmp_path / "a.jsonl", {"q": "问", "a": "答"}, RECORDS["alpaca"])
    found, reader = read(path, layout=str(own))
    assert [c.messages for c in found] == [[user("问"), assistant("答")]]
    assert reader.quarantine.count == 1
    with pytest.raises(ConfigError, match="did you mean 'alpaca'"):
        ConversationReader([str(path)], layout="alpacca")


# --- files ---------------------------------------------------------------------------------------


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def test_every_kind_of_file_gives_the_same_conversations(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"第{n}问"), assistant(f"第{n}答")]} for n in range(5)]
    lines = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    table = "messages\n" + "\n".join(
        '"' + json.dumps(r["messages"], ensure_ascii=False).replace('"', '""') + '"' for r in rows
    )
    (tmp_path / "c.csv").write_bytes(table.encode("gb18030"))
    parquet(tmp_path / "d.parquet", rows)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("in/lines.jsonl", lines)
        archive.write(tmp_path / "d.parquet", "rows.parquet")
    (tmp_path / "README.md").write_text("# 说明")
    found, reader = read(tmp_path)
    assert len(reader.layouts) == 6
    assert [c.messages for c in found] == [r["messages"] for r in rows] * 6
    assert reader.quarantine.count == 0
    assert reader.ignored == [str(tmp_path / "README.md")]
    assert found[0].id == f"{tmp_path.name}/a.json:1"
    assert found[-1].id == f"{tmp_path.name}/e.zip!rows.parquet:5"
    with pytest.raises(InputError, match="holds text and no records"):
        read(tmp_path / "README.md")


def test_standard_input_is_read(tmp_path: Path) -> None:
    code = (
        "from hanllama.talks.conversations import ConversationReader\n"
        "for c in ConversationReader(['-']): print(c.id, c.messages[-1]['content'])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=gzip.compress(json.dumps(RECORDS["alpaca"]).encode()),
        capture_output=True,
        check=True,
    )
    assert process.stdout.decode() == f"stdin:1 {SAID}\n"


def test_a_table_whose_columns_are_of_two_layouts(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        [
            RECORDS["openai"] | {"instruction": None, "output": None},
            RECORDS["alpaca"] | {"messages": None},
        ],
    )
    found, reader = read(path)
    assert [c.messages for c in found] == [[user(ASKED), assistant(SAID)]] * 2
    assert reader.layouts[str(path)] == {"openai": 1, "alpaca": 1}


# --- what cannot be used -------------------------------------------------------------------------


def turns(*said: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


BAD: list[tuple[Any, str]] = [
    (
        turns(("assistant", "你好"), ("user", "问"), ("assistant", "答")),
        "the conversation begins with the assistant",
    ),
    (turns(("user", "问"), ("assistant", "")), "an empty message of the assistant"),
    (turns(("user", " \n\u3000"), ("assistant", "答")), "an empty message of the user"),
    (turns(("user", "问"), ("wizard", "答")), "an unknown role: wizard"),
    (
        turns(("user", "问"), ("assistant", "答"), ("assistant", "又答")),
        "two messages of the assistant in a row",
    ),
    (turns(("user", "问")), "no answer of the assistant"),
    (turns(), "no message"),
    (turns(("user", "问"), ("assistant", None)), "the assistant's content is not text"),
    (
        turns(("user", [{"type": "image_url"}]), ("assistant", "答")),
        "a content that is more than text",
    ),
    ({"messages": ["问", "答"]}, "a turn that is not an object"),
    ({"instruction": "问", "output": 5}, "field 'output' is not text"),
    (
        {"instruction": "问", "output": "答", "history": ["早"]},
        "field 'history' is not a list of [question, answer]",
    ),
    (
        {"instruction": {"words": []}, "story": "从前"},
        "an instruction object without prompt, words and features, and no summary",
    ),
    ({"source": "", "target": "一篇文章。"}, "an empty message of the user"),
    ({"instruction": "\ud83d", "output": "答"}, "a text that holds half a surrogate pair"),
    (["问", "答"], "not a JSON object"),
    ({}, "no layout of conversations fits the fields none"),
    (
        RECORDS["openai"] | {"label": False},
        "no layout of conversations fits the fields label, messages",
    ),
    ('{"messages": [', "invalid JSON"),
]  # fmt: skip


def test_each_fault_is_counted_named_and_kept_with_its_line(tmp_path: Path) -> None:
    good = RECORDS["openai"]
    lines = [b if isinstance(b, str) else json.dumps(b) for b, _ in BAD]
    path = jsonl(tmp_path / "bad.jsonl", good, *lines, good)
    with open(path, "ab") as file:
        file.write(b'{"messages": "\xff"}\n')
    found, reader = read(path)
    assert len(found) == reader.usable == 2
    wanted = Counter([reason for _, reason in BAD] + ["line is not valid UTF-8"])
    assert reader.quarantine.reasons == wanted
    written = reader.write_quarantine(tmp_path)
    assert written == tmp_path / "quarantine.jsonl"
    kept = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert [k["reason"] for k in kept[:-1]] == [reason for _, reason in BAD]
    assert [k["line"] for k in kept] == [*range(2, len(BAD) + 2), len(BAD) + 3]
    assert {k["file"] for k in kept} == {str(path)}
    assert kept[0]["raw"] == lines[0]


def mutated(value: Any, draw: random.Random) -> Any:
    """The same JSON with one thing in it replaced by something else."""
    junk = [
        None,
        "",
        "x",
        5,
        -1.5,
        True,
        [],
        {},
        [None],
        [["x"]],
        {"role": []},
        "[1",
        "[{}]",
        "\ud83d",
    ]
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(sorted(value))
        return {**value, key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], mutated(value[place], draw), *value[place + 1 :]]
    return draw.choice(junk)


@pytest.mark.parametrize("kind", [ConversationReader, PreferenceReader])
def test_whatever_a_record_holds_it_is_used_or_put_aside(tmp_path: Path, kind: Any) -> None:
    draw = random.Random(kind.__name__)
    loaded = [plugins.load(kind.PACKAGE, name) for name in plugins.names(kind.PACKAGE)]
    examples = [record for layout in loaded for record, _ in layout.EXAMPLES]
    more = {"system": "简短。", "history": [["早", "早！"]], "tools": [{"name": "f"}], "margin": 1}
    records = [mutated(draw.choice(examples) | more, draw) for _ in range(3000)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    reader = kind([str(path)])
    for item in reader:
        json.dumps(item.record(), ensure_ascii=False).encode()
    assert reader.usable + reader.quarantine.count == 3000
    assert reader.usable > 200 and reader.quarantine.count > 200


def test_too_many_faults_are_an_error_and_so_is_nothing_at_all(tmp_path: Path) -> None:
    bad = [turns(("user", "问"))] * 2
    _, reader = read(jsonl(tmp_path / "a.jsonl", RECORDS["openai"], *bad))
    reader.check(0.7)
    with pytest.raises(InputError, match=r"2 of 3 records .*no answer .*first: .*line 2"):
        reader.check(0.5)
    _, reader = read(jsonl(tmp_path / "b.jsonl", *bad))
    with pytest.raises(InputError, match="no conversation that can be used"):
        reader.check(1.0)
    _, reader = read(jsonl(tmp_path / "c.jsonl", RECORDS["openai"]))
    reader.check(0.0)
    assert reader.write_quarantine(tmp_path) is None


def test_reading_twice_counts_once(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", RECORDS["openai"], turns())
    reader = ConversationReader([str(path)])
    assert list(reader) == list(reader)
    assert (reader.usable, reader.quarantine.count) == (1, 1)
    kept = reader.write_quarantine(tmp_path)
    assert kept is not None and kept.read_bytes().count(b"\n") == 1


def test_a_tail_without_an_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", turns(("user", "问"), ("assistant", "答"), ("user", "")))
    (found,), reader = read(path)
    assert found.messages == [user("问"), assistant("答")]
    assert reader.notes == {"messages after the last answer left out": 1}
    assert reader.quarantine.count == 0


def test_placeholders_are_filled_and_the_others_named(tmp_path: Path) -> None:
    record = {"instruction": "你是谁？", "output": "我是{{name}}，{{author}}做的；{{ x }} {{name}}"}
    path = jsonl(tmp_path / "a.jsonl", record)
    (found,), reader = read(path, fill=parse_fill(["name=小汉=\\1", "who=谁"]))
    assert found.messages[1]["content"] == "我是小汉=\\1，{{author}}做的；{{ x }} 小汉=\\1"
    assert reader.notes == {
        "placeholder {{author}} not filled": 1,
        "fill who=…: {{who}} occurs nowhere": 1,
    }
    assert "author" in reader.summary()
    for wrong in ("name", "a b=c", "=x"):
        with pytest.raises(ConfigError, match="name=value"):
            parse_fill([wrong])


# --- the mask ------------------------------------------------------------------------------------


def test_what_is_shown_as_trained_is_the_answers_and_their_ends(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folders.tokenizer(tmp_path / "tok"))
    said = Conversation([user("说𠮷。"), assistant("𠮷🙂"), user("再说"), assistant("</s>！")])
    whole = ChatTemplate(tokenizer, "chatml").encode(said.messages)
    runs = masks.runs(whole, tokenizer)
    assert [text for text, trained in runs if trained] == ["𠮷🙂<|im_end|>", "</s>！<|im_end|>"]
    assert "".join(text for text, _ in runs).startswith("<s><|im_start|> user\n说𠮷。<|im_end|>")
    assert [trained for _, trained in runs] == [False, True, False, True, False]


def test_a_conversation_that_the_template_refuses_says_why(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folders.tokenizer(tmp_path / "tok"))
    with_tool = Conversation([user("问"), {"role": "tool", "content": "3"}, assistant("答")])
    plain = Conversation([user("问"), assistant("答")])
    first, second = masks.shown([with_tool, plain], tokenizer, ChatTemplate(tokenizer, "vicuna"))
    assert "not tool" in first.refused and ("tool: 3\n", False) in first.runs
    assert not second.refused and 0 < second.trained < second.tokens


# --- real files ----------------------------------------------------------------------------------


def test_the_real_files_as_they_are(shared_data: Path) -> None:
    found, reader = read(shared_data / "sft", fill={"name": "小汉", "author": "某人"})
    layouts = {Path(file).stem: dict(counts) for file, counts in reader.layouts.items()}
    assert layouts == {
        "alpaca_zh_demo": {"alpaca": 1000},
        "alpaca_zh_hikariming": {"alpaca": 21963},
        "belle_open_source_1k": {"alpaca": 1000},
        "crosswoz_conversations": {"sharegpt": 1000},
        "glaive_toolcall_zh_demo": {"sharegpt": 300},
        "identity": {"alpaca": 91},
        "kdconv_conversations": {"sharegpt": 900},
        "niutrans_translate_8k": {"alpaca": 8000},
        "oaast_sft_zh": {"alpaca": 766},
        "ruozhiba_qa2449_gpt4o": {"alpaca": 2449},
        "sharegpt_zh_1K_format": {"sharegpt": 998},
    }
    assert reader.quarantine.count == 2 and sum(reader.notes.values()) == 6
    assert all(problem(c.messages) is None for c in found)
    assert all(c.messages[-1]["role"] == "assistant" for c in found)
    assert not any("{{name}}" in m["content"] for c in found for m in c.messages)
