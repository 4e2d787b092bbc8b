"""`hanllama decontaminate`: find the questions of evaluation sets in a corpus, and remove them.

The corpus is read twice: first to find n-grams in so many documents that they prove nothing, then
to find leaks and to write the rest. Worker processes search; one process merges in the order of the
corpus, so the result does not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.base import fs, workers
from hanllama.base.errors import InputError
from hanllama.base.making import Making, making
from hanllama.base.progress import Progress
from hanllama.corpus.decontaminate import questions as evaluation
from hanllama.corpus.decontaminate.found import Found, Leak
from hanllama.corpus.decontaminate.matcher import Hits, Matcher
from hanllama.corpus.decontaminate.options import DecontaminateConfig
from hanllama.corpus.parts import Parts
from hanllama.reading import records
from hanllama.reading.records import Document, Fields, Piece, Quarantine, Reject
from hanllama.text.letters import code_points

EXCERPT_CHARACTERS = 120
SMALL_INPUT_BYTES = 4 * 2**20  # searched before a second process has loaded the questions


def decontaminate(config: DecontaminateConfig) -> Found:
    """The command: print which questions leak; with an output, write the corpus without them.

    Raises InputError when an input or evaluation folder is missing or empty, when the output
    exists, or for standard input (which cannot be read twice); ConfigError without numba.
    """
    if "-" in config.inputs:
        raise InputError("standard input (-) cannot be read twice; give files or folders")
    inputs = [*config.inputs, *config.eval]
    place = making(config.output, inputs, force=config.force) if config.output else None
    with place or contextlib.nullcontext() as made:
        return _decontaminate(config, made)


def _decontaminate(config: DecontaminateConfig, made: Making | None) -> Found:
    survey = records.survey(config.inputs)
    files = list(survey.files)
    read = evaluation.read(config.eval)
    matcher = Matcher(read.found, config.ngram, config.shortest, config.common_questions)
    size = survey.size
    count = workers.count(config.workers, size, SMALL_INPUT_BYTES)

    common = _common(config, matcher, files, size, count)
    matcher.ignore(common)
    found = Found(matcher.questions, matcher.searchable, read.empty, len(common))
    with contextlib.ExitStack() as stack:
        folder, parts = None, None
        if made:
            folder = stack.enter_context(made.publish())
            if config.remove != "nothing":
                parts = stack.enter_context(Parts(folder))
        quarantine = stack.enter_context(
            Quarantine(folder / "quarantine.jsonl" if folder else None)
        )
        leaks = stack.enter_context(_leaks_file(folder))
        job = _Search(matcher, config.minimum_share, config.remove, config.text_field)
        for result in _pass("search", files, size, count, job):
            for reject in result.rejects:
                quarantine.put(reject)
            for leak in result.leaks:
                found.add(leak)
                leaks(leak)
            found.count(result)
            if parts:
                parts.write(result.lines)
        if not found.documents:
            raise InputError(f"{', '.join(config.inputs)}: no document; {quarantine.summary()}")
        found.quarantined = dict(quarantine.reasons)
        card = found.card()
        if folder:
            card.write(folder, found.as_dict())
    card.print()
    if config.output:
        print(f"see {Path(config.output) / 'report.html'} and leaks.jsonl beside it")
    return found


def _common(
    config: DecontaminateConfig, matcher: Matcher, files: list[Path], size: int, count: int
) -> Any:
    """The n-grams in more than `common_documents` documents."""
    documents = np.zeros(matcher.grams, np.int64)
    for grams in _pass("common phrases", files, size, count, _Count(matcher, config.text_field)):
        documents += np.bincount(grams.held, minlength=matcher.grams)
    return np.flatnonzero(documents > config.common_documents)


def _pass(title: str, files: list[Path], size: int, count: int, job: Any) -> Iterator[Any]:
    pieces = (piece for path in files for piece in records.pieces(path))
    results = workers.ordered(pieces, count, _same, (job,))
    with contextlib.closing(results), Progress(title, size / 1e6, "MB") as progress:
        for result in results:
            yield result
            progress.advance(result.size / 1e6)


@contextlib.contextmanager
def _leaks_file(folder: Path | None) -> Iterator[Any]:
    """A function that writes leaks as lines of JSON; nowhere without a folder."""
    if folder is None:
        yield lambda leak: None
        return
    path = folder / "leaks.jsonl"
    with fs.storage(path), open(path, "wb") as out:
        yield lambda leak: out.write(
            (json.dumps(leak.as_dict(), ensure_ascii=False) + "\n").encode("utf-8", "replace")
        )


# --- in the worker processes ---------------------------------------------------------------------


def _same(job: Any) -> Any:
    """The job: it carries everything it needs."""
    return job


@dataclass
class Counted:
    """The n-grams of a piece's documents, each once per document."""

    size: int
    held: Any


@dataclass
class Searched:
    """The findings in a piece, and its lines of the clean corpus."""

    size: int
    documents: int = 0
    characters: int = 0
    removed: int = 0
    removed_characters: int = 0
    leaks: list[Leak] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)


@dataclass
class _Count:
    """The first pass, over one piece."""

    matcher: Matcher
    text_field: str

    def __call__(self, piece: Piece) -> Counted:
        held = [np.zeros(0, np.int64)]
        for item in records.parse(piece, Fields(self.text_field)):
            if isinstance(item, Document):
                held.append(np.unique(self.matcher.find(item.text).grams))
        return Counted(piece.size, np.concatenate(held))


@dataclass
class _Search:
    """The second pass, over one piece."""

    matcher: Matcher
    minimum_share: float
    remove: str
    text_field: str

    def __call__(self, piece: Piece) -> Searched:
        result = Searched(piece.size)
        for item in records.parse(piece, Fields(self.text_field)):
            if isinstance(item, Reject):
                result.rejects.append(item)
            else:
                self._document(item, result)
        return result

    def _document(self, document: Document, result: Searched) -> None:
        text = document.text
        result.documents += 1
        result.characters += len(text)
        hits = self.matcher.find(text)
        leaking = self.matcher.leaks(hits, self.minimum_share)
        matched = np.zeros(len(hits.grams), bool)
        for number, share in leaking:
            own = self.matcher.of_question(hits, number)
            matched |= own
            result.leaks.append(self._leak(document, hits, own, number, share))
        if leaking and self.remove != "nothing":
            kept = ""
            if self.remove == "passages":
                kept = without_lines(text, hits.begins[matched], hits.ends[matched])
            result.removed_characters += len(text) - len(kept)
            if not kept.strip():
                result.removed += 1
                return
            document.text = kept
        if self.remove != "nothing":
            result.lines.append(records.document_line(document))

    def _leak(self, document: Document, hits: Hits, own: Any, number: int, share: float) -> Leak:
        question = self.matcher.questions[number]
        position = densest(hits.begins[own], len(question.text))
        excerpt = document.text[position : position + EXCERPT_CHARACTERS]
        return Leak(number, question, share, document.id, document.source, position, excerpt)


def densest(places: Any, length: int) -> int:
    """The place with the most places within `length` after it: around it most of the text lies."""
    ordered = np.unique(places)
    reached = np.searchsorted(ordered, ordered + length, "right") - np.arange(len(ordered))
    return int(ordered[np.argmax(reached)])


def without_lines(text: str, begins: Any, ends: Any) -> str:
    """A text without the lines that a span touches."""
    breaks = np.flatnonzero(code_points(text) == 10)
    gone: Counter[int] = Counter()
    first, last = np.searchsorted(breaks, begins), np.searchsorted(breaks, ends - 1)
    for a, b in zip(first, last, strict=True):
        gone.update(range(int(a), int(b) + 1))
    return "\n".join(line for n, line in enumerate(text.split("\n")) if n not in gone)
