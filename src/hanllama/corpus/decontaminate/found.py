"""The findings of a decontamination: leaks, counts per benchmark, and the report card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.corpus.decontaminate.questions import Question

HEADINGS = ("benchmark", "questions", "searched", "leaked", "share")
SHOWN = 3  # leaks shown per benchmark on a terminal
LISTED = 25  # and on the page
SHOWN_CHARACTERS = 70


@dataclass(frozen=True)
class Leak:
    """One question in one document.

    Attributes:
        number: of the question among all. share: of its n-grams, in the document.
        position: the character of the text around which most matches lie.
    """

    number: int
    question: Question
    share: float
    document: str
    source: str
    position: int
    excerpt: str

    def as_dict(self) -> dict[str, Any]:
        """A line of leaks.jsonl."""
        question = self.question
        return {
            "benchmark": question.benchmark,
            "file": question.file,
            "number": question.number,
            "share": round(self.share, 4),
            "question": question.text,
            "document": self.document,
            "source": self.source,
            "position": self.position,
            "excerpt": self.excerpt,
        }


@dataclass
class Found:
    """Counts, and the best match of each question; memory grows with the questions only."""

    questions: list[Question]
    searchable: Any  # [questions] bool
    empty_files: list[str]
    common: int  # n-grams that do not count because they occur in many documents
    documents: int = 0
    characters: int = 0
    leaking_documents: int = 0
    removed: int = 0
    removed_characters: int = 0
    best: dict[int, Leak] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)  # question -> documents
    quarantined: dict[str, int] = field(default_factory=dict)

    def add(self, leak: Leak) -> None:
        """Add a leak."""
        self.seen[leak.number] = self.seen.get(leak.number, 0) + 1
        if leak.number not in self.best or leak.share > self.best[leak.number].share:
            self.best[leak.number] = leak

    def count(self, searched: Any) -> None:
        """Add the counts of a piece (`decontaminate.Searched`)."""
        self.documents += searched.documents
        self.characters += searched.characters
        self.leaking_documents += len({leak.document for leak in searched.leaks})
        self.removed += searched.removed
        self.removed_characters += searched.removed_characters

    def benchmarks(self) -> list[tuple[str, int, int, int, float]]:
        """(benchmark, questions, searchable, leaked, leaked share of searchable)."""
        names = np.array([q.benchmark for q in self.questions])
        leaked = np.zeros(len(names), bool)
        leaked[list(self.best)] = True
        rows = []
        for name in sorted(set(names.tolist())):
            own = names == name
            able = int((own & self.searchable).sum())
            found = int((own & leaked).sum())
            rows.append((name, int(own.sum()), able, found, found / able if able else 0.0))
        return rows

    def ranked(self, benchmark: str) -> list[Leak]:
        """The leaks of a benchmark, the largest share first."""
        own = [leak for leak in self.best.values() if leak.question.benchmark == benchmark]
        return sorted(own, key=lambda leak: (-leak.share, leak.number))

    def as_dict(self) -> dict[str, Any]:
        """The content of report.json."""
        return {
            "documents": self.documents,
            "characters": self.characters,
            "leaking_documents": self.leaking_documents,
            "removed_documents": self.removed,
            "removed_characters": self.removed_characters,
            "ignored_in_many_documents": self.common,
            "benchmarks": [dict(zip(HEADINGS, row, strict=True)) for row in self.benchmarks()],
            "files_without_questions": self.empty_files,
            "quarantined": self.quarantined,
        }

    def card(self) -> Card:
        """The report card: the counts, and the leaks of each benchmark with the largest shares."""
        card = Card("Decontamination")
        rows = self.benchmarks()
        facts = {
            "questions leak": len(self.best),
            "documents leak": self.leaking_documents,
            "documents": self.documents,
            "characters": self.characters,
            "documents removed": self.removed,
            "characters removed": self.removed_characters,
        }
        card.section("Benchmarks")
        card.facts(facts)
        card.table([(*row, f"{leaked:.2%}") for *row, leaked in rows], HEADINGS)
        unsearched = len(self.questions) - int(self.searchable.sum())
        if unsearched:
            card.note(f"{unsearched:,} questions are too short or too common to be searched for")
        if self.empty_files:
            card.note(f"no question in {', '.join(self.empty_files[:10])}", "warning")
        card.counts("cannot be read", self.quarantined, "records")
        for name, *_ in rows:
            leaks = self.ranked(name)
            heads = ("question", "share", "documents", "text", "found in", "reading")
            cells = [
                (
                    f"{leak.question.file} {leak.question.number}",
                    leak.share,
                    self.seen[leak.number],
                    leak.question.text[:300],
                    f"{leak.document}, {leak.position:,}",
                    leak.excerpt,
                )
                for leak in leaks[:LISTED]
            ]
            card.section(name, report.table(cells, headings=heads))
            for leak in leaks[:SHOWN]:
                question = leak.question
                card.say(
                    f"{name}: {question.file} {question.number}, {leak.share:.0%} of it",
                    f"    question {_line(question.text)}",
                    f"    in {leak.document}, from character {leak.position:,}",
                    f"    reading  {_line(leak.excerpt)}",
                )
        return card


def _line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else flat[: SHOWN_CHARACTERS - 1] + "…"
