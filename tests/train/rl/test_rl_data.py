"""Prompts from conversations, preferences and bare records; each once, some held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import folders, rollouts
from hanllama.base.errors import InputError
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.preferences.config import DpoConfig, PreferenceLoopConfig
from hanllama.train.preferences.data import read_rows
from hanllama.train.rl.data import Prompt, PromptReader, encode_prompts


def write(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return str(path)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_every_kind_of_file_gives_prompts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mixed.jsonl",
        {"prompt": "一加一？", "answer": 2},
        {"prompt": [user("二加二？")], "solution": "四"},
        {"prompt": "三加三？"},
        {"messages": [user("早"), assistant("早！"), user("晚"), assistant("晚！")]},
        {"messages": [user("你在吗？")]},
        {"instruction": "写诗", "input": "春", "output": "春眠"},
        {"prompt": "四加四？"},  # a preference behind it is no bare prompt, too
        {"prompt": [user("选")], "chosen": [assistant("好")], "rejected": [assistant("坏")]},
        {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]},
        {"prompt": "五加五？"},
        {"prompt": "判", "completion": "对", "label": True},
        {"prompt": "判二", "completion": "错", "label": False},
    )
    found = [([m["content"] for m in p.messages], p.reference) for p in PromptReader([file])]
    assert found == [
        (["一加一？"], "2"),
        (["二加二？"], "四"),
        (["三加三？"], ""),
        (["早", "早！", "晚"], "晚！"),
        (["你在吗？"], ""),
        (["写诗\n春"], "春眠"),
        (["四加四？"], ""),
        (["选"], "好"),
        (["问"], "答"),
        (["五加五？"], ""),
        (["判"], "对"),
        (["判二"], ""),
    ]


def test_what_is_no_prompt_is_quarantined_with_its_line_and_reason(tmp_path: Path) -> None:
    file = write(
        tmp_path / "bad.jsonl",
        {"prompt": "好"},
        {"prompt": "  "},
        {"messages": [assistant("我先说"), user("嗯")]},
        {"text": "一本书"},
        {"prompt": [user("问"), assistant("答")]},
    )
    reader = PromptReader([file])
    assert len(list(reader)) == 1
    assert reader.quarantine.count == 4
    written = reader.write_quarantine(tmp_path)
    assert written is not None
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [line["line"] for line in lines] == [2, 3, 4, 5]
    reasons = " | ".join(str(line["reason"]) for line in lines)
    assert "empty message of the user" in reasons
    assert "begins with the assistant" in reasons
    assert "no layout of prompts fits the fields text" in reasons
    assert "two messages of the assistant in a row" in reasons


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    folder = folders.tokenizer(tmp_path_factory.mktemp("data") / "tokenizer")
    (folder / "chat_template.jinja").write_text(rollouts.TEMPLATE, encoding="utf-8")
    return ChatTemplate(load_tokenizer(folder))


def some(count: int) -> list[Prompt]:
    return [Prompt([user(f"第{n}题")], "", f"f:{n}") for n in range(count)]


def test_equal_prompts_come_once_and_long_ones_not_at_all(template: ChatTemplate) -> None:
    long = Prompt([user("很长" * 40)], "", "f:long")
    found = encode_prompts([*some(3), *some(3), long], template, 30, 0.0, 0)
    assert (len(found.train), found.equal) == (3, 3)
    assert all(list(p.ids) == template.prompt(p.messages) for p in found.train)
    tokens = len(template.prompt(long.messages))
    assert found.left_out == [{"id": "f:long", "reason": "no room for an answer", "tokens": tokens}]
    assert "3 equal to another left out; 1 left out (left_out.jsonl)" in found.summary()
    with pytest.raises(InputError, match="no prompt is left"):
        encode_prompts([long], template, 30, 0.0, 0)


def test_a_prompt_that_the_template_refuses_is_left_out_and_named(tmp_path: Path) -> None:
    folder = folders.tokenizer(tmp_path / "tokenizer")
    source = (
        "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(source + rollouts.TEMPLATE, encoding="utf-8")
    strict = ChatTemplate(load_tokenizer(folder))
    call = [user("天气？"), assistant("查"), {"role": "tool", "content": "晴"}]
    found = encode_prompts([*some(2), Prompt(call, "", "f:tool")], strict, 30, 0.0, 0)
    assert [p.id for p in found.train] == ["f:0", "f:1"]
    (entry,) = found.left_out
    assert entry["id"] == "f:tool" and "no tools" in entry["reason"]
    assert "1 left out" in found.summary()
    with pytest.raises(InputError, match=r"no prompt is left.*no tools"):
        encode_prompts([Prompt(call, "", "f:tool")], strict, 30, 0.0, 0)


def test_what_is_held_out_stays_held_out_when_files_are_added(template: ChatTemplate) -> None:
    few, many = (encode_prompts(some(n), template, 30, 0.3, 7) for n in (100, 200))
    assert 15 <= len(few.heldout) <= 45
    held = {p.id for p in many.heldout}
    assert {p.id for p in few.heldout} == {i for i in held if int(i.split(":")[1]) < 100}
    assert not held & {p.id for p in many.train}
    assert few.hash != many.hash


def test_every_stage_holds_the_same_prompts_out(template: ChatTemplate, tmp_path: Path) -> None:
    """As dpo reads them, and by what is asked first, as sft does: a later turn of a conversation
    falls on the side of its first."""
    prompts = some(100)
    found = encode_prompts(prompts, template, 30, 0.3, 7)
    records = [
        {
            "id": p.id,
            "prompt": p.messages,
            "chosen": [assistant("好")],
            "rejected": [assistant("坏")],
        }
        for p in prompts
    ]
    config = DpoConfig(
        data=(str(write(tmp_path / "pairs.jsonl", *records)),),
        output="unused",
        base_model="unused",
        heldout_share=0.3,
        loop=PreferenceLoopConfig(seed=7),
    )
    rows = read_rows(config, template, paired=True, context=64)
    assert {p.id for p in found.heldout} == {row.id for row in rows.heldout} != set()
    later = [Prompt([*p.messages, assistant("一"), user("再说")], "", p.id) for p in prompts]
    again = encode_prompts(later, template, 60, 0.3, 7)
    assert [p.id for p in again.heldout] == [p.id for p in found.heldout]
