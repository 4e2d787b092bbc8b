"""A pair is one obedient and one disobedient answer of the model's own to one prompt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import tiny
from hanllama.data import story_tasks
from hanllama.data.preferences import PreferenceReader
from hanllama.errors import ConfigError, InputError
from hanllama.model.answers import Answer
from hanllama.story_chat.options import PairsConfig
from hanllama.story_chat.pairs import _pairs, pairs, write

MADE = list(story_tasks.instructions(4, seed=6))
OWN = [made.messages[-1]["content"] for made in MADE]


def answer(text: str, complete: bool = True) -> Answer:
    return Answer(text, [1], [2], complete)


def ranked(
    given: list[list[Answer]], teach: bool = False
) -> tuple[list[dict[str, object]], Counter[tuple[str, str]]]:
    counts: Counter[tuple[str, str]] = Counter()
    return [dict(pair) for pair in _pairs(MADE, given, counts, "mine", teach=teach)], counts


def test_a_pair_holds_the_first_obedient_and_the_first_disobedient_answer() -> None:
    mixed = [answer("不知道。"), answer(OWN[0]), answer("不会。"), answer(OWN[0])]
    found, counts = ranked([mixed, [answer(OWN[1])] * 4, [answer("啊。")] * 4, mixed])
    assert len(found) == 1  # the last prompt is not obeyed by the first one's story
    assert found[0]["prompt"] == list(MADE[0].messages[:-1])
    assert found[0]["chosen"] == [{"role": "assistant", "content": OWN[0]}]
    assert found[0]["rejected"] == [{"role": "assistant", "content": "不知道。"}]
    assert counts[MADE[0].task.kind, "mixed"] == 1
    assert counts[MADE[1].task.kind, "all obeyed"] == 1
    assert counts[MADE[2].task.kind, "none obeyed"] == 1


def test_an_unfinished_answer_never_obeys_and_an_empty_one_is_no_side() -> None:
    cut = [answer(OWN[0], complete=False), answer(OWN[0])]
    empty = [answer(" \n"), answer(OWN[1])]
    found, counts = ranked([cut, empty, [answer(OWN[2])], [answer(OWN[3])]])
    assert [pair["category"] for pair in found] == [MADE[0].task.kind]
    assert counts[MADE[1].task.kind, "all obeyed"] == 1


def test_where_none_obeys_the_generators_answer_may_teach() -> None:
    given = [[answer("啊。")], [answer(OWN[1])], [answer("")], [answer("啊。"), answer(OWN[3])]]
    found, counts = ranked(given, teach=True)
    assert [pair["chosen"] for pair in found] == [
        [{"role": "assistant", "content": OWN[number]}] for number in (0, 3)
    ]
    assert counts[MADE[0].task.kind, "none obeyed"] == 1


def test_the_written_pairs_are_preferences_that_the_trainers_read(tmp_path: Path) -> None:
    found, _ = ranked([[answer("不。"), answer(text)] for text in OWN])
    write(tmp_path / "pairs.jsonl", found)
    reader = PreferenceReader([str(tmp_path / "pairs.jsonl")])
    read = list(reader)
    assert [pair.chosen for pair in read] == OWN
    assert {pair.rejected for pair in read} == {"不。"}


def test_a_model_that_never_obeys_gives_no_file(tmp_path: Path) -> None:
    model = tiny.chat_model(tmp_path / "chat", seed=1)
    output = tmp_path / "pairs.jsonl"
    config = PairsConfig(str(model), str(output), count=2, samples=2, max_new_tokens=8)
    with pytest.raises(InputError, match="none of 2 prompts was answered both well and badly"):
        pairs(config)
    assert not output.exists()


def test_an_output_stays_unless_forced_and_options_are_checked(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        pairs(PairsConfig("model", str(tmp_path / "pairs.jsonl")))
    with pytest.raises(ConfigError, match="samples must be at least 2"):
        PairsConfig("model", "pairs.jsonl", samples=1)
    with pytest.raises(ConfigError, match="must end in"):
        PairsConfig("model", "pairs")
