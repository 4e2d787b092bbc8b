"""Count the documents that cleaning removed and why: per rule, file, script and source.

Counts are sums, so jobs may be counted in any process and added in order. Nothing here depends on
the machine, the time or the number of workers: the same corpus must give the same bytes. `as_dict`
is the content of `report.json`; a resumed cleaning continues from `state`. `funnel_report.py` makes
the report card.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, get_args, get_origin

import msgspec
import numpy as np

from hanllama.text.scripts import Scripts

MAX_EXAMPLES = 3  # shown for each reason, and for each rule's changes
MAX_LISTED = 1000  # files and duplicates listed; all are counted
MAX_GROUPS = 200  # sources, categories or licences counted separately; the rest is one group
OTHERS = "(others)"
EXAMPLE_CHARACTERS = 200
BINS_PER_DECADE = 8  # of the histogram of lengths


@dataclass
class Tally:
    """Counts of one rule."""

    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """reason -> the first dropped documents"""
    changes: list[dict[str, str]] = field(default_factory=list)
    """the first changed documents, and the first lines that differ"""

    def kept(self, identity: str, before: str, after: str) -> None:
        """Count a document that the rule kept, perhaps changed."""
        self.documents_in += 1
        self.documents_out += 1
        self.characters_in += len(before)
        self.characters_out += len(after)
        if before != after:
            self.changed += 1
            if len(self.changes) < MAX_EXAMPLES:
                old, new = first_change(before, after)
                self.changes.append({"id": identity, "before": old, "after": new})

    def dropped_for(self, reason: str, identity: str, text: str) -> None:
        """Count a document that the rule dropped."""
        self.documents_in += 1
        self.characters_in += len(text)
        self.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append({"id": identity, "beginning": text[:EXAMPLE_CHARACTERS]})

    def add(self, other: Tally) -> None:
        """Add the counts of a later job."""
        self.documents_in += other.documents_in
        self.documents_out += other.documents_out
        self.characters_in += other.characters_in
        self.characters_out += other.characters_out
        self.changed += other.changed
        self.dropped += other.dropped
        self.changes += other.changes[: MAX_EXAMPLES - len(self.changes)]
        for reason, examples in other.examples.items():
            shown = self.examples.setdefault(reason, [])
            shown += examples[: MAX_EXAMPLES - len(shown)]

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return asdict(self) | {"dropped": dict(sorted(self.dropped.items()))}


def first_change(before: str, after: str) -> tuple[str, str]:
    """The first lines that differ, as (before, after); "" for lines that were added or removed.

    Two lines at the same place count as one changed line, unless one of them occurs a little later
    in the other text: then lines were removed or added before it.
    """
    place = _common_prefix(before, after)
    start = before.rfind("\n", 0, place) + 1
    old, new = (text[start:].split("\n", 30)[:30] for text in (before, after))
    if new[0] in old and new[0].strip():
        return _shortened("\n".join(old[: old.index(new[0])])), ""
    if old[0] in new and old[0].strip():
        return "", _shortened("\n".join(new[: new.index(old[0])]))
    # Where a long line differs late, its beginning shows nothing.
    skip = max(place - start - EXAMPLE_CHARACTERS // 2, 0)
    return _shortened(old[0][skip:]), _shortened(new[0][skip:])


def _common_prefix(a: str, b: str) -> int:
    """How many characters at the start are equal; compares blocks, then halves."""
    low, step = 0, 2**16
    while step:
        while low + step <= min(len(a), len(b)) and a[low : low + step] == b[low : low + step]:
            low += step
        step //= 2
    return low


def _shortened(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"


@dataclass
class FileTally:
    """Counts of one file."""

    name: str = ""
    encoding: str = ""
    documents: int = 0
    characters: int = 0
    quarantined: int = 0

    def add(self, other: FileTally) -> None:
        """Add the counts of a later job for the same file."""
        self.encoding = self.encoding or other.encoding
        self.documents += other.documents
        self.characters += other.characters
        self.quarantined += other.quarantined


@dataclass
class Lengths:
    """Documents by length in characters, in eighths of a decade, so that counts add up."""

    bins: Counter[int] = field(default_factory=Counter)

    def count(self, characters: int) -> None:
        """Add one document; an empty one goes into bin -1."""
        self.bins[int(BINS_PER_DECADE * math.log10(characters)) if characters else -1] += 1

    def add(self, other: Lengths) -> None:
        """Add the counts of other documents."""
        self.bins += other.bins

    def as_list(self) -> list[list[int]]:
        """[bin, documents], in order."""
        return [[place, self.bins[place]] for place in sorted(self.bins)]


def bin_edges(first: int, last: int) -> list[float]:
    """The lengths between the bins, in characters: 1 for bin 0, 10 for bin 8."""
    return [10 ** (place / BINS_PER_DECADE) for place in range(first, last + 2)]


@dataclass
class Groups:
    """Documents and characters by a name: a source, a category, a licence."""

    counts: dict[str, list[int]] = field(default_factory=dict)

    def count(self, name: str, characters: int) -> None:
        """Add one document; beyond MAX_GROUPS a new name counts as OTHERS."""
        if name not in self.counts and len(self.counts) >= MAX_GROUPS:
            name = OTHERS
        entry = self.counts.setdefault(name, [0, 0])
        entry[0] += 1
        entry[1] += characters

    def rows(self) -> list[tuple[str, int, int]]:
        """(name, documents, characters), the largest first."""
        rows = [(name, entry[0], entry[1]) for name, entry in self.counts.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0]))


@dataclass
class Kept:
    """Counts of the documents that were written."""

    documents: int = 0
    characters: int = 0
    lengths: Lengths = field(default_factory=Lengths)
    scripts: Scripts = field(default_factory=Scripts)
    groups: dict[str, Groups] = field(
        default_factory=lambda: {name: Groups() for name in ("source", "category", "licence")}
    )

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "documents": self.documents,
            "characters": self.characters,
            "lengths": self.lengths.as_list(),
            "scripts": self.scripts.as_dict(),
            "groups": {name: group.counts for name, group in self.groups.items()},
        }


@dataclass
class Funnel:
    """All counts of a cleaning."""

    rules: list[tuple[str, dict[str, Any], Tally]]  # name, parameters, counts
    duplicates: Tally | None = field(default_factory=Tally)  # None: not searched
    listed: list[dict[str, str]] = field(default_factory=list)  # duplicates: id, copy_of
    documents: int = 0  # as read
    characters: int = 0
    lengths: Lengths = field(default_factory=Lengths)
    kept: Kept = field(default_factory=Kept)
    n_files: int = 0
    files: list[FileTally] = field(default_factory=list)  # the first MAX_LISTED
    encodings: Counter[str] = field(default_factory=Counter)  # of all files but the last
    last_file: FileTally | None = None  # the next job may continue it
    quarantine: Counter[str] = field(default_factory=Counter)
    ignored: list[str] = field(default_factory=list)
    parts: int = 0
    bytes_out: int = 0

    def add_files(self, files: Iterable[FileTally]) -> None:
        """Add the files that a job read."""
        for file in files:
            self.documents += file.documents
            self.characters += file.characters
            if self.last_file is not None and self.last_file.name == file.name:
                self.last_file.add(file)
                continue
            self.end_file()
            self.last_file = file
            self.n_files += 1

    def end_file(self) -> None:
        """Close the last file: no job will continue it."""
        if self.last_file is not None:
            self.encodings[self.last_file.encoding or "none"] += 1
            if len(self.files) < MAX_LISTED:
                self.files.append(self.last_file)
            self.last_file = None

    def stages(self) -> list[tuple[str, Tally]]:
        """Rules and deduplication, in order."""
        stages = [(name, tally) for name, _, tally in self.rules]
        if self.duplicates is not None:
            stages.append(("exact duplicates", self.duplicates))
        return stages

    def check(self) -> None:
        """Assert that every document that left a stage entered the next, and was then written."""
        totals = [(self.documents, self.characters)]
        for _, tally in self.stages():
            totals += [
                (tally.documents_in, tally.characters_in),
                (tally.documents_out, tally.characters_out),
            ]
        totals.append((self.kept.documents, self.kept.characters))
        assert all(out == into for out, into in list(pairwise(totals))[::2]), totals

    def as_dict(self) -> dict[str, Any]:
        """The content of report.json."""
        return {
            "read": {
                "files": self.n_files,
                "documents": self.documents,
                "characters": self.characters,
                "lengths": self.lengths.as_list(),
            },
            "rules": [
                {"rule": name, "parameters": parameters, **tally.as_dict()}
                for name, parameters, tally in self.rules
            ],
            "duplicates": None
            if self.duplicates is None
            else {
                "documents": self.duplicates.dropped.total(),
                "characters": self.duplicates.characters_in - self.duplicates.characters_out,
                "first": self.listed,
            },
            "kept": self.kept.as_dict() | {"bytes": self.bytes_out, "parts": self.parts},
            "quarantined": dict(sorted(self.quarantine.items())),
            "encodings": dict(sorted(self.encodings.items())),
            "files": {
                file.name: {name: value for name, value in asdict(file).items() if name != "name"}
                for file in self.files
            },
            "ignored_files": self.ignored,
        }

    # --- for a cleaning that is resumed ------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All counts so far, as JSON values."""
        counted = replace(self, ignored=[])  # the input is surveyed again
        state = msgspec.to_builtins(counted, str_keys=True, enc_hook=lambda array: array.tolist())
        assert isinstance(state, dict)
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        found = msgspec.convert(state, Funnel, strict=False, dec_hook=_restored)
        vars(self).update(vars(replace(found, ignored=self.ignored)))


def _restored(kind: Any, values: Any) -> Any:
    """A Counter or an array from its JSON form: string keys, lists of numbers."""
    if get_origin(kind) is Counter:
        key, *_ = get_args(kind)
        return Counter({key(name): n for name, n in values.items()})
    return np.array(values, np.int64)
