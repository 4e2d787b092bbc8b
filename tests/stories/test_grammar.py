"""The demo stories keep their promises: what is written is accepted, what is spoiled is not."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable

import pytest

from hanllama.stories import grammar
from hanllama.stories.grammar import WITHHELD, CopyIndex, Story, check, stories, story
from hanllama.stories.tables import BANKS, PEOPLE, PLOTS, Bank, Plot, Word

CARRY, HOLD, SNACKS, TOYS = (BANKS[name] for name in ("carry", "hold", "snack", "toy"))
MADE = list(stories(5000, seed=1))
VERDICTS = [check(made.text) for made in MADE[:2000]]


def every_bank() -> list[Bank]:
    return [bank for plot in PLOTS for bank in plot.slots.values()]


LEGAL_PAIRS = {(word.v, word.n) for bank in every_bank() for word in bank if word.v}
LEGAL_PAIRS |= {(verb.n, thing.n) for verb in CARRY for thing in TOYS}
LEGAL_PAIRS |= {(verb.n, thing.n) for verb in HOLD for thing in SNACKS}
FREE_VERBS = {verb.n for verb in (*CARRY, *HOLD)}
CARRIED = sorted(pair for pair in WITHHELD if pair[0] in FREE_VERBS)


def test_every_story_is_accepted_with_its_own_plot_and_facts() -> None:
    for made, verdict in zip(MADE, VERDICTS, strict=False):
        assert verdict.ok, verdict.reason
        assert (verdict.plot, verdict.facts) == (made.plot, made.facts), made.text


def test_a_whole_story_leaves_no_word_in_doubt() -> None:
    for made in MADE[:500]:
        plot = next(plot for plot in PLOTS if plot.name == made.plot)
        reading = grammar._read(grammar._Text(made.text), plot)
        assert reading is not None
        assert all(len(bank) == 1 for bank in reading.words.values()), made.text


def test_stories_are_a_pure_function_of_seed_and_index() -> None:
    assert story(1, 4000) == MADE[4000]
    assert story(2, 4000) != MADE[4000]
    joined = "\n\n".join(made.text for made in stories(100, seed=0))
    digest = hashlib.sha256(joined.encode()).hexdigest()
    assert digest == "7315e2af09fb8e946a751711db4ea85075fa7f297a6e06909a9e8b3526d75f7a"


def test_the_language_is_small_but_not_tiny() -> None:
    texts = [made.text for made in MADE]
    assert len(set(texts)) == len(texts)
    assert len(set("".join(texts))) < 900
    assert all(120 <= len(text) <= 260 for text in texts)
    assert all(1 <= text.count("\n") <= 3 for text in texts)
    assert len(PLOTS) >= 6 and {made.plot for made in MADE} == {plot.name for plot in PLOTS}
    content = {word.n for bank in every_bank() for word in bank}
    content |= {word.v for bank in every_bank() for word in bank if word.v}
    assert len(content) >= 300


# Withheld pairs -----------------------------------------------------------------------------


def test_training_never_shows_a_withheld_pair() -> None:
    assert not any(WITHHELD & set(verdict.pairs) for verdict in VERDICTS)
    for made in MADE:  # nor by accident, in fixed words or across a seam
        assert not [pair for pair in WITHHELD if "".join(pair) in made.text], made.text


def test_training_shows_each_half_of_a_withheld_pair() -> None:
    assert LEGAL_PAIRS >= WITHHELD
    assert 0.05 <= len(WITHHELD) / len(LEGAL_PAIRS) <= 0.1
    seen = {pair for verdict in VERDICTS for pair in verdict.pairs}
    assert {verb for verb, _ in WITHHELD} <= {verb for verb, _ in seen}
    assert {noun for _, noun in WITHHELD} <= {noun for _, noun in seen}


def places_of(pair: tuple[str, str]) -> list[tuple[Plot, Word]]:
    return [
        (plot, word)
        for plot in PLOTS
        for bank in plot.slots.values()
        for word in bank
        if (word.v, word.n) == pair
    ]


@pytest.mark.parametrize("pair", CARRIED, ids="".join)
def test_a_withheld_verb_before_a_known_noun_is_legal(pair: tuple[str, str]) -> None:
    verb, noun = pair
    bank = CARRY if noun in {thing.n for thing in TOYS} else HOLD
    others = [other.n + noun for other in bank if other.n != verb]
    made = next(m for m in MADE if any(other in m.text for other in others))
    text = made.text
    for other in others:
        text = text.replace(other, verb + noun)
    assert check(text).ok and pair in check(text).pairs and pair not in check(made.text).pairs


@pytest.mark.parametrize("pair", sorted(WITHHELD - set(CARRIED)), ids="".join)
def test_a_withheld_pair_is_legal(pair: tuple[str, str]) -> None:
    written = 0
    for plot, word in places_of(pair):
        for number in range(10):
            made = grammar.write(random.Random(number), forced=word, plots=[plot])
            verdict = check(made.text)
            assert verdict.ok and verdict.facts == made.facts, verdict.reason
            written += pair in verdict.pairs
    assert written


# Spoiled stories ----------------------------------------------------------------------------

Spoil = Callable[[Story, random.Random], str | None]


def sentences(text: str) -> list[str]:
    """The text cut after each full stop; quotes and line ends stay with their sentence."""
    return re.findall(r"[^。！？]+[。！？]”?\n?", text)


def replace_last(text: str, old: str, new: str) -> str | None:
    if text.count(old) < 2:
        return None
    head, _, tail = text.rpartition(old)
    return head + new + tail


def another_hero(made: Story, rng: random.Random) -> str | None:
    names = [p.n for p in PEOPLE if p.n not in (made.facts["hero"], made.facts.get("friend"))]
    return replace_last(made.text, made.facts["hero"], rng.choice(names))


def another_friend(made: Story, rng: random.Random) -> str | None:
    if "friend" not in made.facts:
        return None
    names = [p.n for p in PEOPLE if p.n not in (made.facts["hero"], made.facts["friend"])]
    return replace_last(made.text, made.facts["friend"], rng.choice(names))


def another_measure_word(made: Story, rng: random.Random) -> str | None:
    measures = sorted({word.cl for bank in every_bank() for word in bank if word.cl})
    found = list(re.finditer("一([" + "".join(measures) + "])", made.text))
    found = [m for m in found if not made.text.startswith(("一起", "一点", "一个人"), m.start())]
    if not found:
        return None
    at = rng.choice(found).start(1)
    other = rng.choice([cl for cl in measures if cl != made.text[at]])
    return made.text[:at] + other + made.text[at + 1 :]


def another_thing_midway(made: Story, rng: random.Random) -> str | None:
    slot = next((s for s in ("object", "food", "gift", "landmark") if s in made.facts), None)
    if slot is None:
        return None
    plot = next(plot for plot in PLOTS if plot.name == made.plot)
    others = [word.n for word in plot.slots[slot] if word.n not in made.text]
    return replace_last(made.text, made.facts[slot], rng.choice(others))


def another_pronoun(made: Story, rng: random.Random) -> str | None:
    found = [m.start() for m in re.finditer("[他她它]", made.text)]
    if not found:
        return None
    at = rng.choice(found)
    other = rng.choice([he for he in "他她它" if he != made.text[at]])
    return made.text[:at] + other + made.text[at + 1 :]


def another_verb(made: Story, rng: random.Random) -> str | None:
    pairs = [(v, n) for v, n in check(made.text).pairs if v + n in made.text]
    if not pairs:
        return None
    verb, noun = rng.choice(pairs)
    others = sorted({v for v, _ in LEGAL_PAIRS if (v, noun) not in LEGAL_PAIRS})
    return made.text.replace(verb + noun, rng.choice(others) + noun, 1)


def swapped_sentences(made: Story, rng: random.Random) -> str | None:
    paragraphs = made.text.split("\n")
    which = rng.choice([i for i, text in enumerate(paragraphs) if len(sentences(text)) > 1])
    parts = sentences(paragraphs[which])
    at = rng.randrange(len(parts) - 1)
    parts[at], parts[at + 1] = parts[at + 1], parts[at]
    paragraphs[which] = "".join(parts)
    return "\n".join(paragraphs)


def swapped_paragraphs(made: Story, rng: random.Random) -> str | None:
    parts = made.text.split("\n")
    at = rng.randrange(len(parts) - 1)
    parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return "\n".join(parts)


def lost_ending(made: Story, rng: random.Random) -> str | None:
    return "".join(sentences(made.text)[:-1])


def lost_sentence(made: Story, rng: random.Random) -> str | None:
    parts = sentences(made.text)
    del parts[rng.randrange(len(parts) - 1)]
    return "".join(parts)


def repeated_sentence(made: Story, rng: random.Random) -> str | None:
    parts = sentences(made.text)
    at = rng.randrange(len(parts))
    return "".join(parts[: at + 1] + parts[at:])


def ending_of_another(made: Story, rng: random.Random) -> str | None:
    other = rng.choice([other for other in MADE[:500] if other.plot == made.plot])
    head, _, last = made.text.rpartition("\n")
    other_last = other.text.rpartition("\n")[2]
    return None if other_last == last else head + "\n" + other_last


def another_character(made: Story, rng: random.Random) -> str | None:
    at = rng.randrange(len(made.text))
    other = rng.choice([c for c in made.text if c != made.text[at]])
    return made.text[:at] + other + made.text[at + 1 :]


SPOILS: list[Spoil] = [
    another_hero,
    another_friend,
    another_measure_word,
    another_thing_midway,
    another_pronoun,
    another_verb,
    swapped_sentences,
    swapped_paragraphs,
    lost_ending,
    lost_sentence,
    repeated_sentence,
    ending_of_another,
    another_character,
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
def test_spoiled_stories_are_rejected(spoil: Spoil) -> None:
    rng = random.Random(spoil.__name__)
    spoiled = [(made, spoil(made, rng)) for made in MADE[:180]]
    texts = [text for made, text in spoiled if text is not None and text != made.text]
    assert len(texts) >= 70
    passed = [text for text in texts if check(text).ok]
    assert len(passed) <= 0.05 * len(texts), passed[0]


def test_a_rejection_says_where_the_story_went_wrong() -> None:
    text = next(made.text for made in MADE if made.plot == "lost")
    lost_its_end = check(text[: text.rindex("从那以后")])
    assert not lost_its_end.ok and lost_its_end.plot == "lost"
    assert "not over" in lost_its_end.reason
    went_on = check(text + "小狗爬上了天。")
    assert "unexpected “小狗爬上了天。”" in went_on.reason
    twins = story(1, 0)
    same_name = twins.text.replace(twins.facts["friend"], twins.facts["hero"])
    assert "unexpected" in check(same_name).reason
    for nonsense in ("", "\n", "从前", "Once upon a time", "从前，有一只" * 2000):
        assert not check(nonsense).ok


def test_checking_is_fast_enough_for_every_sample() -> None:
    began = time.process_time()
    for made in MADE[:200]:
        check(made.text)
    assert (time.process_time() - began) / 200 < 0.02


# Copies -------------------------------------------------------------------------------------


def longest_by_force(texts: list[str], text: str) -> int:
    longest = 0
    for at in range(len(text)):
        while at + longest < len(text) and any(text[at : at + longest + 1] in t for t in texts):
            longest += 1
    return longest


def test_longest_copy_agrees_with_brute_force() -> None:
    rng = random.Random(5)
    training = [made.text for made in MADE[:60]]
    index = CopyIndex(training)
    for number in range(40):
        text = MADE[1000 + number].text
        if number % 3 == 0:  # a long stretch of one training story in the middle
            text = text[:60] + training[number][33 : 38 + 4 * number] + text[90:]
        if number % 5 == 0:  # nothing familiar
            text = "".join(rng.sample(text, len(text)))
        copied = index.longest_copy(text)
        assert copied in text and any(copied in training_text for training_text in training)
        assert len(copied) == longest_by_force(training, text)


def test_longest_copy_survives_repetition_and_short_texts() -> None:
    rng = random.Random(6)
    for _ in range(400):
        training = ["".join(rng.choices("abc", k=rng.randrange(90))) for _ in range(5)]
        text = "".join(rng.choices("abc", k=rng.randrange(60))) + training[0][rng.randrange(9) :]
        copied = CopyIndex(training).longest_copy(text)
        assert len(copied) == longest_by_force(training, text)
    training = ["ab" * 100 + "c" + "ab" * 80, "ab" * 90]
    text = "b" + "ab" * 95 + "c" + "ab" * 30
    assert len(CopyIndex(training).longest_copy(text)) == longest_by_force(training, text)
    assert CopyIndex([]).longest_copy("从前") == CopyIndex(["从前"]).longest_copy("") == ""


def test_a_copy_never_runs_from_one_story_into_the_next() -> None:
    assert CopyIndex(["一二三四五六", "七八九十"]).longest_copy("三四五六七八九") == "三四五六"
