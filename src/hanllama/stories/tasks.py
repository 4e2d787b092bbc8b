"""Instructions about the demo's stories, and the gold checker of the answers.

There are three kinds of task: a story on a theme (perhaps with a named hero), a story in which
given words occur, and a question about a story in the conversation. The grammar of `grammar.py`
writes the answers; the wording comes from `phrases.txt`.

Writing and reading use the same phrases. `instruction` writes a conversation; `understand` reads
the task back from the messages alone, so `judge` can judge any answer to such a prompt without a
side table. It is strict: the grammar must be able to write a story, with the theme, the hero or the
words; an answer to a question must be the right one, in the form that was taught.

Training and held-out prompts differ in their task, not in their wording: training never asks a task
that is `heldout`, in any phrasing. Training prompts ask for more at once: a model learns to look
back at the prompt from every word and every question, and a story costs the same with one question
or four. When an earlier conversation comes first, only the last task counts.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal, TypeVar

from hanllama.stories import grammar
from hanllama.stories.tables import PEOPLE, QUESTIONS, THEMES, WAYS, Question

Kind = Literal["theme", "words", "question"]
KINDS: tuple[Kind, ...] = ("theme", "words", "question")
Messages = Sequence[Mapping[str, str]]
_Item = TypeVar("_Item")

_HELDOUT_SHARE = 16  # training never asks one task in this many
_MOST_WORDS = 4
_MOST_WORDS_SINGLY = 2  # a model of a million parameters cannot use more
_QUESTIONS = 4  # about one story
_QUESTIONS_LATER = 2  # about the second story of a conversation, which must fit into a row
# Facts that a person would ask for; the others are colours, times and the place searched first.
_ASKED = (
    *("hero", "hero_kind", "friend", "place", "object", "food", "second_food", "game", "hobby"),
    *("skill", "chore", "gift", "fear", "landmark", "garden", "spot"),
)


@dataclass(frozen=True)
class Task:
    """The request of a prompt.

    A theme is a plot with an optional hero. For a question, `about` names the fact, `story` is its
    story, and `answers` are the accepted answers.
    """

    kind: Kind
    plot: str = ""
    hero_kind: str = ""
    hero: str = ""
    words: tuple[str, ...] = ()
    about: str = ""
    story: str = ""
    answers: tuple[str, ...] = ()

    @property
    def heldout(self) -> bool:
        """Whether only held-out prompts ask this; never true of a theme without a hero."""
        if self.kind == "theme" and not self.hero_kind:
            return False
        asked = {
            "theme": (self.plot, self.hero_kind, self.hero),
            "words": tuple(sorted(self.words)),
            "question": (self.story,),
        }[self.kind]
        digest = hashlib.sha256("\n".join((self.kind, *asked)).encode()).digest()
        return int.from_bytes(digest[:4]) % _HELDOUT_SHARE == 0


@dataclass(frozen=True)
class Instruction:
    """A conversation that ends in an obedient answer, and the task of its last prompt."""

    messages: tuple[Mapping[str, str], ...]
    task: Task


@dataclass(frozen=True)
class Judgement:
    """Whether an answer obeys; `reason` says why not, and is empty for an obedient answer."""

    obeyed: bool
    reason: str


def instructions(
    count: int,
    seed: int,
    *,
    heldout: bool = False,
    singly: bool = False,
    earlier: float = 0.0,
) -> Iterator[Instruction]:
    """`count` instructions of `seed`, the three kinds in turn.

    Held-out prompts are all different; training may ask the same twice, for two stories. `singly`
    asks for one or two words and one question instead of up to four, as held-out prompts do.
    `earlier` is the share of instructions that follow another conversation.
    """
    seen: set[str] = set()
    index = 0
    for number in range(count):
        while True:
            kind = KINDS[number % len(KINDS)]
            made = instruction(seed, index, kind, heldout, singly, earlier)
            index += 1
            prompt = "\n".join(message["content"] for message in made.messages[:-1])
            if not heldout or prompt not in seen:
                break
        seen.add(prompt)
        yield made


def instruction(
    seed: int,
    index: int,
    kind: Kind,
    heldout: bool = False,
    singly: bool = False,
    earlier: float = 0.0,
) -> Instruction:
    """Instruction `index` of `seed`: a pure function, the same on every machine."""
    rng = random.Random(f"hanllama story tasks {seed} {index} {kind} {heldout}")
    goes_on = earlier > 0 and rng.random() < earlier
    while True:
        before = _ask(rng, grammar.pick(rng, KINDS), _MOST_WORDS, 1).messages if goes_on else ()
        if heldout or singly:
            asked = _ask(rng, kind, _MOST_WORDS_SINGLY, 1)
        else:
            asked = _ask(rng, kind, _MOST_WORDS, _QUESTIONS_LATER if goes_on else _QUESTIONS)
        asked = replace(asked, messages=(*before, *asked.messages))
        # An earlier task must not show a held-out one either.
        tasks = [_understood(asked.messages[:end]) for end in range(1, len(asked.messages), 2)]
        if any(task.heldout for task in tasks[:-1]):
            continue
        if asked.task.heldout == heldout and not any(map(_holds_heldout, tasks)):
            return asked


def understand(messages: Messages) -> Task | None:
    """The task of the last user message; None when it is no instruction about stories.

    An answer after it is ignored.
    """
    turns = [message for message in messages if message.get("role") != "system"]
    if turns and turns[-1].get("role") == "assistant":
        turns = turns[:-1]
    if not turns or turns[-1].get("role") != "user":
        return None
    text = turns[-1]["content"].strip()
    found = _read_theme(text) or _read_words(text) or _read_quoted_question(text)
    for turn in reversed(turns[:-1]):  # or a question about the last story told or quoted
        found = found or _read_question(_story_in(turn["content"].strip()), text)
    return found


def judge(task: Task, answer: str) -> Judgement:
    """Whether `answer` obeys `task`."""
    text = answer.strip()
    if task.kind == "question":
        if text in task.answers:
            return Judgement(True, "")
        return Judgement(False, f"the answer is “{task.answers[0]}”, not “{text[:40]}”")
    verdict = grammar.check(text)
    if not verdict.ok:
        return Judgement(False, f"no story of the grammar: {verdict.reason}")
    missing = [word for word in task.words if word not in text]
    if missing:
        return Judgement(False, f"without {_quoted(missing)}")
    if task.plot and verdict.plot != task.plot:
        told = THEMES[str(verdict.plot)][0]
        return Judgement(False, f"about {told}, not about {THEMES[task.plot][0]}")
    for wanted, fact in ((task.hero_kind, "hero_kind"), (task.hero, "hero")):
        if wanted and verdict.facts[fact] != wanted:
            return Judgement(False, f"the hero is {verdict.facts[fact]}, not {wanted}")
    return Judgement(True, "")


# Writing ------------------------------------------------------------------------------------


def _holds_heldout(task: Task) -> bool:
    """Whether a request for three or more words holds a held-out pair."""
    pairs = itertools.combinations(task.words, 2) if len(task.words) > 2 else ()
    return any(Task("words", words=pair).heldout for pair in pairs)


def _ask(rng: random.Random, kind: Kind, most_words: int, questions: int) -> Instruction:
    """Ask for a new story with at most `most_words` words, or ask `questions` about one."""
    story = grammar.write(rng)
    if kind == "question":
        return _ask_questions(rng, story, most_words, questions)
    return _ask_story(rng, story, kind, most_words)


def _ask_story(
    rng: random.Random, story: grammar.Story, kind: Kind, most_words: int
) -> Instruction:
    theme = kind == "theme"
    prompt = _theme_prompt(rng, story) if theme else _words_prompt(rng, story, most_words)
    messages = (_user(prompt), _assistant(story.text))
    return Instruction(messages, _understood(messages[:1]))


def _theme_prompt(rng: random.Random, story: grammar.Story) -> str:
    theme = grammar.pick(rng, THEMES[story.plot])
    kind, name = story.facts["hero_kind"], story.facts["hero"]
    hero = grammar.pick(rng, ("", kind, kind + name))
    phrase = grammar.pick(rng, WAYS["about_hero" if hero else "about_theme"])
    return phrase.format(theme=theme, hero=hero)


def _words_prompt(rng: random.Random, story: grammar.Story, most: int) -> str:
    facts = [story.facts[slot] for slot in _ASKED if slot in story.facts]
    wanted = grammar.pick(rng, range(most)) + 1
    words: list[str] = []
    for word in _shuffled(rng, [word for word in facts if word in story.text]):
        if len(words) < wanted and not any(word in other or other in word for other in words):
            words.append(word)
    return grammar.pick(rng, WAYS["with_words"]).format(words=_quoted(words))


def _ask_questions(
    rng: random.Random, story: grammar.Story, most_words: int, most: int
) -> Instruction:
    facts = {**story.facts, "theme": THEMES[story.plot][0]}
    questions = _shuffled(rng, _questions(story.plot, frozenset(story.facts)))
    rounds: list[tuple[str, Mapping[str, str]]] = []
    for question in questions[:most]:
        asked = grammar.pick(rng, question.asked).format(**facts)
        rounds.append((asked, _assistant(question.answer.format(**facts))))
    messages: list[Mapping[str, str]] = []
    if rng.random() < 0.5:
        asked, answer = rounds.pop(0)
        quoted = grammar.pick(rng, WAYS["about_story"]).format(story=story.text, question=asked)
        messages += (_user(quoted), answer)
    else:
        kind: Kind = grammar.pick(rng, ("theme", "words"))
        messages += _ask_story(rng, story, kind, most_words).messages
    for asked, answer in rounds:
        messages += (_user(asked), answer)
    return Instruction(tuple(messages), _understood(messages[:-1]))


def _shuffled(rng: random.Random, items: Sequence[_Item]) -> list[_Item]:
    """The items in a random order, the same for every version of Python."""
    left, drawn = list(items), []
    while left:
        drawn.append(left.pop(grammar.pick(rng, range(len(left)))))
    return drawn


def _quoted(words: Sequence[str]) -> str:
    """“苹果”、“小桥”和“豆豆”."""
    marked = [f"“{word}”" for word in words]
    return "和".join(("、".join(marked[:-1]), marked[-1])) if len(marked) > 1 else marked[0]


def _user(text: str) -> Mapping[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Mapping[str, str]:
    return {"role": "assistant", "content": text}


def _understood(messages: Messages) -> Task:
    task = understand(messages)
    assert task is not None, f"a written instruction cannot be read back: {messages[-1]}"
    return task


# Reading ------------------------------------------------------------------------------------


def _read_theme(text: str) -> Task | None:
    for pattern in _theme_patterns():
        if match := pattern.fullmatch(text):
            found = match.groupdict()
            kind, name = found.get("kind") or "", found.get("name") or ""
            return Task("theme", _plot_of(found["theme"]), hero_kind=kind, hero=name)
    return None


@cache
def _theme_patterns() -> list[re.Pattern[str]]:
    themes = _one_of(theme for names in THEMES.values() for theme in names)
    kinds = _one_of({person.more["kind"] for person in PEOPLE})
    names = _one_of({person.n for person in PEOPLE})
    hero = f"(?P<kind>{kinds})(?P<name>{names})?"
    return _patterns(
        WAYS["about_hero"] + WAYS["about_theme"], theme=f"(?P<theme>{themes})", hero=hero
    )


@cache
def _plot_of(theme: str) -> str:
    return next(plot for plot, names in THEMES.items() if theme in names)


def _read_words(text: str) -> Task | None:
    for pattern in _words_patterns():
        if match := pattern.fullmatch(text):
            return Task("words", words=tuple(re.findall("“([^”]+)”", match["words"])))
    return None


@cache
def _words_patterns() -> list[re.Pattern[str]]:
    return _patterns(WAYS["with_words"], words="(?P<words>“[^”]+”(?:[、和]“[^”]+”)*)")


def _read_quoted_question(text: str) -> Task | None:
    for pattern in _quoted_patterns():
        match = pattern.fullmatch(text)
        if match and (found := _read_question(match["story"], match["question"])):
            return found
    return None


def _story_in(text: str) -> str:
    """The story that a message quotes, or the message."""
    matches = (pattern.fullmatch(text) for pattern in _quoted_patterns())
    return next((match["story"] for match in matches if match), text)


@cache
def _quoted_patterns() -> list[re.Pattern[str]]:
    return _patterns(WAYS["about_story"], story="(?P<story>.+)", question="(?P<question>[^\n]+)")


def _read_question(story: str, asked: str) -> Task | None:
    verdict = _checked(story)
    if not verdict.ok:
        return None
    plot = str(verdict.plot)
    for question in _questions(plot, frozenset(verdict.facts)):
        if asked in [way.format(**verdict.facts) for way in question.asked]:
            themes = THEMES[plot] if question.about == "theme" else ("",)
            answers = tuple(question.answer.format(**verdict.facts, theme=t) for t in themes)
            return Task("question", plot, about=question.about, story=story, answers=answers)
    return None


@lru_cache(maxsize=4096)  # a story is asked about several times
def _checked(story: str) -> grammar.Verdict:
    return grammar.check(story)


@cache
def _questions(plot: str, facts: frozenset[str]) -> tuple[Question, ...]:
    """The questions that a story of `plot` with these facts answers."""
    return tuple(
        question
        for question in QUESTIONS
        if (plot in question.plots or not question.plots)
        and (question.about == "theme" or question.about in facts)
    )


def _patterns(phrases: Sequence[str], **slots: str) -> list[re.Pattern[str]]:
    """Each phrase as a pattern; `slots` gives the patterns of its slots."""
    found = []
    for phrase in phrases:
        pattern = re.escape(phrase)
        for slot, inside in slots.items():
            pattern = pattern.replace(re.escape("{" + slot + "}"), inside)
        found.append(re.compile(pattern, re.DOTALL))
    return found


def _one_of(words: Iterator[str] | set[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(re.escape(w) for w in sorted(words, key=lambda w: (-len(w), w)))
