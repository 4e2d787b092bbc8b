"""The language of the demo stories, read from the text tables beside this file.

`words.txt` holds the words, `plots.txt` the steps of each plot with their sentences, `phrases.txt`
the ways to ask for a story and about one. The first lines of each table give its format. A mistake
in a table is an error with file and line: a slot without a bank, a form that a word of a bank
lacks, a question about an unknown plot.

A `Word` is one meaning with its written forms. Verb, measure word and noun stand in ONE entry, so a
story and its checker agree: 一把雨伞 and 吃苹果 are looked up, never assembled. `fits` decides
which words go together (a child and a playground, but no kite in a pond).

A slot keeps its word through the whole story; nothing else makes it coherent. So every sentence of
a step must read well after every sentence of the steps before it, whatever the words.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NoReturn

from hanllama.base.errors import InputError

FREE = frozenset({"glad", "sad"})
"""Slots drawn again at each use: words for one feeling, as people vary them."""

DEEDS = frozenset({"hobby", "game", "skill", "chore", "plant"})
"""Slots whose fact is verb and noun together (放风筝); the other facts are nouns or names."""

VERB_OF = {"carry": "object", "hold": "food"}
"""Slots of a verb alone -> the slot of its noun, which the story has named before."""


@dataclass(frozen=True, eq=False)
class Word:
    """One entry of a bank; compared by identity, so homographs of two banks stay apart.

    `n` is the noun (or name), `v` its verb, `cl` its measure word. `world` is "child", "animal"
    or "" for both. `at` names the places it belongs to; empty for anywhere. `more` holds forms
    that only some banks have.
    """

    n: str
    v: str = ""
    cl: str = ""
    world: str = ""
    at: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)

    def form(self, name: str) -> str:
        """The written form `name`: a field, `vn`, `full` or one of `more`; "" when missing."""
        if name == "n":
            return self.n
        if name == "v":
            return self.v
        if name == "cl":
            return self.cl
        if name == "vn":
            return self.v + self.n
        if name == "full":  # a child goes by its name, an animal is met with its kind
            return self.more["kind"] + self.n if self.world == "animal" else self.n
        return self.more.get(name, "")


Bank = tuple[Word, ...]
"""The words that may fill one slot."""

Ways = tuple[str, ...]
"""Texts with one meaning."""

Template = tuple[tuple[str, str], ...]
"""A sentence in pieces: ("", literal) or (slot, form)."""


@dataclass(frozen=True)
class Plot:
    """A plot: its name, the bank of each slot, and its steps (each a choice of sentences)."""

    name: str
    slots: Mapping[str, Bank]
    steps: tuple[tuple[Template, ...], ...]


@dataclass(frozen=True)
class Question:
    """A question that the stories of some plots answer, the ways to ask it, and its answer.

    `about` is the fact that the answer must name; `plots` is empty for every story with this fact.
    """

    about: str
    plots: tuple[str, ...]
    asked: Ways
    answer: str


def fits(slot: str, word: Word, bound: Mapping[str, Word]) -> bool:
    """Whether `word` may fill `slot` in a story whose other slots hold `bound`.

    Everything belongs to the hero's world; a thing that belongs to a place is at that place; two
    slots never hold the same word. All else is allowed: two rabbits may be friends.
    """
    hero = bound.get("hero")
    if hero is not None and slot != "hero" and word.world not in ("", hero.world):
        return False
    for other_slot, other in bound.items():
        if other_slot == slot:
            continue
        if other is word:
            return False
        if other_slot == "place" and word.at and other.n not in word.at:
            return False
        if slot == "place" and other.at and word.n not in other.at:
            return False
    return True


# Reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line of a table, with its file and line number for messages."""

    text: str
    where: str

    def wrong(self, problem: str) -> NoReturn:
        """Raise InputError for a problem of this line."""
        raise InputError(f"{self.where}: {problem}: {self.text}")

    def pieces(self) -> Template:
        """The line as a template, cut at each `{slot.form}`; a missing form is `n`."""
        pieces: list[tuple[str, str]] = []
        try:
            for literal, name, _, _ in string.Formatter().parse(self.text):
                pieces += [("", literal)] if literal else []
                if name is not None:
                    slot, _, form = name.partition(".")
                    pieces.append((slot, form or "n"))
        except ValueError:
            self.wrong("a brace has no partner")
        return tuple(pieces)

    def slots(self) -> set[str]:
        """The slots that the line names."""
        return {slot for slot, _ in self.pieces() if slot}


@dataclass(frozen=True)
class Section:
    """The lines below a head `[name: columns]`, in blocks between blank lines."""

    columns: tuple[str, ...]
    head: Line
    blocks: list[list[Line]]

    def __iter__(self) -> Iterator[Line]:
        return chain.from_iterable(self.blocks)


def read_sections(path: Path) -> dict[str, Section]:
    """name -> section of a table; a line that begins with # is a comment.

    Raises InputError for a line before the first head, and for a name given twice.
    """
    sections: dict[str, Section] = {}
    blocks: list[list[Line]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        line = Line(text.strip(), f"{path}, line {number}")
        if line.text.startswith("["):
            name, _, columns = line.text.strip("[]").partition(":")
            if name in sections:
                line.wrong("a second section has this name")
            blocks = [[]]
            sections[name] = Section(tuple(columns.split()), line, blocks)
        elif not line.text:
            blocks.append([])
        elif not line.text.startswith("#"):
            if not sections:
                line.wrong("the line stands before the first [section]")
            blocks[-1].append(line)
    return sections


def read_banks(path: Path) -> dict[str, Bank]:
    """name -> bank of `words.txt`.

    Raises InputError for a line without the columns of its section, and for an unknown world.
    """
    banks: dict[str, Bank] = {}
    for name, section in read_sections(path).items():
        words: list[Word] = []
        world, at = "", ""
        for line in section:
            if line.text.startswith("@"):
                world, _, at = line.text.partition(" ")
                if world not in ("@child", "@animal", "@-"):
                    line.wrong("the world must be @child, @animal or @- for both")
                continue
            for forms in _rows(line, section.columns):
                n, v, cl = (forms.pop(form, "") for form in ("n", "v", "cl"))
                words.append(Word(n, v, cl, world.strip("@-"), tuple(at.split()), forms))
        banks[name] = tuple(words)
    return banks


def _rows(line: Line, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The forms of each word of a line: one word, or one per noun when the last column is `n+`."""
    fields = ["" if text == "-" else text for text in line.text.split()]
    names = [column.rstrip("+") for column in columns]
    shared = len(columns) - 1
    if len(fields) < len(columns) or (len(fields) > len(columns) and columns[-1] != "n+"):
        line.wrong(f"the line must have the columns {' '.join(columns)}")
    for last in fields[shared:]:
        yield dict(zip(names, (*fields[:shared], last), strict=True))


def read_plots(path: Path, banks: Mapping[str, Bank]) -> tuple[Plot, ...]:
    """The plots of `plots.txt`; its section `every` holds the first slots and steps of each plot.

    Raises InputError for a slot without a bank, and for a form that a word of its bank lacks.
    """
    sections = read_sections(path)
    every = sections.pop("every")
    plots = []
    for name, section in sections.items():
        slots = _slots(every, banks) | _slots(section, banks)
        plots.append(Plot(name, slots, (*_steps(every, slots), *_steps(section, slots))))
    return tuple(plots)


def _slots(section: Section, banks: Mapping[str, Bank]) -> dict[str, Bank]:
    slots = {}
    for slot, _, name in (column.partition("=") for column in section.columns):
        bank = (Word(name.strip("“”")),) if name.startswith("“") else banks.get(name or slot)
        if not bank:
            section.head.wrong(f"no bank of words for {name or slot}")
        slots[slot] = bank
    return slots


def _steps(section: Section, slots: Mapping[str, Bank]) -> Iterator[tuple[Template, ...]]:
    """The steps of a plot, one per block; ¶ at the head of a block begins a paragraph."""
    for block in filter(None, section.blocks):
        if block[0].text == "¶":
            yield ((("", "\n"),),)
            block = block[1:] or block[0].wrong("no sentence follows")
        yield tuple(_checked(line, slots) for line in block)


def _checked(line: Line, slots: Mapping[str, Bank]) -> Template:
    pieces = line.pieces()
    for slot, form in pieces:
        if slot and (slot not in slots or not all(word.form(form) for word in slots[slot])):
            line.wrong(f"some word of the bank has no form {{{slot}.{form}}}")
    return pieces


def read_phrases(
    path: Path, plots: Sequence[Plot]
) -> tuple[dict[str, Ways], tuple[Question, ...], dict[str, Ways]]:
    """(themes of each plot, questions, phrases of each kind of request) of `phrases.txt`.

    Raises InputError for an unknown plot or fact, and for a phrase without the slots of its task.
    """
    sections = read_sections(path)
    themes = {}
    for line in sections.pop("theme"):
        plot, *names = line.text.split()
        if not names or plot not in {p.name for p in plots}:
            line.wrong("the line must name a plot and its themes")
        themes[plot] = tuple(names)
    questions = tuple(_question(line, plots) for line in sections.pop("question"))
    ways = {}
    for name, section in sections.items():
        for line in section:
            if line.slots() != set(section.columns):
                line.wrong(f"the phrase must hold {' and '.join(section.columns)} in braces")
        ways[name] = tuple(line.text.replace("\\n", "\n") for line in section)
    return themes, questions, ways


def _question(line: Line, plots: Sequence[Plot]) -> Question:
    fields = line.text.split()
    if len(fields) < 4:
        line.wrong("the line must hold a fact, its plots, ways to ask and an answer")
    about, where, *asked, answer = fields
    named = () if where == "-" else tuple(where.split(","))
    if unknown := set(named) - {plot.name for plot in plots}:
        line.wrong(f"unknown plot {', '.join(sorted(unknown))}")
    for plot in plots:
        facts = {*plot.slots, "hero_kind", "friend_kind", "theme"}
        if plot.name in named and (unknown := (line.slots() | {about}) - facts):
            line.wrong(f"the plot {plot.name} has no {', '.join(sorted(unknown))}")
    return Question(about, named, tuple(asked), answer)


_HERE = Path(__file__).parent
BANKS: Mapping[str, Bank] = read_banks(_HERE / "words.txt")
WITHHELD = frozenset((word.v, word.n) for word in BANKS["withheld"])
"""Verb-noun pairs of the grammar that training never shows."""
PEOPLE: Bank = BANKS["hero"] + BANKS["friend"]
PLOTS: tuple[Plot, ...] = read_plots(_HERE / "plots.txt", BANKS)
THEMES, QUESTIONS, WAYS = read_phrases(_HERE / "phrases.txt", PLOTS)
