"""Clean text: files of any kind and encoding in, a corpus folder out.

Worker processes take jobs (some books, a megabyte of JSON lines), read, decode and apply the rules
(`cleaner.py`). One process merges the results in the order of the input: it removes exact
duplicates, counts and writes. So the result depends on the input and the rules alone: the same
bytes with any number of workers. Documents keep their boundaries: a book stays one document.

The folder appears when it is complete or not at all. Until then it lies in `OUTPUT.partial`
(`base/making.py`), and the same command continues there after a stop or a kill, to the same bytes.
The files only grow, so their saved sizes suffice to cut off later writes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fingerprint, fs, workers
from hanllama.base.config import Natural, Texts, checked, option
from hanllama.base.errors import InputError, Interrupted
from hanllama.base.making import Log, Making, Signals, making
from hanllama.base.progress import Progress
from hanllama.corpus import funnel_report, ruleset
from hanllama.corpus.cleaner import (
    DIGEST_BYTES,
    Budget,
    Cleaned,
    Cleaner,
    Job,
    Position,
    dropped_line,
)
from hanllama.corpus.funnel import MAX_LISTED, Funnel, Tally
from hanllama.corpus.options import CorpusConfig
from hanllama.corpus.parts import Parts
from hanllama.corpus.ruleset import Step
from hanllama.reading import records
from hanllama.reading.records import Piece, Quarantine, Reject
from hanllama.text.digests import Digests

SMALL_INPUT_BYTES = 4 * 2**20  # cleaned before a second process has started
SAVE_SECONDS = 10.0  # the most work that a kill can cost; saving takes some hundredths of a second
DUPLICATE = "equal to an earlier document"
DIGESTS = "digests.bin"  # of every document written so far, 16 bytes each


@checked
class CleanConfig(CorpusConfig):
    """Options of `hanllama clean`."""

    inputs: Texts = option(help="folders, files or globs; - is standard input", positional=True)
    rules: tuple[str | dict[str, Any], ...] = option(
        ("default",),
        help="presets (see docs/clean.md), rules, YAML files or .py files, in order",
    )
    max_documents: Natural = option(0, help="read only the first documents, this many; 0 means all")
    max_characters: Natural = option(
        0, help="read only the first documents with this many characters in all; 0 means all"
    )
    exact_duplicates: bool = option(
        True, help="keep only the first of the documents that are equal after cleaning"
    )
    dropped_characters: Natural = option(
        1000, help="characters of each dropped document kept in dropped.jsonl; 0 keeps none"
    )


def clean(config: CleanConfig) -> None:
    """The command: write the corpus folder and print how much each rule removed.

    Raises ConfigError for unknown rules; InputError when nothing can be read, no document is left,
    the output exists, or too many records are unusable (they are then kept in
    `OUTPUT.quarantine.jsonl`); Interrupted on Ctrl-C and SIGTERM.
    """
    steps = ruleset.expand(config.rules)
    source = _Input(config.inputs)
    output = Path(config.output)
    with making(
        output,
        config.inputs,
        force=config.force,
        made_from=lambda: _made_from(config, steps, source),
    ) as made:
        if made.complete:
            return
        merge = _Merge(config, steps, source, made)
        try:
            _run(config, steps, source, merge, made.signals)
            with made.signals.held():
                merge.end()
            _check_result(config, merge, made)
            merge.finish()
            card = funnel_report.card(merge.funnel)
            card.write(merge.corpus, merge.funnel.as_dict())
            made.put_in_place(merge.corpus)
        except Interrupted:
            merge.save()
            raise
        finally:
            merge.close()
    _quarantine_beside(output).unlink(missing_ok=True)
    card.print()
    print(f"{merge.funnel.kept.documents:,} documents in {output}; see {output / 'report.html'}")


def _run(
    config: CleanConfig, steps: list[Step], source: _Input, merge: _Merge, signals: Signals
) -> None:
    """Clean and merge the rest of the input."""
    if merge.ended:
        return
    arguments = (steps, config.fields, config.dropped_characters)
    jobs = source.jobs(merge.position)
    limited = bool(config.max_documents or config.max_characters)
    sent: deque[Job] = deque()
    if limited:
        jobs = _remember(jobs, sent)
    n_workers = workers.count(config.workers, source.bytes, SMALL_INPUT_BYTES)
    with (
        contextlib.closing(workers.ordered(jobs, n_workers, Cleaner, arguments)) as results,
        Progress("clean", source.bytes / 1e6 or None, "MB", done=merge.input_bytes / 1e6) as shown,
    ):
        saved = time.monotonic()
        for result in results:
            if limited:
                result = merge.within_budget(result, sent.popleft(), arguments)
            with signals.held():
                merge.add(result)
                if time.monotonic() - saved > SAVE_SECONDS:
                    merge.save()
                    saved = time.monotonic()
            shown.advance(result.input_bytes / 1e6, documents=merge.parts.documents)
            if merge.ended:
                break


def _remember(jobs: Iterator[Job], sent: deque[Job]) -> Iterator[Job]:
    for job in jobs:
        sent.append(job)
        yield job


# --- the input -----------------------------------------------------------------------------------


class _Input:
    """The input files as jobs, from any position."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        survey = records.survey(inputs)
        self.can_go_on = not survey.is_standard_input
        self.files, self.ignored = survey.files, survey.ignored
        self.bytes = survey.size

    def jobs(self, start: Position) -> Iterator[Job]:
        """The pieces from a position, in jobs of about a megabyte."""
        run: list[Piece] = []
        size = 0
        for piece, after in self._pieces(start):
            run.append(piece)
            # A piece of lines is about a megabyte; a piece that names a file has the file's size.
            size += workers.JOB_BYTES if piece.lines else piece.size + 4096
            if size >= workers.JOB_BYTES:
                yield Job(run, after)
                run, size = [], 0
        if run:
            yield Job(run, after)

    def _pieces(self, start: Position) -> Iterator[tuple[Piece, Position]]:
        if not self.can_go_on:
            yield from ((piece, Position()) for piece in records.standard_input())
            return
        for number, path in enumerate(self.files[start.files :], start.files):
            done = start.pieces if number == start.files else 0
            for place, piece in enumerate(records.pieces(path)):
                if place >= done:
                    yield piece, Position(number, place + 1)

    def trace(self) -> list[list[Any]]:
        """Path and stamp of each file: they show whether a file has changed."""
        return [[str(path), *records.stamp(path)] for path in self.files]


def _made_from(config: CleanConfig, steps: list[Step], source: _Input) -> dict[str, str]:
    """Fingerprints of everything the result depends on, by the names that messages use."""
    rules = [[step.name, dict(step.parameters), _named_files(step)] for step in steps]
    options = {
        "fields": str(config.fields),
        "limits": [config.max_documents, config.max_characters],
        "exact_duplicates": config.exact_duplicates,
        "dropped_characters": config.dropped_characters,
    }
    return {
        "the input": fingerprint.of_json(source.trace()),
        "the rules": fingerprint.of_json(rules),
        "the options": fingerprint.of_json(options),
        "hanllama's code": fingerprint.of_code("hanllama.corpus.clean", quick=True),
    }


def _named_files(step: Step) -> list[list[Any]]:
    """The files of a rule, with stamps: its own `.py`, a list of terms, a model."""
    named = [Path(text) for text in (step.name, *step.parameters.values()) if isinstance(text, str)]
    found = [path for path in named if path.exists()]
    files = [f for p in found for f in (sorted(p.rglob("*")) if p.is_dir() else [p])]
    return [[str(file), *records.stamp(file)] for file in files if file.is_file()]


# --- merging -------------------------------------------------------------------------------------


class _Merge:
    """Adds cleaned jobs, in order, to the corpus and to the counts; continues from a state."""

    def __init__(
        self, config: CleanConfig, steps: list[Step], source: _Input, made: Making
    ) -> None:
        self.made, self.corpus = made, made.folder / "corpus"
        self.can_go_on = source.can_go_on
        self.closed = False
        self.budget = Budget(config.max_documents or None, config.max_characters or None)
        _ready(made, self.corpus)
        state = made.state or {}
        self.position = Position(**state.get("position", {}))
        self.input_bytes: int = state.get("input_bytes", 0)
        self.ended: bool = state.get("ended", False)
        self.funnel = Funnel([(step.title, dict(step.parameters), Tally()) for step in steps])
        if not config.exact_duplicates:
            self.funnel.duplicates = None
        self.quarantine = Quarantine()
        self.listed: list[tuple[str, str]] = []  # duplicates: id, digest in hexadecimal
        if state:
            self._restore(state)
        self.funnel.ignored = [records.shown(path) for path in source.ignored]
        sizes = state.get("sizes", {})
        self.parts = Parts(self.corpus, state.get("parts"))
        self.logs = {
            name: Log(folder / name, sizes.get(name, 0))
            for name, folder in (
                ("quarantine.jsonl", self.corpus),
                ("dropped.jsonl", self.corpus),
                (DIGESTS, made.folder),
            )
        }
        self.seen = Digests()
        for digests in self._written_digests():
            self.seen.add(digests)

    def add(self, job: Cleaned) -> None:
        """Add the next job."""
        funnel = self.funnel
        for reject in job.rejects:
            self.quarantine.put(reject)
        self.logs["quarantine.jsonl"].write(b"".join(map(records.reject_line, job.rejects)))
        self.logs["dropped.jsonl"].write(job.dropped)
        for (_, _, total), tally in zip(funnel.rules, job.tallies, strict=True):
            total.add(tally)
        funnel.lengths.add(job.lengths)
        funnel.add_files(job.files)
        kept_N = self._without_duplicates(job)
        documents = job.documents
        self.parts.write([line for line, kept in zip(documents.lines, kept_N, strict=True) if kept])
        self.logs[DIGESTS].write(documents.digests_N2[kept_N].tobytes())
        self._count_kept(job, kept_N)
        self.position = job.after
        self.input_bytes += job.input_bytes
        self.ended = job.spent

    def _without_duplicates(self, job: Cleaned) -> NDArray[np.bool_]:
        """Which documents are new; all of them when duplicates are kept."""
        documents, tally = job.documents, self.funnel.duplicates
        if tally is None:
            return np.ones(len(documents.lines), np.bool_)
        new_N = self.seen.add(documents.digests_N2)
        characters = documents.characters_N
        tally.documents_in += len(new_N)
        tally.characters_in += int(characters.sum())
        tally.documents_out += int(new_N.sum())
        tally.characters_out += int(characters[new_N].sum())
        for place in np.flatnonzero(~new_N).tolist():
            tally.dropped[DUPLICATE] += 1
            identity, source = _identity(documents.lines[place])
            line = dropped_line(identity, source, "exact duplicates", DUPLICATE, "")
            self.logs["dropped.jsonl"].write(line)
            if len(self.listed) < MAX_LISTED:
                self.listed.append((identity, documents.digests_N2[place].tobytes().hex()))
        return new_N

    def _count_kept(self, job: Cleaned, kept_N: NDArray[np.bool_]) -> None:
        kept, documents = self.funnel.kept, job.documents
        kept.documents += int(kept_N.sum())
        kept.characters += int(documents.characters_N[kept_N].sum())
        kept.scripts.characters += documents.scripts_NS[kept_N].sum(axis=0)
        for place in np.flatnonzero(kept_N).tolist():
            characters = int(documents.characters_N[place])
            kept.lengths.count(characters)
            kept.scripts.languages[documents.languages[place]] += 1
            for name, labels in documents.groups.items():
                kept.groups[name].count(labels[place], characters)

    def within_budget(self, job: Cleaned, sent: Job, arguments: tuple[Any, ...]) -> Cleaned:
        """The job, or the job cleaned again up to the limit."""
        documents, characters = job.read
        left = self.budget.less(self.funnel.documents, self.funnel.characters)
        if left.allows(documents, characters):
            return job
        return Cleaner(*arguments)(sent, left)

    # --- saving and ending -----------------------------------------------------------------------

    def save(self) -> None:
        """Save the progress; not for standard input, which cannot be read twice."""
        if self.closed or not self.can_go_on:
            return
        sizes = {name: log.sync() for name, log in self.logs.items()}
        first = self.quarantine.first
        self.made.save(
            position={"files": self.position.files, "pieces": self.position.pieces},
            input_bytes=self.input_bytes,
            ended=self.ended,
            parts=self.parts.state(),
            sizes=sizes,
            funnel=self.funnel.state(),
            quarantine=dict(self.quarantine.reasons),
            first_reject=first and [first.file, first.line, first.reason],
            listed=self.listed,
        )

    def _restore(self, state: dict[str, Any]) -> None:
        self.funnel.restore(state["funnel"])
        self.quarantine.reasons = Counter(state["quarantine"])
        self.quarantine.count = self.quarantine.reasons.total()
        if state["first_reject"]:
            self.quarantine.first = Reject(*state["first_reject"])
        self.listed = [(identity, digest) for identity, digest in state["listed"]]

    def _written_digests(self) -> Iterator[NDArray[np.uint64]]:
        """The digests of the documents in the corpus, in order, block by block."""
        with open(self.logs[DIGESTS].path, "rb") as file:
            while data := file.read(DIGEST_BYTES * 2**16):
                yield np.frombuffer(data, np.uint64).reshape(-1, 2)

    def end(self) -> None:
        """Mark the input as complete and save."""
        self.ended = True
        self.save()
        self.close()

    def finish(self) -> None:
        """Complete the counts after the last job."""
        funnel = self.funnel
        funnel.end_file()
        funnel.check()
        funnel.quarantine = self.quarantine.reasons
        funnel.parts, funnel.bytes_out = self.parts.number, self.parts.bytes
        if self.listed:
            first = self._first_copies({digest for _, digest in self.listed})
            funnel.listed = [{"id": i, "copy_of": first[digest]} for i, digest in self.listed]

    def _first_copies(self, digests: set[str]) -> dict[str, str]:
        """digest -> id of the first document with it, looked up in the parts."""
        wanted = np.frombuffer(b"".join(map(bytes.fromhex, sorted(digests))), "V16")
        places: dict[int, str] = {}
        start = 0
        for block in self._written_digests():
            keys = np.ascontiguousarray(block).view("V16").ravel()
            for place in np.flatnonzero(np.isin(keys, wanted)).tolist():
                places[start + place] = keys[place].tobytes().hex()
            start += len(keys)
        found: dict[str, str] = {}
        number = 0
        for path in sorted(self.corpus.glob("part-*.jsonl")):
            if len(found) == len(places):
                break
            with open(path, "rb") as part:
                for line in part:
                    if number in places:
                        found[places[number]] = _identity(line)[0]
                    number += 1
        return found

    def close(self) -> None:
        """Close every file."""
        self.closed = True
        self.parts.close()
        for log in self.logs.values():
            log.close()


def _ready(made: Making, corpus: Path) -> None:
    """Prepare the folder of the unfinished corpus."""
    if not corpus.is_dir():
        made.remove()  # nothing was saved, or a kill came after the corpus was published
        fs.make_folder(corpus)
    for path in corpus.iterdir():
        if path.suffix != ".jsonl":
            path.unlink()  # a report cut short by a kill: it is written again


def _identity(line: bytes) -> tuple[str, str]:
    """(id, source) of a line of the corpus."""
    entry = json.loads(line)
    return entry.get("id", ""), entry.get("source", "")


# --- checks --------------------------------------------------------------------------------------


def _quarantine_beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.quarantine.jsonl")


def _check_result(config: CleanConfig, merge: _Merge, made: Making) -> None:
    """Refuse an empty or mostly unusable result and remove it, except the quarantine."""
    try:
        _check_quarantine(config, merge)
        funnel = merge.funnel
        if not funnel.documents:
            why = f" (unusable: {merge.quarantine.summary()})" if merge.quarantine.count else ""
            raise InputError(f"{', '.join(config.inputs)}: the input holds no document{why}")
        if not funnel.kept.documents:
            drops = "; ".join(
                f"{name}: {dict(t.dropped)}" for name, _, t in funnel.rules if t.dropped
            )
            raise InputError(
                f"no document is left of {funnel.documents:,}; choose other rules than"
                f" {', '.join(str(r) for r in config.rules)} ({drops})"
            )
    except InputError:
        made.remove()
        raise


def _check_quarantine(config: CleanConfig, merge: _Merge) -> None:
    quarantine = merge.quarantine
    total = merge.funnel.documents + quarantine.count
    if quarantine.count <= config.max_quarantine_share * total:
        return
    beside = _quarantine_beside(Path(config.output))
    with fs.storage(beside):
        shutil.copyfile(merge.corpus / "quarantine.jsonl", beside)
    remedy = "repair the input or raise --max-quarantine-share"
    if f"no field {config.text_field!r}" in quarantine.reasons:
        remedy = f"name the field of the text (--text-field), {remedy}"
    raise InputError(
        f"{quarantine.count:,} of {total:,} records cannot be used"
        f" ({quarantine.summary()}), more than the allowed share of"
        f" {config.max_quarantine_share:g}; only {beside} was written: {remedy}"
    )
