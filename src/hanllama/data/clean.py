"""Clean text: files of any kind and encoding in, a corpus folder out.

Pieces of the input (a book, a megabyte of JSON lines) go to worker processes, which read, decode
and apply the rules; what comes back is merged in the order of the input. Everything that depends
on other documents happens there, in one process: removing exact duplicates, counting, writing. So
the result is a function of the input and the rules alone: the same bytes with any number of
workers. Documents keep their boundaries: a book stays one document.

The folder appears when it is complete or not at all (`fs.publish`); a killed run leaves nothing
and is started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hanllama import fs, records
from hanllama.config import option
from hanllama.data import ruleset
from hanllama.data.funnel import MAX_LISTED, FileTally, Funnel, Tally
from hanllama.data.parts import Parts, check_output
from hanllama.data.rules import CleaningRule, Drop
from hanllama.data.ruleset import Step
from hanllama.errors import ConfigError, HanllamaError, InputError, Interrupted
from hanllama.progress import Progress
from hanllama.records import Document, Piece, Quarantine, Reject

DIGEST_BYTES = 16  # 2**64 documents before two different ones are likely to collide
SMALL_INPUT_BYTES = 4 * 2**20  # cleaned before a second process has started


@dataclass(frozen=True)
class CleanConfig:
    """What `hanllama clean` takes."""

    inputs: tuple[str, ...] = option(
        help="folders, files or globs to read, - for standard input", positional=True
    )
    output: str = option(help="the corpus folder to write")
    rules: tuple[str | dict[str, Any], ...] = option(
        ("default",),
        help="presets (default, baby-llama2, none), rules, YAML files or .py files, in order",
    )
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    exact_duplicates: bool = option(
        True, help="keep only the first of documents that are equal once cleaned"
    )
    max_quarantine_share: float = option(
        0.05, help="fail when more than this share of the records cannot be read"
    )
    workers: int = option(0, help="processes; 0 means one per core")
    force: bool = option(False, help="replace the output folder")

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ConfigError("inputs is empty; name a folder, a file or a glob")
        if self.workers < 0:
            raise ConfigError(f"workers must be 0 or more, not {self.workers}")
        if not 0 <= self.max_quarantine_share <= 1:
            share = self.max_quarantine_share
            raise ConfigError(f"max_quarantine_share must be between 0 and 1, not {share}")


def clean(config: CleanConfig) -> None:
    """The command: write the corpus folder and print what each rule took.

    Raises ConfigError for rules that do not exist, InputError when nothing can be read, when
    nothing is left, when the output exists, and when too many records are unusable (they are then
    kept in `OUTPUT.quarantine.jsonl`).
    """
    steps = ruleset.expand(config.rules)
    output = Path(config.output)
    pieces, funnel, size = _input(config, steps)
    check_output(output, config.inputs, config.force)
    beside = output.with_name(f"{output.name}.quarantine.jsonl")
    with (
        _terminable(),
        fs.publish(output, replace=config.force) as folder,
        Quarantine(folder / "quarantine.jsonl") as quarantine,
    ):
        workers = _workers(config.workers, size)
        with (
            contextlib.closing(_results(pieces, steps, config.text_field, workers)) as results,
            Progress("clean", size / 1e6 or None, "MB") as progress,
            Parts(folder) as parts,
        ):
            merge = _Merge(funnel, quarantine, parts, config.exact_duplicates)
            for result in results:
                merge.add(result)
                progress.advance(result.size / 1e6, documents=parts.documents)
        funnel.parts, funnel.bytes_out = parts.number, parts.bytes
        funnel.quarantine = quarantine.reasons
        _check_result(config, funnel, quarantine, beside)
        funnel.write(folder)
    beside.unlink(missing_ok=True)
    funnel.print()
    print(f"{funnel.kept[0]:,} documents in {output}; see {output / 'report.html'}")


def _input(config: CleanConfig, steps: list[Step]) -> tuple[Iterator[Piece], Funnel, int]:
    """(the pieces to clean, a funnel with nothing in it yet, the bytes to read)."""
    funnel = Funnel([(step.title, dict(step.parameters), Tally()) for step in steps])
    if not config.exact_duplicates:
        funnel.duplicates = None
    if config.inputs == ("-",):
        return records.standard_input(), funnel, 0
    if "-" in config.inputs:
        raise InputError("standard input (-) cannot be mixed with files; give one or the other")
    survey = records.survey(config.inputs)
    funnel.ignored = [str(path) for path in survey.ignored]
    size = sum(path.stat().st_size for path in survey.files if path.is_file())
    pieces = itertools.chain.from_iterable(records.pieces(path) for path in survey.files)
    return pieces, funnel, size


# --- in the worker processes -------------------------------------------------------------------


@dataclass
class _Cleaned:
    """What one piece became."""

    size: int
    file: str
    documents: list[tuple[bytes, bytes, str, int]] = field(default_factory=list)
    """(line of the corpus, digest of the text, id, characters)"""
    rejects: list[Reject] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)
    read: FileTally = field(default_factory=FileTally)


class _Cleaner:
    """The rules, built, and what they do to one piece."""

    def __init__(self, steps: list[Step], text_field: str) -> None:
        self.rules = [(step.title, step.build()) for step in steps]
        self.text_field = text_field

    def __call__(self, piece: Piece) -> _Cleaned:
        result = _Cleaned(piece.size, piece.path, tallies=[Tally() for _ in self.rules])
        for item in records.parse(piece, self.text_field):
            if isinstance(item, Reject):
                result.rejects.append(item)
                continue
            result.read.encoding = item.encoding
            result.read.documents += 1
            result.read.characters += len(item.text)
            if self._apply(item, result.tallies):
                text = item.text.encode("utf-8")
                digest = hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()
                line = records.document_line(item)
                result.documents.append((line, digest, item.id, len(item.text)))
        return result

    def _apply(self, document: Document, tallies: list[Tally]) -> bool:
        """Put the document's text through every rule; False when one of them dropped it."""
        for (name, rule), tally in zip(self.rules, tallies, strict=True):
            text = _call(name, rule, document)
            if isinstance(text, Drop):
                tally.dropped_for(text.reason, document.id, document.text)
                return False
            tally.kept(document.text, text)
            document.text = text
        return True


def _call(name: str, rule: CleaningRule, document: Document) -> str | Drop:
    try:
        result = rule(document.text)
    except Exception as error:
        # Whose fault it is, a user's own rule or ours, `--debug` shows.
        raise HanllamaError(
            f"rule {name} failed on document {document.id}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(result, str | Drop):
        raise HanllamaError(
            f"rule {name} returned {type(result).__name__} for document {document.id}; it must"
            " return the text or Drop(reason)"
        )
    return result


_cleaner: _Cleaner | None = None  # of this worker process


def _start_worker(steps: list[Step], text_field: str) -> None:
    global _cleaner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _cleaner = _Cleaner(steps, text_field)


def _die_with_parent() -> None:
    """A parent that was killed sends no word; without this its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(piece: Piece) -> _Cleaned:
    assert _cleaner is not None
    return _cleaner(piece)


# --- in the parent -----------------------------------------------------------------------------


def _workers(asked: int, size: int) -> int:
    if asked:
        return asked
    if 0 < size < SMALL_INPUT_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _results(
    pieces: Iterator[Piece], steps: list[Step], text_field: str, workers: int
) -> Generator[_Cleaned, None, None]:
    """The cleaned pieces in the order of the pieces, from this process or from `workers` others."""
    if workers == 1:
        yield from map(_Cleaner(steps, text_field), pieces)
        return
    # spawn: a forked child would inherit the locks of threads that pyarrow and others started.
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (steps, text_field)
    )
    waiting: deque[Future[_Cleaned]] = deque()
    try:
        for piece in pieces:
            waiting.append(executor.submit(_work, piece))
            # Enough that nobody waits for work, few enough that memory does not grow.
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise HanllamaError(
            "a worker process was killed, most likely for lack of memory; lower --workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


class _Merge:
    """Adds cleaned pieces, in order, to the corpus and to the counts."""

    def __init__(
        self, funnel: Funnel, quarantine: Quarantine, parts: Parts, exact_duplicates: bool
    ) -> None:
        self.funnel, self.quarantine, self.parts = funnel, quarantine, parts
        self.exact_duplicates = exact_duplicates
        self.first: dict[bytes, str] = {}  # digest of a text -> the id of the copy that stays

    def add(self, piece: _Cleaned) -> None:
        for reject in piece.rejects:
            self.quarantine.put(reject)
        for (_, _, total), tally in zip(self.funnel.rules, piece.tallies, strict=True):
            total.add(tally)
        file = self.funnel.files.setdefault(piece.file, FileTally())
        file.encoding = file.encoding or piece.read.encoding
        file.documents += piece.read.documents
        file.characters += piece.read.characters
        file.quarantined += len(piece.rejects)
        self.parts.write(
            line
            for line, digest, identity, characters in piece.documents
            if self._is_new(digest, identity, characters)
        )

    def _is_new(self, digest: bytes, identity: str, characters: int) -> bool:
        tally = self.funnel.duplicates
        if tally is None:
            return True
        tally.documents_in += 1
        tally.characters_in += characters
        if digest in self.first:
            tally.dropped["equal to an earlier document"] += 1
            if len(self.funnel.listed) < MAX_LISTED:
                self.funnel.listed.append({"id": identity, "copy_of": self.first[digest]})
            return False
        self.first[digest] = identity
        tally.documents_out += 1
        tally.characters_out += characters
        return True


# --- checks ------------------------------------------------------------------------------------


def _check_result(
    config: CleanConfig, funnel: Funnel, quarantine: Quarantine, beside: Path
) -> None:
    documents, _ = funnel.read
    total = documents + quarantine.count
    if quarantine.count > config.max_quarantine_share * total:
        assert quarantine.path is not None
        quarantine.flush()
        with fs.storage(beside):
            shutil.copyfile(quarantine.path, beside)
        remedy = "repair the input or raise --max-quarantine-share"
        if f"no field {config.text_field!r}" in quarantine.reasons:
            remedy = f"name the field of the text (--text-field), {remedy}"
        raise InputError(
            f"{quarantine.count:,} of {total:,} records cannot be used"
            f" ({quarantine.summary()}), which is more than the share of"
            f" {config.max_quarantine_share:g} allowed; nothing was written but {beside}: {remedy}"
        )
    if not total:
        raise InputError(f"{', '.join(config.inputs)}: the corpus is empty, there is no document")
    if not funnel.kept[0]:
        drops = "; ".join(f"{name}: {dict(t.dropped)}" for name, _, t in funnel.rules if t.dropped)
        raise InputError(
            f"no document is left of {documents:,}; choose other rules than"
            f" {', '.join(str(r) for r in config.rules)} ({drops})"
        )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that no half folder and no worker stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
