"""Preferences put into words: each answer under its feedback, and the loss on answers alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import folders
from hanllama.base.errors import InputError
from hanllama.feedback import hindsight as hs
from hanllama.talks.conversations import ConversationReader
from hanllama.talks.conversations.form import prompt_hash
from hanllama.talks.preferences import Ranked
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer

RANKING = Ranked([{"role": "user", "content": "一加一？"}], ["二。", "大概二。", "三。"], "x")


def test_a_ranking_climbs_and_falls() -> None:
    better, worse = hs.conversations(RANKING, "both", seed=0)
    said = [m["content"] for m in better.messages]
    assert said[1::2] == ["三。", "大概二。", "二。"] and better.id == "x#better"
    assert said[0].split("\n")[0] == "一加一？" and said[0].split("\n")[1] in hs.BAD
    assert set(said[2::2]) <= set(hs.BETTER)
    said = [m["content"] for m in worse.messages]
    assert said[1::2] == ["二。", "大概二。", "三。"] and said[0].split("\n")[1] in hs.GOOD
    assert set(said[2::2]) <= set(hs.WORSE)
    assert [c.id for c in hs.conversations(RANKING, "better", 0)] == ["x#better"]


def test_wordings_vary_and_follow_from_the_seed() -> None:
    rankings = [Ranked(RANKING.prompt, ["甲", "乙"], str(n)) for n in range(40)]
    first = [next(hs.conversations(r, "better", 1)).messages for r in rankings]
    assert first == [next(hs.conversations(r, "better", 1)).messages for r in rankings]
    assert {m[0]["content"].split("\n")[1] for m in first} == set(hs.BAD)
    assert {m[2]["content"] for m in first} == set(hs.BETTER)


def test_held_out_goes_by_the_question_without_the_feedback(tmp_path: Path) -> None:
    wanted = prompt_hash(RANKING.prompt)
    both = list(hs.conversations(RANKING, "both", seed=0))
    assert [c.prompt_hash() for c in both] == [wanted, wanted]
    assert prompt_hash(both[0].messages) != prompt_hash(both[1].messages)
    file = tmp_path / "conversations.jsonl"
    foreign = {**both[0].record(), "prompt_hash": "no hash of ours"}
    records = [*(c.record() for c in both), foreign]
    file.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    read = [c.prompt_hash() for c in ConversationReader([str(file)])]
    assert read == [wanted, wanted, prompt_hash(both[0].messages)]


def test_no_feedback_stands_in_the_loss(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folders.tokenizer(tmp_path / "tokenizer"))
    template = ChatTemplate(tokenizer, "llama2")
    better = next(hs.conversations(RANKING, "better", 0))
    encoded = template.encode(better.messages)
    trained = tokenizer.decode(encoded.ids[encoded.mask])
    assert [trained.count(a) for a in ("三。", "大概二。", "二。")] == [1, 1, 2]
    assert "回答" not in trained and "一加一" not in trained


def test_pairs_in_conversations_out_and_what_is_unusable_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "pairs.jsonl"
    lines = [{"prompt": "问", "chosen": "好", "rejected": "坏"}] * 20
    lines += [{"prompt": "问", "chosen": "同", "rejected": "同"}]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = hs.HindsightConfig(inputs=(str(source),), output=str(tmp_path / "out"))
    assert hs.hindsight(config) == 40
    assert "(100 %)" in capsys.readouterr().err.split("\n")[-2], "all of the file was read"
    assert len(list(ConversationReader([str(tmp_path / "out")]))) == 40
    quarantined = json.loads((tmp_path / "out" / "quarantine.jsonl").read_text())
    assert quarantined["reason"] == "the two answers are equal" and quarantined["line"] == 21
    with pytest.raises(InputError, match="exists already"):
        hs.hindsight(config)
    source.write_text("".join(json.dumps(line) + "\n" for line in lines[-2:]))
    bad = hs.HindsightConfig(inputs=(str(source),), output=str(tmp_path / "bad"))
    with pytest.raises(InputError, match="share"):
        hs.hindsight(bad)
    assert not (tmp_path / "bad").exists()
