"""Preferences: every published layout gives the same pair, and a pair that lies is put aside."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hanllama.base import plugins
from hanllama.base.errors import InputError
from hanllama.talks.conversations.form import assistant, user
from hanllama.talks.preferences import Judged, Pair, PreferenceReader, Ranked
from hanllama.talks.preferences.form import refusal

LAYOUTS = plugins.names(PreferenceReader.PACKAGE)
ASKED, GOOD, BAD = "水在几度结冰？", "零度。", "一百度。"
PAIR = Pair([user(ASKED)], GOOD, BAD)
SIDES = {"chosen": GOOD, "rejected": BAD}
RECORDS: dict[str, dict[str, Any]] = {
    "messages": {
        "prompt": [user(ASKED)],
        "chosen": [assistant(GOOD)],
        "rejected": [assistant(BAD)],
    },
    "comparison": {"instruction": ASKED, "input": "", **SIDES},
    "sharegpt": {
        "conversations": [{"from": "human", "value": ASKED}],
        "chosen": {"from": "gpt", "value": GOOD},
        "rejected": {"from": "gpt", "value": BAD},
    },
    "transcripts": {
        "chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: {ASKED}\n\nAssistant: {BAD}",
    },
    "ranked": {"instruction": ASKED, "input": "", "output": [GOOD, BAD]},
}


def jsonl(path: Path, *records: Any) -> Path:
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(*paths: Path, **options: Any) -> tuple[list[Pair], PreferenceReader]:
    reader = PreferenceReader([str(path) for path in paths], **options)
    return list(reader), reader


def bare(item: Any) -> Any:
    """Without where it came from."""
    return replace(item, id="", source="")


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_does_what_its_examples_say_and_no_other_fits(name: str) -> None:
    layouts = {n: plugins.load(PreferenceReader.PACKAGE, n) for n in LAYOUTS}
    for record, preference in layouts[name].EXAMPLES:
        assert [n for n in LAYOUTS if layouts[n].fits(record)] == [name]
        assert layouts[name].preference(record) == preference
        assert refusal(preference) is None


def test_every_layout_of_pairs_gives_the_same_pair_and_is_named(tmp_path: Path) -> None:
    assert {*RECORDS, "judged"} == set(LAYOUTS)
    path = jsonl(tmp_path / "mixed.jsonl", *RECORDS.values())
    found, reader = read(path)
    assert [bare(pair) for pair in found] == [PAIR] * len(RECORDS)
    assert reader.layouts == {str(path): Counter(dict.fromkeys(RECORDS, 1))}
    assert found[2].id == f"{tmp_path.name}/mixed.jsonl:3"


@pytest.mark.parametrize(
    "item",
    [
        Pair([user(ASKED)], GOOD, BAD, 0.5, "a", "书"),
        Judged([user(ASKED)], GOOD, True, "a", "书"),
        Ranked([user(ASKED)], [GOOD, "零", BAD], "a", "书"),
    ],
)
def test_the_house_form_is_read_back_as_it_was(tmp_path: Path, item: Any) -> None:
    reader = PreferenceReader([str(jsonl(tmp_path / "a.jsonl", item.record()))])
    read_as = {Pair: reader, Judged: reader.judged(), Ranked: reader.ranked()}[type(item)]
    assert list(read_as) == [item]


def test_whole_conversations_share_their_prompt(tmp_path: Path) -> None:
    before = [user("你好"), assistant("你好！"), user(ASKED)]
    whole = {
        "chosen": [*before, assistant(GOOD)],
        "rejected": [*before, assistant(BAD)],
        "score_chosen": 8,
        "score_rejected": "6.5",
    }
    beside = whole | {"prompt": ASKED, "score_chosen": None}
    apart = whole | {"rejected": [user("别的"), assistant(BAD)]}
    found, reader = read(jsonl(tmp_path / "a.jsonl", whole, beside, apart))
    assert [bare(p) for p in found] == [Pair(before, GOOD, BAD, 1.5), Pair(before, GOOD, BAD)]
    assert reader.quarantine.reasons == {"the two conversations part before the last answer": 1}


def test_an_answer_may_begin_like_json(tmp_path: Path) -> None:
    listing = '[{"name": "甲"}]'
    record = {"instruction": "列出名字", "chosen": listing, "rejected": "[1, 2]"}
    quoted = {"prompt": "列出名字", "chosen": listing, "rejected": "[{"}
    found, _ = read(jsonl(tmp_path / "a.jsonl", record, quoted))
    assert [(p.chosen, p.rejected) for p in found] == [(listing, "[1, 2]"), (listing, "[{")]


def test_a_table_holds_messages_as_json(tmp_path: Path) -> None:
    import csv

    with open(tmp_path / "a.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "chosen", "rejected", "margin"])
        cells = [json.dumps(RECORDS["messages"][name]) for name in ("prompt", *SIDES)]
        table.writerow([*cells, "0.25"])
        table.writerow([ASKED, GOOD, BAD, ""])
    found, reader = read(tmp_path / "a.csv")
    assert [bare(p) for p in found] == [replace(PAIR, margin=0.25), PAIR]
    assert reader.quarantine.count == 0


def test_a_table_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([RECORDS["messages"]] * 3), tmp_path / "a.parquet")
    found, _ = read(tmp_path / "a.parquet")
    assert [bare(pair) for pair in found] == [PAIR] * 3


# --- what is made of what ------------------------------------------------------------------------


def test_a_ranking_gives_every_pair_in_its_order(tmp_path: Path) -> None:
    ranking = {"instruction": ASKED, "output": ["甲", "乙", "丙"], "id": "r"}
    path = jsonl(tmp_path / "a.jsonl", ranking)
    found, reader = read(path)
    assert [(p.chosen, p.rejected, p.id) for p in found] == [
        ("甲", "乙", "r#1-2"),
        ("甲", "丙", "r#1-3"),
        ("乙", "丙", "r#2-3"),
    ]
    assert reader.usable == 1
    assert [(j.answer, j.good) for j in reader.judged()] == [("甲", True), ("丙", False)]
    assert [r.answers for r in reader.ranked()] == [["甲", "乙", "丙"]]


def test_a_pair_gives_a_good_and_a_bad_answer(tmp_path: Path) -> None:
    reader = PreferenceReader([str(jsonl(tmp_path / "a.jsonl", RECORDS["comparison"]))])
    assert [bare(j) for j in reader.judged()] == [
        Judged([user(ASKED)], GOOD, True),
        Judged([user(ASKED)], BAD, False),
    ]


def test_a_single_judgement_is_no_pair_and_no_ranking(tmp_path: Path) -> None:
    labels = [True, 0, "False", "good"]
    lines = [{"prompt": ASKED, "completion": GOOD, "label": label} for label in labels]
    path = jsonl(tmp_path / "a.jsonl", *lines, {**lines[0], "label": "so-so"}, RECORDS["ranked"])
    found, reader = read(path)
    assert [bare(p) for p in found] == [PAIR]
    assert (
        reader.quarantine.reasons["a single judged answer makes no pair (kto learns from it)"] == 4
    )
    assert [j.good for j in reader.judged()] == [True, False, False, True, True, False]
    assert reader.quarantine.reasons == {"field 'label' says neither good nor bad": 1}
    assert len(list(reader.ranked())) == 1 and reader.quarantine.count == 5


def test_placeholders_are_filled_on_both_sides(tmp_path: Path) -> None:
    record = {"prompt": "{{name}}？", "chosen": "我是{{name}}", "rejected": "{{maker}}"}
    (pair,), reader = read(jsonl(tmp_path / "a.jsonl", record), fill={"name": "小汉"})
    assert (pair.prompt[0]["content"], pair.chosen) == ("小汉？", "我是小汉")
    assert reader.notes == {"placeholder {{maker}} not filled": 1}


# --- what cannot be used -------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"chosen": GOOD, "rejected": f" {GOOD}\n"}, "the two answers are equal"),
    ({"chosen": "", "rejected": BAD}, "the chosen answer is empty"),
    ({"chosen": GOOD, "rejected": " \u3000"}, "the rejected answer is empty"),
    ({"chosen": GOOD, "rejected": None}, "the rejected answer is empty"),
    ({"chosen": 3, "rejected": BAD}, "chosen is not text"),
    ({"chosen": user(GOOD), "rejected": BAD}, "chosen is a message of the user"),
    ({"chosen": GOOD, "rejected": []}, "rejected is not one message of the assistant"),
    (
        {**SIDES, "margin": -1},
        "the margin is negative: the rejected answer is scored above the chosen",
    ),
    ({**SIDES, "margin": "much"}, "field 'margin' is not a number"),
    ({**SIDES, "margin": True}, "field 'margin' is not a number"),
    ({**SIDES, "instruction": " "}, "an empty message of the user"),
    ({**SIDES, "chosen": "\ud83d"}, "a text that holds half a surrogate pair"),
    ({"output": [GOOD]}, "a ranking of fewer than two answers"),
    ({"output": [GOOD, BAD, GOOD]}, "equal answers in a ranking"),
    ({"output": [GOOD, ""]}, "an empty answer in a ranking"),
]
WHOLE: list[tuple[dict[str, Any], str]] = [
    (
        {"prompt": [assistant("你好"), user(ASKED)], **SIDES},
        "the conversation begins with the assistant",
    ),
    ({"prompt": [user(ASKED), assistant(GOOD)], **SIDES}, "two messages of the assistant in a row"),
    ({"prompt": [], **SIDES}, "the conversation begins with the assistant"),
    (
        {"chosen": [user(ASKED)], "rejected": [user(ASKED)]},
        "chosen does not end with the assistant",
    ),
    (
        {"chosen": "Human: 早\n\nAssistant: 好", "rejected": "Human: 早"},
        "rejected does not end with the assistant",
    ),
    (
        {"chosen": "喂 Human: 早", "rejected": "喂 Human: 早"},
        "a transcript that begins with neither Human: nor Assistant:",
    ),
    ({"question": ASKED}, "no layout of preferences fits the fields question"),
]


def test_each_fault_is_counted_named_and_kept_with_its_line(tmp_path: Path) -> None:
    faults = [({"instruction": ASKED} | record, reason) for record, reason in FAULTS] + WHOLE
    path = tmp_path / "bad.jsonl"
    lines = [json.dumps(record) for record, _ in faults]  # half a pair has no UTF-8
    path.write_text("\n".join([json.dumps(RECORDS["ranked"]), *lines]))
    found, reader = read(path)
    assert [bare(p) for p in found] == [PAIR]
    kept = reader.write_quarantine(tmp_path)
    assert kept is not None
    entries = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert [(e["line"], e["reason"]) for e in entries] == [
        (number, reason) for number, (_, reason) in enumerate(faults, 2)
    ]
    assert reader.quarantine.reasons == Counter(reason for _, reason in faults)
    with pytest.raises(InputError, match=f"{len(faults)} of {len(faults) + 1} records"):
        reader.check(0.5)


# --- real files ----------------------------------------------------------------------------------


def test_the_real_files_as_they_are(shared_data: Path) -> None:
    pairs, reader = read(shared_data / "preference")
    layouts = {Path(file).stem: dict(counts) for file, counts in reader.layouts.items()}
    assert layouts == {
        "comparison_gpt4_zh_part": {"comparison": 2383},
        "dpo_zh_demo": {"sharegpt": 300},
        "hh_harmless_en_500": {"transcripts": 499},
        "oaast_rm_zh": {"ranked": 769},
    }
    assert reader.quarantine.reasons == {
        "the two answers are equal": 20,
        "equal answers in a ranking": 6,
        "the chosen answer is empty": 1,
    }
    assert len(pairs) == 4972 and len({pair.id for pair in pairs}) == 4972
    assert all(refusal(pair) is None for pair in pairs)
    assert sum(1 for _ in reader.judged()) == 2 * 3951 == 2 * reader.usable
