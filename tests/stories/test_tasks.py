"""What an instruction asks is read back from its words alone, and only obedience counts as such."""

from __future__ import annotations

from collections import Counter

import pytest

from hanllama.stories import grammar
from hanllama.stories.tables import PLOTS, QUESTIONS, THEMES
from hanllama.stories.tasks import (
    KINDS,
    Instruction,
    Task,
    instruction,
    instructions,
    judge,
    understand,
)

TRAINING = list(instructions(900, seed=3))
HELDOUT = list(instructions(200, seed=3, heldout=True))


def prompt(made: Instruction) -> str:
    return "\n".join(message["content"] for message in made.messages[:-1])


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def of_plot(name: str) -> grammar.Story:
    return next(story for story in grammar.stories(1000, seed=8) if story.plot == name)


def test_every_instruction_is_read_back_and_its_own_answer_obeys() -> None:
    for made in [*TRAINING, *HELDOUT]:
        assert understand(made.messages) == understand(made.messages[:-1]) == made.task
        assert judge(made.task, made.messages[-1]["content"]).obeyed, made
    assert Counter(made.task.kind for made in TRAINING) == dict.fromkeys(KINDS, 300)


def test_training_asks_more_at_once_and_every_round_of_it_is_read_back_and_obeyed() -> None:
    assert {len(made.task.words) for made in TRAINING if made.task.kind == "words"} == {1, 2, 3, 4}
    assert {len(made.task.words) for made in HELDOUT if made.task.kind == "words"} == {1, 2}
    rounds = Counter(len(made.messages) // 2 for made in TRAINING if made.task.kind == "question")
    assert set(rounds) == {4, 5}  # the story is quoted with the first question, or told before it
    assert {len(made.messages) // 2 for made in HELDOUT if made.task.kind == "question"} == {1, 2}
    pairs = {words for made in HELDOUT if len(words := made.task.words) == 2}
    for made in TRAINING:
        longer = understand(made.messages[:1])
        assert longer is not None and not any(set(pair) <= set(longer.words) for pair in pairs)
    singly = [made.task.words for made in instructions(300, seed=3, singly=True)]
    assert max(map(len, singly)) == 2
    for made in TRAINING[:300]:
        for end in range(2, len(made.messages) + 1, 2):
            task = understand(made.messages[: end - 1])
            assert task is not None and not task.heldout
            assert judge(task, made.messages[end - 1]["content"]).obeyed


def test_another_conversation_may_go_before_and_the_last_prompt_is_what_is_asked() -> None:
    going_on = list(instructions(300, seed=3, earlier=1.0))
    for made in going_on:
        stories = [m for m in made.messages if grammar.check(m["content"]).ok]
        quoted = [m for m in made.messages if m["role"] == "user" and len(m["content"]) > 80]
        assert len(stories) + len(quoted) == 2
        assert understand(made.messages) == made.task
        assert len(made.messages) // 2 <= 5
        for end in range(2, len(made.messages) + 1, 2):
            task = understand(made.messages[: end - 1])
            assert task is not None and not task.heldout
            assert judge(task, made.messages[end - 1]["content"]).obeyed
    third = list(instructions(300, seed=3, earlier=1 / 3))
    longer = sum(len(made.messages) > 2 for made in third if made.task.kind != "question")
    assert 45 < longer < 90  # of 200
    asked = list(instructions(60, seed=3, heldout=True, earlier=1.0))
    assert all(made.task.heldout for made in asked)


def test_an_instruction_is_a_pure_function_of_seed_and_index() -> None:
    assert instruction(3, 0, "theme") == TRAINING[0]
    assert instruction(4, 0, "theme") != TRAINING[0]
    assert list(instructions(30, seed=3)) == TRAINING[:30]


def test_what_is_held_out_is_never_asked_in_training_in_any_wording() -> None:
    """The tasks differ, not only the texts; also in the first round of a longer conversation."""
    asked = [
        understand(made.messages[:end])
        for made in TRAINING
        for end in range(1, len(made.messages), 2)
    ]
    assert not any(task.heldout for task in asked if task)
    assert all(made.task.heldout for made in HELDOUT)
    assert len({prompt(made) for made in HELDOUT}) == 200
    wishes = {frozenset(task.words) for task in asked if task and task.words}
    assert not wishes & {frozenset(made.task.words) for made in HELDOUT if made.task.words}


def test_the_order_of_words_does_not_lead_from_training_to_held_out() -> None:
    one, other = Task("words", words=("公园", "皮球")), Task("words", words=("皮球", "公园"))
    assert one.heldout == other.heldout


def test_every_answer_to_another_prompt_is_judged_by_that_prompt() -> None:
    """Answers moved on by one kind-turn: hardly any may pass, and none of another kind."""
    moved = [*TRAINING[1:], TRAINING[0]]
    passed = sum(
        judge(made.task, other.messages[-1]["content"]).obeyed
        for made, other in zip(TRAINING, moved, strict=True)
    )
    assert passed < 30


def test_the_theme_and_the_hero_must_be_those_asked_for() -> None:
    story = of_plot("share")
    kind, name = story.facts["hero_kind"], story.facts["hero"]
    for theme in THEMES["share"]:
        assert judge(understood(f"我想听一个关于{theme}的故事。"), story.text).obeyed
        assert judge(understood(f"请写一个{kind}{name}的故事，主题是{theme}。"), story.text).obeyed
    verdict = judge(understood("讲一个关于勇敢的故事。"), story.text)
    assert (verdict.obeyed, verdict.reason) == (False, "about 分享, not about 勇敢")
    other = "小象" if kind != "小象" else "小猫"
    verdict = judge(understood(f"请写一个{other}的故事，主题是分享。"), story.text)
    assert (verdict.obeyed, verdict.reason) == (False, f"the hero is {kind}, not {other}")
    stranger = "朵朵" if name != "朵朵" else "果果"
    assert not judge(understood(f"请写一个{kind}{stranger}的故事，主题是分享。"), story.text).obeyed


def test_every_word_must_occur_and_the_story_must_be_one() -> None:
    story = of_plot("lost")
    thing, place = story.facts["object"], story.facts["place"]
    assert judge(understood(f"请用“{thing}”和“{place}”写一个故事。"), story.text).obeyed
    verdict = judge(understood(f"请用“{thing}”、“{place}”和“大鲸鱼”写一个故事。"), story.text)
    assert (verdict.obeyed, verdict.reason) == (False, "without “大鲸鱼”")
    task = understood(f"请用“{thing}”写一个故事。")
    assert "no story of the grammar" in judge(task, story.text[:-20]).reason
    assert not judge(task, thing).obeyed
    assert not judge(task, "").obeyed


@pytest.mark.parametrize("plot", [plot.name for plot in PLOTS])
def test_every_question_has_one_answer_which_the_story_gives(plot: str) -> None:
    seen = Counter(
        made.task.about
        for made in instructions(3000, seed=9)
        if made.task.kind == "question" and made.task.plot == plot
    )
    wanted = {q.about for q in QUESTIONS if plot in q.plots} | {"theme", "hero", "hero_kind"}
    assert wanted <= set(seen)


def test_a_wrong_name_an_added_name_and_another_form_are_no_answer() -> None:
    story = of_plot("brave")
    name, fear = story.facts["hero"], story.facts["fear"]
    task = understood(f"{story.text}\n请问，{name}怕什么？")
    assert judge(task, f"{name}怕{fear}。\n").obeyed
    for wrong in (f"{name}怕老虎。", f"{name}怕{fear}。{name}怕打雷。", fear, ""):
        verdict = judge(task, wrong)
        assert not verdict.obeyed and f"“{name}怕{fear}。”" in verdict.reason
    theme = understood(f"读一读这个故事：\n{story.text}\n问题：这个故事讲的是什么？")
    assert all(judge(theme, f"故事讲的是{name}。").obeyed for name in THEMES["brave"])


def test_a_question_after_a_story_of_its_own_is_about_that_story() -> None:
    story = of_plot("help")
    told = [
        *user("讲一个关于帮助别人的故事。"),
        {"role": "assistant", "content": story.text},
        *user("主人公叫什么名字？"),
    ]
    task = understand(told)
    assert task is not None
    assert judge(task, f"主人公叫{story.facts['hero']}。").obeyed
    told[1]["content"] = "很久很久以前。"
    assert understand(told) is None, "nothing can be asked about what is no story"


@pytest.mark.parametrize(
    "text",
    ["", "今天天气怎么样？", "讲一个关于鲸鱼的故事。", "请用写一个故事。", "主人公叫什么名字？"],
)
def test_what_is_no_instruction_of_ours_is_not_understood(text: str) -> None:
    assert understand(user(text)) is None
    assert understand([]) is None


def understood(text: str) -> Task:
    task = understand(user(text))
    assert task is not None, text
    return task
