"""The report of a deduplication: the table on the terminal, report.json and report.html."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.corpus.dedup.clusters import Fates, Lines
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.work import Store

MAX_LINES = 200  # boilerplate lines listed
WORDS = {
    "exact": "exact copies",
    "minhash": "near duplicates (MinHash)",
    "simhash": "near duplicates (SimHash)",
    "contained": "contained in another",
}


class Summary:
    """Counts of a run; the last pass fills in the attributes.

    Attributes:
        documents_kept, characters_kept: written to the output.
        emptied: documents that held only boilerplate lines.
        lines: the removed boilerplate lines.
        clusters: the largest ones, as in clusters.jsonl.
    """

    def __init__(self, config: DedupConfig, store: Store, fates: Fates) -> None:
        self.config = config
        self.fates = fates
        self.documents = store.documents
        self.quarantined = store.rejects
        # Without boilerplate lines, and of those lines.
        self.characters = sum(int(b[:, 2].sum(dtype=np.int64)) for b in store.blocks("counts"))
        self.cut_characters = sum(int(b.sum()) for b in store.blocks("cut_characters"))
        self.in_corpus = np.zeros(len(config.inputs), dtype=np.int64)
        for block in store.blocks("corpus"):
            self.in_corpus += np.bincount(block, minlength=len(config.inputs))
        self._characters_of = _characters(store, fates.document)
        self._corpus_of = _corpora(store, fates.document)
        self._kept_corpus_of = _corpora(store, fates.root)
        self.documents_kept = self.characters_kept = self.emptied = 0
        self.lines = Lines(store)
        self.clusters: list[dict[str, Any]] = []

    def rows(self) -> list[tuple[str, int, int, str, int]]:
        """(stage, documents, characters, share of the characters read, documents removed)."""
        read = self.characters + self.cut_characters
        documents, characters = self.documents, read
        rows = [("read", documents, characters, 0)]
        if self.config.exact_lines:
            characters -= self.cut_characters
            rows.append(("boilerplate lines", documents, characters, 0))
        for number, how in enumerate(self.fates.hows):
            here = self.fates.how == number
            removed = int(here.sum())
            documents -= removed
            characters -= int(self._characters_of[here].sum())
            rows.append((WORDS[how], documents, characters, removed))
        if self.emptied:
            characters = self.characters_kept
            documents = self.documents_kept
            rows.append(("nothing else left", documents, characters, self.emptied))
        return [(name, d, c, report.share(c, read), removed) for name, d, c, removed in rows]

    def corpus_rows(self) -> list[list[Any]]:
        """[input, documents, copies within it, copies of another input, kept] of each input."""
        rows: list[list[Any]] = []
        for number, name in enumerate(self.config.inputs):
            here = self._corpus_of == number
            own = int((here & (self._kept_corpus_of == number)).sum())
            other = int(here.sum()) - own
            documents = int(self.in_corpus[number])
            rows.append([name, documents, own, other, documents - own - other])
        return rows

    def as_dict(self) -> dict[str, Any]:
        """The content of report.json."""
        keys = ("stage", "documents", "characters", "share", "removed")
        corpus_keys = ("corpus", "documents", "removed_within", "removed_across", "kept")
        return {
            "stages": [dict(zip(keys, row, strict=True)) for row in self.rows()],
            "corpora": [dict(zip(corpus_keys, row, strict=True)) for row in self.corpus_rows()],
            "kept": {"documents": self.documents_kept, "characters": self.characters_kept},
            "clusters": len(self.fates.roots),
            "lines": {
                "distinct": self.lines.distinct,
                "removed": int(self.lines.times.sum()),
                "first": dict(self._top_lines()),
            },
            "quarantined": dict(sorted(self.quarantined.items())),
        }

    def _top_lines(self) -> list[tuple[str, int]]:
        return heapq.nsmallest(MAX_LINES, self.lines, key=lambda item: (-item[1], item[0]))

    def card(self) -> Card:
        """The report card; report.json is `as_dict`."""
        facts = {
            "documents read": self.documents,
            "documents kept": self.documents_kept,
            "characters kept": self.characters_kept,
            "clusters": len(self.fates.roots),
            "boilerplate lines removed": int(self.lines.times.sum()),
            "records in quarantine": self.quarantined.total(),
        }
        card = Card("Deduplication")
        card.section("Result", report.facts(facts))
        card.section("Stages")
        card.table(self.rows(), ["stage", "documents", "characters", "of what was read", "removed"])
        card.section("Inputs")
        card.table(
            self.corpus_rows(),
            ["input", "documents", "copies within", "copies of another", "kept"],
        )
        shares = [
            report.histogram(
                self.fates.similarity[self.fates.how == number].tolist(),
                title=WORDS[how],
                x="similarity with the document that stays",
                y="documents removed",
            )
            for number, how in enumerate(self.fates.hows)
            if how != "exact" and (self.fates.how == number).any()
        ]
        card.section("Similarities", *shares)
        card.section("Largest clusters", self._cluster_table())
        table = report.table(self._top_lines(), headings=["line", "times removed"])
        card.section("Boilerplate lines", table)
        card.section("Quarantine")
        card.counts("quarantined", self.quarantined, "records")
        return card

    def _cluster_table(self) -> Any:
        rows = []
        for cluster in self.clusters:
            first = cluster["removed"][0]
            hows = Counter(entry["how"] for entry in cluster["removed"])
            rows.append(
                (
                    cluster["members"],
                    ", ".join(f"{n} x {how}" for how, n in hows.most_common()),
                    cluster["kept"]["id"],
                    cluster["kept"]["text"],
                    first["id"],
                    first["text"],
                )
            )
        headings = ["removed", "how", "kept", "its beginning", "a removed one", "its beginning"]
        return report.table(rows, headings=headings)


def _characters(store: Store, documents: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(documents):
        return documents
    return np.asarray(store.take("counts", documents)[:, 2], dtype=np.int64)


def _corpora(store: Store, documents: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(documents):
        return documents
    return np.asarray(store.take("corpus", documents), dtype=np.int64)
