"""Find questions in a text: which, where, and how much of each.

An n-gram is n units (see `kernels`) of Han, letters and digits alone, so different punctuation
hides nothing. A question shorter than n is one n-gram. An n-gram in many different questions is a
common phrase and does not count. A question leaks when one text holds a large enough share of its
other n-grams. A question of which less than half counts cannot be told from other text, so it is
not searched for.

Memory grows with the questions only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from hanllama.corpus.decontaminate.kernels import EAST_ASIA
from hanllama.corpus.decontaminate.questions import Question
from hanllama.text.letters import code_points, folded


@dataclass(frozen=True)
class Hits:
    """The questions' n-grams in a text: [n] begin, end and number of each."""

    begins: Any
    ends: Any
    grams: Any


class Matcher:
    """The questions' n-grams, indexed for the search.

    Attributes:
        questions: as given. grams: the number of n-grams, repeats included.
        searchable: [questions] bool.
        size: [questions] the number of different n-grams that count.
    """

    def __init__(
        self, questions: list[Question], ngram: int, shortest: int, common_questions: int
    ) -> None:
        from hanllama.corpus.decontaminate import kernels
        from hanllama.text.tables import free

        self.questions = questions
        self._words(questions)
        texts = [self.units(q.text)[0] for q in questions]
        self._units = np.concatenate(texts)
        first = np.concatenate([[0], np.cumsum([len(t) for t in texts])]).astype(np.int64)
        lengths = np.diff(first)
        # Every place of a long question at which n units begin, and each short question once.
        starts, owners, sizes = [], [], []
        for number, length in enumerate(lengths):
            if length >= shortest:
                count = max(length - ngram + 1, 1)
                starts.append(first[number] + np.arange(count))
                owners.append(np.full(count, number))
                sizes.append(np.full(count, min(length, ngram)))
        empty = np.zeros(0, np.int64)
        self._starts = np.concatenate([empty, *starts])
        self._lengths = np.concatenate([empty, *sizes])
        owner = np.concatenate([empty, *owners])
        is_short = self._lengths < ngram
        numbers = np.zeros(len(owner), np.int64)
        # (key length, table, n-grams, their starts, their lengths)
        self._tables: list[tuple[int, Any, Any, Any, Any]] = []
        for key_length, members in (
            (ngram, np.flatnonzero(~is_short)),
            (shortest, np.flatnonzero(is_short)),
        ):
            slots = free(len(members))
            own_starts, own_lengths = self._starts[members], self._lengths[members]
            place = kernels.index(self._units, own_starts, own_lengths, key_length, slots)
            numbers[members] = members[place]
            self._tables.append((key_length, slots, members, own_starts, own_lengths))
        self._count(numbers, owner, common_questions)

    def _words(self, questions: list[Question]) -> None:
        """Index the words of the questions for `kernels.units`."""
        from hanllama.corpus.decontaminate import kernels
        from hanllama.text.tables import free

        folds = folded()
        words: dict[bytes, None] = {}
        for question in questions:
            letters = folds[code_points(question.text)]
            mark = np.where((letters > 0) & (letters < EAST_ASIA), "w", " ")
            for match in re.finditer("w+", "".join(mark.tolist())):
                words.setdefault(letters[match.start() : match.end()].tobytes())
        arrays = [np.frombuffer(word, np.uint32) for word in words]
        self._letters = np.concatenate([np.zeros(0, np.uint32), *arrays])
        self._word_starts = np.concatenate([[0], np.cumsum([len(a) for a in arrays])]).astype(
            np.int64
        )
        self._word_slots = free(len(arrays))
        kernels.add_words(self._letters, self._word_starts, self._word_slots)

    def _count(self, numbers: Any, owner: Any, common_questions: int) -> None:
        """Find the n-grams that count, and the questions of each."""
        pairs = np.unique(np.stack([numbers, owner], axis=1), axis=0)
        self.grams = len(self._starts)
        # A question published twice (dev and few-shot prompts) counts as one.
        same: dict[str, int] = {}
        identity = [same.setdefault(q.text, number) for number, q in enumerate(self.questions)]
        different = np.unique(
            np.stack([pairs[:, 0], np.array(identity)[pairs[:, 1]]], axis=1), axis=0
        )
        in_questions = np.bincount(different[:, 0], minlength=self.grams)
        self.counting = in_questions <= common_questions  # [grams] bool
        self._pairs = pairs
        self._first_pair = np.searchsorted(pairs[:, 0], np.arange(self.grams + 1))
        by_question = pairs[np.argsort(pairs[:, 1], kind="stable")]
        self._of_question = by_question[:, 0]
        self._first_gram = np.searchsorted(by_question[:, 1], np.arange(len(self.questions) + 1))
        self.resize()

    def ignore(self, grams: Any) -> None:
        """Do not count these n-grams: they occur in many documents."""
        self.counting[grams] = False
        self.resize()

    def resize(self) -> None:
        """Recount the n-grams of each question."""
        n = len(self.questions)
        total = np.bincount(self._pairs[:, 1], minlength=n)
        counting = self._pairs[self.counting[self._pairs[:, 0]]]
        self.size = np.bincount(counting[:, 1], minlength=n)
        self.searchable = (self.size > 0) & (2 * self.size >= total)

    def units(self, text: str) -> tuple[Any, Any, Any]:
        """(units, begins, ends) of a text."""
        from hanllama.corpus.decontaminate import kernels

        found: tuple[Any, Any, Any] = kernels.units(
            code_points(text), folded(), self._word_slots, self._letters, self._word_starts
        )
        return found

    def find(self, text: str) -> Hits:
        """Every occurrence in a text of a question's n-gram that counts."""
        from hanllama.corpus.decontaminate import kernels

        units, begins, ends = self.units(text)
        places, grams = [], []
        for key_length, slots, members, starts, lengths in self._tables:
            at, found = kernels.find(units, self._units, starts, lengths, key_length, slots)
            places.append(at)
            grams.append(members[found])
        place, gram = np.concatenate(places), np.concatenate(grams)
        kept = self.counting[gram]
        place, gram = place[kept], gram[kept]
        return Hits(begins[place], ends[place + self._lengths[gram] - 1], gram)

    def leaks(self, hits: Hits, minimum_share: float) -> list[tuple[int, float]]:
        """(question, share of its n-grams) of each question that leaks, given a text's hits."""
        if not len(hits.grams):
            return []
        owners = np.concatenate([self._owners(gram) for gram in np.unique(hits.grams)])
        number, covered = np.unique(owners, return_counts=True)
        share = covered / np.maximum(self.size[number], 1)
        leaking = self.searchable[number] & (share >= minimum_share)
        return [(int(q), float(s)) for q, s in zip(number[leaking], share[leaking], strict=True)]

    def of_question(self, hits: Hits, question: int) -> Any:
        """[hits] bool: whether the n-gram belongs to the question."""
        first, last = self._first_gram[question : question + 2]
        return np.isin(hits.grams, self._of_question[first:last])

    def _owners(self, gram: int) -> Any:
        return self._pairs[self._first_pair[gram] : self._first_pair[gram + 1], 1]
