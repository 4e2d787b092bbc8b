"""Apply the rules to documents, in any process.

A job is a few pieces of the input. Its result is bytes and counts, ready to be written: the lines
of the corpus, a digest of each text, the dropped documents with their reasons. So the process that
merges does no work that a worker could have done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hanllama.base.errors import HanllamaError
from hanllama.corpus.funnel import FileTally, Lengths, Tally
from hanllama.corpus.rules import CleaningRule, Drop
from hanllama.corpus.ruleset import Step
from hanllama.reading import records
from hanllama.reading.records import Document, Fields, Piece, Reject
from hanllama.text import scripts

DIGEST_BYTES = 16  # two of 2**64 different documents are likely to collide


@dataclass(frozen=True)
class Position:
    """How far the input has been read: whole files, and pieces of the next one."""

    files: int = 0
    pieces: int = 0


@dataclass(frozen=True)
class Job:
    """Pieces to clean, and the position in the input after the last of them."""

    pieces: Sequence[Piece]
    after: Position


@dataclass(frozen=True)
class Budget:
    """The most documents and characters that may still be read; None means any number.

    `first` means that nothing has been read yet. Then one document of any length is allowed: a
    sample of a shelf of books is a book rather than nothing.
    """

    documents: int | None = None
    characters: int | None = None
    first: bool = True

    def allows(self, documents: int, characters: int) -> bool:
        """Whether this many documents and characters may be read."""
        if self.documents is not None and documents > self.documents:
            return False
        alone = self.first and documents == 1
        return self.characters is None or characters <= self.characters or alone

    def less(self, documents: int, characters: int) -> Budget:
        """The budget left after this many documents and characters."""
        return Budget(
            None if self.documents is None else self.documents - documents,
            None if self.characters is None else self.characters - characters,
            first=not documents,
        )


class Rules:
    """Rules, built once and applied to one document after another."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.titles = [step.title for step in steps]
        self._rules = [step.build() for step in steps]

    def apply(
        self, document: Document, tallies: Sequence[Tally] | None = None
    ) -> tuple[str, Drop] | None:
        """Apply every rule to the document's text, in place.

        Returns None, or the name of the rule that dropped the document and its Drop. Raises
        HanllamaError when a rule fails or returns neither text nor Drop.
        """
        for place, rule in enumerate(self._rules):
            text = _call(self.titles[place], rule, document)
            if isinstance(text, Drop):
                if tallies is not None:
                    tallies[place].dropped_for(text.reason, document.id, document.text)
                return self.titles[place], text
            if tallies is not None:
                tallies[place].kept(document.id, document.text, text)
            document.text = text
        return None


def _call(name: str, rule: CleaningRule, document: Document) -> str | Drop:
    try:
        result = rule(document.text)
    except HanllamaError:
        raise
    except Exception as error:
        # `--debug` shows whether the fault is in the user's rule or in ours.
        raise HanllamaError(
            f"rule {name} failed on document {document.id}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(result, str | Drop):
        raise HanllamaError(
            f"rule {name} returned {type(result).__name__} for document {document.id}; it must"
            " return the text or Drop(reason)"
        )
    return result


# --- a job ---------------------------------------------------------------------------------------


@dataclass
class Documents:
    """Documents that passed the rules, as bytes and columns (N documents)."""

    lines: list[bytes]
    digests_N2: NDArray[np.uint64]
    characters_N: NDArray[np.int64]
    scripts_NS: NDArray[np.int64]
    languages: list[str]
    groups: dict[str, list[str]]
    """source, category, licence -> the name of each document's group in the report"""


@dataclass
class Cleaned:
    """The result of one job."""

    after: Position
    input_bytes: int
    documents: Documents
    dropped: bytes
    """Lines of dropped.jsonl."""
    rejects: list[Reject]
    tallies: list[Tally]
    files: list[FileTally]
    """In the order of the input; the last file may continue in the next job."""
    lengths: Lengths
    """Of the documents as read."""
    spent: bool = False
    """Whether the budget ended in this job."""

    @property
    def read(self) -> tuple[int, int]:
        """(documents, characters) as read."""
        return sum(f.documents for f in self.files), sum(f.characters for f in self.files)


class Cleaner:
    """Reads and cleans jobs; built once in each process."""

    def __init__(self, steps: Sequence[Step], fields: Fields, dropped_characters: int) -> None:
        self.rules = Rules(steps)
        self.fields = fields
        self.dropped_characters = dropped_characters

    def __call__(self, job: Job, budget: Budget | None = None) -> Cleaned:
        """Clean a job, up to the last whole document that the budget allows."""
        result = Cleaned(
            job.after, 0, _no_documents(), b"", [], [Tally() for _ in self.rules.titles], [],
            Lengths(),
        )  # fmt: skip
        columns = _Columns()
        dropped: list[bytes] = []
        for piece in job.pieces:
            result.input_bytes += piece.size
            if not result.files or result.files[-1].name != piece.path:
                result.files.append(FileTally(piece.path))
            file = result.files[-1]
            for item in records.parse(piece, self.fields):
                if isinstance(item, Reject):
                    result.rejects.append(item)
                    file.quarantined += 1
                    continue
                if budget is not None:
                    documents, characters = result.read
                    if not budget.allows(documents + 1, characters + len(item.text)):
                        result.spent = True
                        break
                file.encoding = file.encoding or item.encoding
                file.documents += 1
                file.characters += len(item.text)
                result.lengths.count(len(item.text))
                drop = self.rules.apply(item, result.tallies)
                if drop is None:
                    columns.add(item)
                elif self.dropped_characters:
                    text = item.text[: self.dropped_characters]
                    dropped.append(
                        dropped_line(item.id, item.source, drop[0], drop[1].reason, text)
                    )
            if result.spent:
                break
        result.documents = columns.take()
        result.dropped = b"".join(dropped)
        return result


def dropped_line(identity: str, source: str, rule: str, reason: str, text: str) -> bytes:
    """A line of `dropped.jsonl`."""
    entry = {"id": identity, "source": source, "rule": rule, "reason": reason, "text": text}
    return json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n"


@dataclass
class _Columns:
    """Gathers documents, column by column."""

    lines: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    scripts: list[NDArray[np.int64]] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(
        default_factory=lambda: {"source": [], "category": [], "licence": []}
    )

    def add(self, document: Document) -> None:
        text = document.text.encode("utf-8")
        self.lines.append(records.document_line(document))
        self.digests.append(hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest())
        self.characters.append(len(document.text))
        counts = scripts.counts_of(document.text)
        self.scripts.append(counts)
        self.languages.append(scripts.language(counts))
        self.groups["source"].append(_origin(document.source))
        self.groups["category"].append(document.category)
        self.groups["licence"].append(document.licence)

    def take(self) -> Documents:
        digests = np.frombuffer(b"".join(self.digests), np.uint64).reshape(-1, 2)
        table = np.array(self.scripts, np.int64).reshape(-1, len(scripts.SCRIPTS))
        characters = np.array(self.characters, np.int64)
        return Documents(self.lines, digests, characters, table, self.languages, self.groups)


def _no_documents() -> Documents:
    return _Columns().take()


def _origin(source: str) -> str:
    """The group of a source in the report: the folder of `folder/file`, the host of a URL."""
    scheme, _, rest = source.rpartition("://")
    if scheme:
        return rest.split("/", 1)[0]
    folder, _, _ = source.rpartition("/")
    return folder or source
