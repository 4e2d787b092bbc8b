"""A judge's comparisons: both orders asked, what turns with the order dropped, the rest pairs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from builders.endpoint import LookalikeEndpoint
from hanllama.base import fs
from hanllama.base.errors import InputError
from hanllama.feedback import rank as ranking
from hanllama.feedback.endpoint import Reply
from hanllama.feedback.options import JudgeConfig
from hanllama.talks.preferences import PreferenceReader


def _sides(body: dict[str, Any]) -> tuple[str, str]:
    text = body["messages"][-1]["content"]
    first, second = (re.search(rf"【回答{n}】\n(.*?)\n【回答{n}结束】", text, re.S) for n in "甲乙")
    assert first and second
    return first[1], second[1]


def _longest(body: dict[str, Any]) -> str:
    first, second = _sides(body)
    if len(first) == len(second):
        return "一样好。\n结论：平"
    return f"理由。\n结论：{'甲' if len(first) > len(second) else '乙'}"


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    records: list[dict[str, Any]] = [
        {"prompt": "说一种鱼", "answers": ["草鱼", "草鱼，常见的淡水鱼", "鲤鱼"], "id": "a"},
        {"prompt": "一加一？", "chosen": "二", "rejected": "等于三啊", "id": "b"},
    ]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return path


def _config(output: Path, fake: LookalikeEndpoint, *inputs: Path, **options: Any) -> Any:
    return ranking.RankConfig(
        inputs=tuple(str(i) for i in inputs),
        output=str(output),
        endpoint=fake.url,
        judge="judge",
        **{"ask": JudgeConfig(retries=1), **options},
    )


def test_consistent_verdicts_become_pairs_and_ties_are_counted(
    tmp_path: Path, answers: Path
) -> None:
    with LookalikeEndpoint(answer=_longest) as fake:
        made = ranking.rank(_config(tmp_path / "out", fake, answers))
        assert len(fake.asked) == 2 * (3 + 1)
        assert {body["temperature"] for body in fake.asked} == {0.0}
        assert ranking.rank(_config(tmp_path / "out", fake, answers)) is None
        assert len(fake.asked) == 8
    assert made is not None and made.outcomes == {ranking.PAIR: 3, ranking.TIED: 1}
    reader = PreferenceReader([str(tmp_path / "out")])
    pairs = {p.id: (p.chosen, p.rejected) for p in reader}
    assert pairs == {
        "a#1-2": ("草鱼，常见的淡水鱼", "草鱼"),
        "a#2-3": ("草鱼，常见的淡水鱼", "鲤鱼"),
        "b#1-2": ("等于三啊", "二"),
    }
    assert reader.quarantine.count == 0
    assert (made.agreed, made.firsts, made.decided) == (1, 3, 6)
    fs.verify_sums(tmp_path / "out")


def test_a_judge_that_prefers_a_place_prefers_nothing(tmp_path: Path, answers: Path) -> None:
    with (
        LookalikeEndpoint(answer=lambda body: "结论：甲") as fake,
        pytest.raises(InputError, match=f"4 x {ranking.TURNED}"),
    ):
        ranking.rank(_config(tmp_path / "out", fake, answers))
    assert not (tmp_path / "out").exists()


def test_an_order_that_the_judge_cannot_read_is_dropped_with_its_words(
    tmp_path: Path, answers: Path
) -> None:
    def odd(body: dict[str, Any]) -> str:
        return "难说。" if "一加一" in body["messages"][-1]["content"] else _longest(body)

    with LookalikeEndpoint(answer=odd) as fake:
        made = ranking.rank(_config(tmp_path / "out", fake, answers))
    assert made is not None and made.outcomes[ranking.UNCLEAR] == 1
    dropped = [
        json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    ]
    assert {"id": "b#1-2", "reason": ranking.UNCLEAR, "verdicts": ["难说。", "难说。"]} in dropped


def test_the_budget_ends_the_comparing_and_a_larger_one_goes_on(
    tmp_path: Path, answers: Path
) -> None:
    with LookalikeEndpoint(answer=_longest) as fake:
        small = JudgeConfig(token_cap=1400, max_tokens=100)
        made = ranking.rank(_config(tmp_path / "out", fake, answers, ask=small))
        assert made is not None and 0 < made.outcomes.total() < 4
        enough = JudgeConfig(max_tokens=100)
        made = ranking.rank(_config(tmp_path / "out", fake, answers, ask=enough))
        assert made is not None and made.outcomes.total() == 4
        assert len(fake.asked) == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("理由。\n结论：甲", "甲"),
        ("结论：**乙**", "乙"),
        ("结论: 回答甲更好", "甲"),
        ("先看结论：甲不对。\n结论：乙", "乙"),
        ("平", "平"),
        ("回答乙。", "乙"),
        ("甲和乙都不错", ""),
        ("", ""),
    ],
)
def test_how_judges_say_it(text: str, said: str) -> None:
    assert ranking.verdict(Reply(text)) == said
