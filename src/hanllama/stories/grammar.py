"""The demo corpus: simple Chinese children's stories from a grammar, and the grammar's checker.

A Llama of a million parameters, trained for minutes on a CPU, can only become fluent in a small
language: eleven plots, some hundreds of words, short sentences. Because a grammar writes the
stories, a program can decide whether a model's story is right: `check` accepts exactly the texts
that the grammar can write, with one hero throughout, right measure words, and an ending that
belongs to the beginning.

Writing and checking use the same plots and the same `fits`. `story` walks a plot and draws a
sentence for each step and a word for each slot. `check` walks all plots along a text and keeps, for
every slot, the SET of words that the text still allows; a measure word narrows the set before its
noun is read. Equal states are merged after every step, so the work grows with the length of the
text and not with the number of ways to read it.

`WITHHELD` holds verb-noun pairs that training never shows: a model that uses them does not recite.
`CopyIndex` finds the spans that a model recites.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeVar

from hanllama.stories.tables import (
    DEEDS,
    FREE,
    PLOTS,
    VERB_OF,
    WITHHELD,
    Bank,
    Plot,
    Template,
    Word,
    fits,
)

__all__ = [
    "WITHHELD",
    "CopyIndex",
    "Story",
    "Verdict",
    "check",
    "pick",
    "stories",
    "story",
    "vocabulary",
    "write",
]

# Slots filled by a word; the others hold phrases (times, spots), qualities and verbs.
_WORD_SLOTS = (
    *("hero", "friend", "elder", "place", "landmark", "object", "gift", "food", "second_food"),
    *("hobby", "game", "skill", "chore", "plant", "fear"),
)


@dataclass(frozen=True)
class Story:
    """A generated story: its text, its plot's name, and its facts.

    `facts` maps slots to their words: `hero`, `hero_kind`, `friend`, `friend_kind`, `place`,
    `object`, `game` and so on; a deed is verb and noun together (放风筝).
    """

    text: str
    plot: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Verdict:
    """The result of `check`.

    `ok` means that the grammar can write the text. `pairs` are its verb-noun pairs; those in
    `WITHHELD` go beyond the training. When not `ok`, `plot` is the plot that came furthest, `facts`
    and `pairs` are empty, and `reason` quotes the place where the text left every plot.
    """

    ok: bool
    plot: str | None
    facts: dict[str, str]
    reason: str
    pairs: tuple[tuple[str, str], ...]


def stories(count: int, seed: int) -> Iterator[Story]:
    """The first `count` training stories of `seed`."""
    return (story(seed, index) for index in range(count))


def story(seed: int, index: int) -> Story:
    """Story `index` of `seed`: a pure function, the same on every machine and Python version."""
    return write(random.Random(f"hanllama stories {seed} {index}"))


def vocabulary() -> list[str]:
    """The names, kinds of heroes and nouns of two characters or more, sorted."""
    banks = [plot.slots[slot] for plot in PLOTS for slot in _WORD_SLOTS if slot in plot.slots]
    words = {
        name for bank in banks for word in bank for name in (word.n, word.more.get("kind", ""))
    }
    return sorted(word for word in words if len(word) > 1)


# Writing ------------------------------------------------------------------------------------

_T = TypeVar("_T")


def write(rng: random.Random, forced: Word | None = None, plots: Sequence[Plot] = PLOTS) -> Story:
    """A story drawn from `rng`; uses `forced` where its bank and the other words allow it."""
    plot = pick(rng, plots)
    bound: dict[str, Word] = {}
    _bind(rng, plot, "hero", bound, forced)
    parts: list[str] = []
    for step in plot.steps:
        for slot, form in pick(rng, step):
            if slot == "":
                parts.append(form)
            elif slot in FREE:
                parts.append(pick(rng, plot.slots[slot]).form(form))
            else:
                if slot not in bound:
                    _bind(rng, plot, slot, bound, forced)
                parts.append(bound[slot].form(form))
    return Story("".join(parts), plot.name, _facts(bound))


def _bind(
    rng: random.Random, plot: Plot, slot: str, bound: dict[str, Word], forced: Word | None
) -> None:
    if forced is not None and forced in plot.slots[slot] and fits(slot, forced, bound):
        bound[slot] = forced
        return
    # Children and animals are equally likely heroes, whatever their numbers.
    world = pick(rng, ("child", "animal")) if slot == "hero" else bound["hero"].world
    allowed = _in_training(plot.slots[slot], world)
    if slot in VERB_OF:
        noun = bound[VERB_OF[slot]].n
        allowed = tuple(word for word in allowed if (word.n, noun) not in WITHHELD)
    for _ in range(50):  # most words fit, so trying beats filtering
        word = pick(rng, allowed)
        if fits(slot, word, bound):
            bound[slot] = word
            return
    bound[slot] = pick(rng, [word for word in allowed if fits(slot, word, bound)])


def pick(rng: random.Random, choices: Sequence[_T]) -> _T:
    """One of `choices`, the same for the same `rng` on every machine and Python version."""
    # Python promises to keep the sequence of random() alone between versions.
    return choices[int(rng.random() * len(choices))]


@cache
def _in_training(bank: Bank, world: str) -> Bank:
    return tuple(
        word for word in bank if word.world in ("", world) and (word.v, word.n) not in WITHHELD
    )


def _facts(bound: Mapping[str, Word]) -> dict[str, str]:
    facts = {}
    for slot, word in bound.items():
        facts[slot] = word.form("vn") if slot in DEEDS else word.n
        if "kind" in word.more:
            facts[f"{slot}_kind"] = word.more["kind"]
    return facts


# Checking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reading:
    """One way to read the text up to `at`: the words still possible and the verbs seen."""

    at: int
    words: Mapping[str, Bank]
    verbs: frozenset[str]


class _Text:
    """A text being read, and the furthest place that a reading reached."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.furthest = 0
        self.plot: str | None = None
        self.clash = False

    def came_to(self, at: int, plot: Plot, clash: bool = False) -> None:
        if at > self.furthest or self.plot is None or (clash and at == self.furthest):
            self.furthest, self.plot, self.clash = at, plot.name, clash


def check(text: str) -> Verdict:
    """Whether the grammar can write `text`, stripped of white space, and the facts of the text.

    Linear in the text for each plot: equal readings are merged after each sentence.
    """
    source = _Text(text.strip())
    for plot in PLOTS:
        reading = _read(source, plot)
        if reading is not None:
            bound = {slot: bank[0] for slot, bank in reading.words.items()}
            pairs = [(bound[s].v, bound[s].n) for s in bound if s in reading.verbs]
            pairs += [(bound[v].n, bound[n].n) for v, n in VERB_OF.items() if v in bound]
            return Verdict(True, plot.name, _facts(bound), "", tuple(pairs))
    return Verdict(False, source.plot, {}, _reason(source), ())


def _read(source: _Text, plot: Plot) -> _Reading | None:
    """The reading of the whole text as `plot`, or None; notes the furthest place in `source`."""
    readings = [_Reading(0, {}, frozenset())]
    for step in plot.steps:
        after: dict[object, _Reading] = {}
        for reading in readings:
            for template in step:
                for found in _match(source, plot, template, reading):
                    # A sentence without a new word cannot clash.
                    words = found.words if found.words is reading.words else _agree(found.words)
                    if words is None:
                        source.came_to(found.at, plot, clash=True)
                    else:
                        key = (found.at, frozenset(words.items()))
                        after.setdefault(key, _Reading(found.at, words, found.verbs))
        readings = list(after.values())
    for reading in readings:
        if reading.at == len(source.text):
            return reading
    return None


def _match(source: _Text, plot: Plot, template: Template, start: _Reading) -> list[_Reading]:
    """Every way to read `template` at `start`."""
    text = source.text
    readings = [start]
    for slot, form in template:
        after = []
        for reading in readings:
            options: list[tuple[str, Bank | None]]
            if slot == "":
                options = [(form, None)]
            elif slot in FREE:
                options = [(word.form(form), None) for word in plot.slots[slot]]
            else:
                options = _options(plot, slot, form, reading, text[reading.at : reading.at + 1])
            for written, bank in options:
                if not text.startswith(written, reading.at):
                    if reading.at + len(written) > source.furthest:
                        source.came_to(reading.at + _common(text, reading.at, written), plot)
                    continue
                words, verbs = reading.words, reading.verbs
                if bank is not None:
                    if bank is not words.get(slot):
                        words = {**words, slot: bank}
                    if form in ("v", "vn"):
                        verbs = verbs | {slot}
                at = reading.at + len(written)
                source.came_to(at, plot)
                after.append(_Reading(at, words, verbs))
        readings = after
    return readings


def _options(
    plot: Plot, slot: str, form: str, reading: _Reading, first: str
) -> list[tuple[str, Bank | None]]:
    """The forms that may be written for `slot` here, each with the words that remain possible."""
    bank = reading.words.get(slot, plot.slots[slot])
    if len(bank) == 1:
        return [(bank[0].form(form), bank)]
    return _by_form(bank, form).get(first, [])


@lru_cache(maxsize=4096)  # whole banks and a few narrowed ones; bounded, since texts are foreign
def _by_form(bank: Bank, form: str) -> dict[str, list[tuple[str, Bank | None]]]:
    """The words of `bank` grouped by their written form, under its first character."""
    written: dict[str, list[Word]] = {}
    for word in bank:
        written.setdefault(word.form(form), []).append(word)
    by_first: dict[str, list[tuple[str, Bank | None]]] = {}
    for text, group in written.items():
        by_first.setdefault(text[:1], []).append((text, tuple(group)))
    return by_first


def _agree(words: Mapping[str, Bank]) -> Mapping[str, Bank] | None:
    """`words` without those that do not fit another slot's certain word; None for an empty slot.

    Comparing with certain words is enough: every sentence with a new word, or the next ones, write
    a form that only this word of its bank has (a test checks the banks).
    """
    certain = {slot: bank[0] for slot, bank in words.items() if len(bank) == 1}
    agreed = {}
    for slot, bank in words.items():
        kept = tuple(word for word in bank if fits(slot, word, certain))
        if not kept:
            return None
        agreed[slot] = bank if len(kept) == len(bank) else kept
    return agreed


def _common(text: str, at: int, written: str) -> int:
    length = 0
    while length < len(written) and text[at + length : at + length + 1] == written[length]:
        length += 1
    return length


def _reason(source: _Text) -> str:
    read, rest = source.text[: source.furthest], source.text[source.furthest :]
    if source.clash:
        return f"after “{read[-20:]}”: these words do not go together in one story"
    if not rest:
        return f"stops after “{read[-20:]}”: the story is not over"
    return f"after “{read[-20:]}”: unexpected “{rest[:20]}”"


# Copies -------------------------------------------------------------------------------------

_STRIDE = 4  # every fourth place is indexed: a quarter of the time and memory
_DEPTH = 48  # places are sorted by this many characters; more would only cost memory
_END = "\0"  # between training texts: no copy crosses from one into the next


class CopyIndex:
    """Finds the longest span of a text that occurs verbatim in the training texts.

    A suffix array over every fourth place of the training text, four bytes a place: any span of
    four characters or more has an indexed place among its first four. For each place of the queried
    text a binary search finds the longest indexed match to its right; the longest of all bounds the
    answer from below. Then only the places that could beat it are compared one by one, with up to
    three more characters on their left. Building sorts one first character at a time, so that the
    sort keys of the whole corpus never exist at once.

    A suffix automaton answers in one pass, but in Python costs hundreds of bytes a character.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Index `texts`; 20,000 stories take a few seconds and some tens of megabytes."""
        corpus = _END.join(texts)
        by_first: dict[str, array[int]] = {}
        for order, first in enumerate(corpus[::_STRIDE]):
            by_first.setdefault(first, array("I")).append(order * _STRIDE)
        places = array("I")
        for first in sorted(by_first):
            places.extend(sorted(by_first.pop(first), key=lambda at: corpus[at : at + _DEPTH]))
        self._corpus = corpus
        self._places = places

    def longest_copy(self, text: str) -> str:
        """A longest span of `text` that occurs in one training text; "" when there is none.

        `text` may not hold the character U+0000.
        """
        ahead = [self._ahead(text, at) for at in range(len(text))]
        length = max(ahead, default=0)
        if length < 2 * _STRIDE:
            return self._short_copy(text)
        start = ahead.index(length)
        for at, reach in enumerate(ahead):
            # A longer span has an indexed place among its first four characters. Places that agree
            # to the full depth are in no order, so a neighbour bounds nothing there.
            if reach >= _DEPTH or reach + _STRIDE - 1 > length:
                least = length + 2 - _STRIDE
                for place in self._sharing(text[at : at + min(least, _DEPTH)]):
                    left = self._behind(text, at, place)
                    found = left + self._common(text, at, place)
                    if found > length:
                        start, length = at - left, found
        return text[start : start + length]

    def _short_copy(self, text: str) -> str:
        """The answer for foreign texts, whose short spans may lie between indexed places."""
        best = ""
        for at in range(len(text)):
            while len(longer := text[at : at + len(best) + 1]) > len(best):
                if longer not in self._corpus:
                    break
                best = longer
        return best

    def _ahead(self, text: str, at: int) -> int:
        """How many characters `text` from `at` shares with a neighbour in the sorted places."""
        rank = self._rank(text[at : at + _DEPTH])
        neighbours = self._places[max(rank - 1, 0) : rank + 1]
        return max((self._common(text, at, place) for place in neighbours), default=0)

    def _sharing(self, span: str) -> Iterator[int]:
        """The indexed places at which `span` begins."""
        for rank in range(self._rank(span), len(self._places)):
            place = self._places[rank]
            if not self._corpus.startswith(span, place):
                return
            yield place

    def _rank(self, span: str) -> int:
        corpus, size = self._corpus, len(span)
        return bisect_left(self._places, span, key=lambda at: corpus[at : at + size])

    def _common(self, text: str, at: int, place: int) -> int:
        """How many characters `text` from `at` shares with the training text from `place`."""
        corpus, room = self._corpus, min(len(text) - at, len(self._corpus) - place)
        length, step = 0, 32
        while step:  # whole slices compare faster than characters
            if length + step <= room and corpus.startswith(
                text[at + length : at + length + step], place + length
            ):
                length += step
            else:
                step //= 2
        return length

    def _behind(self, text: str, at: int, place: int) -> int:
        """How many characters before `at` and `place` agree, fewer than the stride."""
        most = min(_STRIDE - 1, at, place)
        left = 0
        while left < most and text[at - left - 1] == self._corpus[place - left - 1]:
            left += 1
        return left
