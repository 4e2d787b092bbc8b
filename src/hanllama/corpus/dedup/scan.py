"""The passes over the corpus: count lines, and scan every document.

All passes cut the input into the same jobs, so a document has the same number in each of them, the
writing pass included. Workers send arrays; the parent puts them end to end in the order of the
corpus, in segments that are published one by one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs, workers
from hanllama.base.errors import ConfigError
from hanllama.base.progress import Progress
from hanllama.corpus.dedup import exact_loops, near_loops, spans
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.spans import Span, parts
from hanllama.corpus.dedup.work import (
    COMPLETE,
    Batch,
    Partitions,
    SegmentWriter,
    Store,
    changed,
    partitions_in,
    save,
    sorted_entries,
)
from hanllama.reading import records
from hanllama.reading.records import Piece, Reject
from hanllama.text.letters import folded

# One shingle in this many is a sample, for the search of works inside larger ones: 12 bytes on disk
# for 96 bytes of Chinese. 500 letters have about 16 samples.
SAMPLED = 32
MIN_SAMPLED_LETTERS = 500
SMALL_INPUT_BYTES = 8 * 2**20  # done before a second process has started
_JOB_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Job:
    """Consecutive documents: their corpus, their parts, the number of the first."""

    corpus: int
    parts: list[Piece | Span]
    first: int = 0


def corpora(inputs: Sequence[str]) -> list[list[Path]]:
    """The files of each input; a file of two inputs belongs to the first.

    Raises InputError when an input is missing or holds no file to read.
    """
    seen: set[Path] = set()
    result = []
    for name in inputs:
        found = [p for p in records.files([name]) if p.resolve() not in seen]
        seen |= {p.resolve() for p in found}
        result.append(found)
    return result


def jobs(files: Sequence[Sequence[Path]]) -> Iterator[Job]:
    """The input in jobs of about 4 MiB; every pass gets the same jobs."""
    for corpus, paths in enumerate(files):
        run: list[Piece | Span] = []
        held = 0
        for part in (part for path in paths for part in parts(path, _JOB_BYTES)):
            size = _size(part)
            if held + size > _JOB_BYTES and run:
                yield Job(corpus, run)
                run, held = [], 0
            run.append(part)
            held += size
        if run:
            yield Job(corpus, run)


def _size(part: Piece | Span) -> int:
    """The bytes of a part; for a compressed file, of the lines it holds."""
    return part.stop - part.start if isinstance(part, Span) else part.held_bytes or part.size


def numbered(files: Sequence[Sequence[Path]], counts: Sequence[int]) -> Iterator[Job]:
    """The jobs with the number of their first document, from the counts of an earlier pass.

    Raises InputError when the number of jobs has changed.
    """
    first = 0
    at = 0
    for at, job in enumerate(jobs(files), 1):
        if at > len(counts):
            break
        yield replace(job, first=first)
        first += counts[at - 1]
    if at != len(counts):
        raise changed()


def read(
    folder: Path,
    title: str,
    work: Iterator[Job],
    n_workers: int,
    build: Callable[..., Callable[[Job], Batch]],
    arguments: tuple[object, ...],
) -> Store:
    """Run a pass: every job through `build(*arguments)`, published segment by segment."""
    if (folder / COMPLETE).is_file():
        return Store(folder)
    writer = SegmentWriter(folder)
    for _ in range(writer.jobs_done):
        next(work)
    with (
        contextlib.closing(workers.ordered(work, n_workers, build, arguments)) as results,
        Progress(title, unit="MB", done=writer.bytes_done / 1e6) as progress,
    ):
        for batch in results:
            progress.advance(batch.bytes / 1e6, documents=writer.documents + batch.documents)
            writer.add(batch)
    writer.flush()
    fs.write_json(folder / COMPLETE, {"documents": writer.documents})
    return Store(folder)


# --- in the worker processes: reading ------------------------------------------------------------


@dataclass
class Read:
    """The texts of a job's documents as UTF-8, and the lines cut out of them.

    Attributes:
        utf8: all texts end to end.
        ends: [documents] the end of each, in bytes.
        characters: [documents] of each.
        rejects: counts of the reasons of unusable records.
        part_lines: [parts] the number of lines of each.
        emptied: [documents] whether nothing is left.
        cuts: [cut lines, 3] document, begin and end of the cut in its text.
        removed: [different cut lines, 2] row of BOILERPLATE, times cut.
        told, told_lines: the texts of the boilerplate lines that occur here first, stripped and end
            to end; and [such lines, 2] row and bytes of each.
        cut_characters: characters cut, line breaks included.
    """

    utf8: NDArray[np.uint8]
    ends: NDArray[np.int64]
    characters: NDArray[np.int64]
    rejects: Counter[str]
    part_lines: NDArray[np.int64]
    emptied: NDArray[np.bool_]
    cuts: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), dtype=np.int64))
    removed: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    told: bytes = b""
    told_lines: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    cut_characters: int = 0

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> NDArray[np.int64]:
        """[documents] the beginning of each."""
        return np.concatenate([[0], self.ends[:-1]]) if len(self.ends) else self.ends


class Reader:
    """Reads a job's documents without boilerplate lines."""

    def __init__(self, config: DedupConfig, boilerplate: Path | None) -> None:
        spans.hold_memory()
        self.fields = config.fields
        self.minimum = config.line_characters
        self.keep_first = config.line_keep == "first"
        self.boilerplate = np.load(boilerplate) if boilerplate is not None else None
        if self.boilerplate is not None:
            self.known = Buckets(4 * len(self.boilerplate), config.memory)
            self.known.add(self.boilerplate["hash"], self.boilerplate["documents"])

    def __call__(self, job: Job) -> Read:
        read = self._read(job)
        if self.boilerplate is not None and len(self.boilerplate) and len(read):
            self._cut(read, job.first)
        return read

    def _read(self, job: Job) -> Read:
        rejects: Counter[str] = Counter()
        texts: list[bytes] = []
        characters: list[int] = []
        part_lines = []
        for part in job.parts:
            n_lines = 0
            for piece in spans.pieces(part):
                n_lines += len(piece.lines)
                for item in records.texts(piece, self.fields):
                    if isinstance(item, Reject):
                        rejects[item.reason] += 1
                    else:
                        texts.append(item.encode("utf-8"))
                        characters.append(len(item))
            part_lines.append(n_lines)
        return Read(
            # Writable: numba would compile again for a read-only array.
            np.frombuffer(bytearray().join(texts), dtype=np.uint8),
            np.cumsum([len(text) for text in texts], dtype=np.int64),
            np.array(characters, dtype=np.int64),
            rejects,
            np.array(part_lines, dtype=np.int64),
            np.zeros(len(texts), dtype=bool),
        )

    def _cut(self, read: Read, first: int) -> None:
        assert self.boilerplate is not None
        hashes, places = lines_of(read.utf8, read.ends, self.minimum)
        perhaps = np.flatnonzero(self.known.of(hashes))
        hashes = hashes[perhaps]
        known = self.boilerplate["hash"]
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        hit = known[at] == hashes
        places = places[perhaps[hit]]  # in the order of the documents
        rows, earliest, times = np.unique(at[hit], return_index=True, return_counts=True)
        new = self.boilerplate["first"][rows] == places[earliest, 0] + first
        order = np.argsort(earliest[new])
        told = places[earliest[new][order], 3:5]
        read.told = b"".join(read.utf8[low:high].tobytes() for low, high in told.tolist())
        read.told_lines = np.stack([rows[new][order], told[:, 1] - told[:, 0]], axis=1)
        if self.keep_first:
            places = np.delete(places, earliest[new], axis=0)
            times -= new
        read.removed = np.stack([rows, times], axis=1)
        if not len(places):
            return
        read.cuts = places[:, :3].copy()
        read.cuts[:, 1:] -= read.starts[read.cuts[:, :1]]
        rest = np.empty_like(read.utf8)
        rest_ends = np.empty_like(read.ends)
        before = int(read.characters.sum())
        size = exact_loops.without_cuts(
            read.utf8, read.ends, read.cuts, rest, rest_ends, read.characters, read.emptied
        )
        read.utf8, read.ends = rest[:size], rest_ends
        read.cut_characters = before - int(read.characters.sum())
        starts = read.starts
        for number in np.flatnonzero(read.emptied).tolist():
            text = read.utf8[starts[number] : read.ends[number]].tobytes().decode("utf-8")
            read.emptied[number] = not text.strip()


def without(text: bytes, cuts: NDArray[np.int64]) -> bytes:
    """A text without the lines `cuts`, each from its begin to the begin of the next line."""
    kept = []
    at = 0
    for begin, end in cuts.tolist():
        kept.append(text[at:begin])
        at = end
    kept.append(text[at:])
    rest = b"".join(kept)
    # Without its last line, a text must not end in a newline.
    return rest.rstrip(b"\n") if at == len(text) else rest


def lines_of(
    utf8: NDArray[np.uint8], ends: NDArray[np.int64], minimum: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hashes, places) of the documents' lines, see `exact_loops.lines`."""
    # A line takes its characters and the end of a line or document.
    room = len(utf8) // (minimum + 1) + len(ends) + 1
    hashes = np.empty(room, dtype=np.uint64)
    places = np.empty((room, 5), dtype=np.int64)
    count = exact_loops.lines(utf8, ends, minimum, hashes, places)
    return hashes[:count], places[:count]


# --- the scan of every document ------------------------------------------------------------------


class Scanner:
    """Computes the data of a job's documents for the later stages."""

    def __init__(self, config: DedupConfig, boilerplate: Path | None) -> None:
        self.reader = Reader(config, boilerplate)
        self.config = config

    def __call__(self, job: Job) -> Batch:
        read = self.reader(job)
        utf8, ends = read.utf8, read.ends
        n, config = len(read), self.config
        slots = config.bands * config.rows if config.method == "minhash" else 0
        counts = np.zeros((n, 5), dtype=np.uint32)
        sketches = np.zeros((n, slots), dtype=np.uint16)
        simhashes = np.zeros(n if config.method == "simhash" else 0, dtype=np.uint64)
        # Eight times the expectation for English; the samples of repetitive text may be cut off.
        room = len(utf8) // 4 + 1024 if config.containment else 0
        samples = np.empty(room, dtype=np.uint64)
        chapters = np.empty(room, dtype=np.uint32)
        sketched, sampled = 0, 0
        if not config.letters_matter:
            counts[:, 2] = read.characters
            exact_loops.odd_characters(utf8, ends, counts[:, 3])
        elif n:
            sketched, sampled = near_loops.survey(
                utf8,
                ends,
                read.characters,
                folded(),
                config.shingle,
                config.min_letters,
                SAMPLED if config.containment else 0,
                MIN_SAMPLED_LETTERS,
                config.chapter_letters,
                counts,
                sketches,
                simhashes,
                samples,
                chapters,
            )
        least = max(config.min_letters, config.shingle)
        arrays: dict[str, NDArray[np.generic]] = {
            "digest": (digests(utf8, ends) if config.exact_documents else np.empty((0, 2), "<u8")),
            "counts": counts,
            "corpus": np.full(n, job.corpus, dtype=np.uint16),
            "sketch": sketches[:sketched],
            "simhash": simhashes[:sketched],
            "sketched_document": np.flatnonzero(counts[:, 0] >= least).astype(np.int64),
            "sample": samples[:sampled].copy(),
            "chapter": chapters[:sampled].copy(),
            "cut_characters": np.array([read.cut_characters]),
            # For the writing pass, which does not search for lines again.
            "part_lines": read.part_lines,
            "cut": read.cuts[:, 1:].astype(np.uint32),
            "cut_document": read.cuts[:, 0],
            "emptied": read.emptied,
            "removed": read.removed.astype(np.uint32),
            "told": np.frombuffer(read.told, dtype=np.uint8),
            "told_lines": read.told_lines.astype(np.uint32),
            "job_sums": np.array([[len(read.cuts), len(utf8)]]),
        }
        return Batch(n, len(utf8), arrays, read.rejects)


def digests(utf8: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[documents, 2] XXH3 of each text without its white space, in 128 bits.

    Raises ConfigError when xxhash is not installed.
    """
    try:
        from xxhash import xxh3_128_digest
    except ImportError as error:
        raise ConfigError("this command needs xxhash: pip install 'hanllama[data]'") from error
    bare = np.empty_like(utf8)
    bare_ends = np.empty_like(ends)
    exact_loops.without_space(utf8, ends, bare, bare_ends)
    view = memoryview(bare)  # type: ignore[arg-type]
    data = b"".join(
        xxh3_128_digest(view[start:stop]) for start, stop in pairwise([0, *bare_ends.tolist()])
    )
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


# --- boilerplate lines ---------------------------------------------------------------------------

BOILERPLATE = "boilerplate.npy"
LINE_COUNT = np.dtype([("hash", "<u8"), ("documents", "<u4"), ("first", "<i8")])


class LineCounter:
    """Counts a job's documents of each line, and notes the first of them."""

    def __init__(self, config: DedupConfig) -> None:
        self.reader = Reader(config, None)
        self.minimum = config.line_characters

    def __call__(self, job: Job) -> Batch:
        read = self.reader(job)
        hashes, places = lines_of(read.utf8, read.ends, self.minimum)
        values = np.empty(len(hashes), dtype=np.uint64)
        counts = np.empty(len(hashes), dtype=np.uint32)
        firsts = np.empty(len(hashes), dtype=np.int64)
        n = exact_loops.documents_of_lines(hashes, places[:, 0], values, counts, firsts)
        arrays: dict[str, NDArray[np.generic]] = {
            "line": values[:n],
            "line_count": counts[:n],
            "line_document": firsts[:n],
        }
        return Batch(len(read), len(read.utf8), arrays, read.rejects)


def boilerplate(store: Store, config: DedupConfig, stage: Path) -> Path:
    """Find the lines of more than `line_documents` documents: LINE_COUNT sorted by hash."""
    with fs.publish(stage) as folder:
        _deal_lines(store, config, folder)
        found = [np.empty(0, dtype=LINE_COUNT)]
        for path in partitions_in(folder):  # in the order of the hashes
            hashes, rows = sorted_entries(path)
            counts = store.take("line_count", rows).astype(np.int64)
            documents = store.take("line_document", rows)
            first = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]))
            values = hashes[first]
            total = np.add.reduceat(counts, first)
            many = total > config.line_documents
            lines = np.empty(int(many.sum()), dtype=LINE_COUNT)
            lines["hash"], lines["documents"] = values[many], total[many]
            lines["first"] = np.minimum.reduceat(documents, first)[many]
            found.append(lines)
            path.unlink()
        save(folder / BOILERPLATE, np.concatenate(found))
    return stage / BOILERPLATE


def _deal_lines(store: Store, config: DedupConfig, folder: Path) -> None:
    """Write the lines that may be boilerplate into partitions.

    Most lines are rare and are not sorted: their whole bucket has few documents.
    """
    starts = store.starts("line")
    buckets = Buckets(int(starts[-1]), config.memory)
    for values, counts in zip(store.blocks("line"), store.blocks("line_count"), strict=True):
        buckets.add(values, counts)
    parts = Partitions(folder, int(starts[-1]), config.memory, packed=False)
    for values, start in zip(store.blocks("line"), starts[:-1], strict=True):
        perhaps = np.flatnonzero(buckets.of(values) > config.line_documents)
        parts.add(values[perhaps], perhaps + start)


class Buckets:
    """Document counts, summed by the last bits of a hash: an upper bound for each hash.

    Args:
        hashes: how many hashes at most; each takes 4 to 8 bytes.
        memory_mib: at most a quarter of it is used.
    """

    def __init__(self, hashes: int, memory_mib: int) -> None:
        largest = (memory_mib * 2**16).bit_length() - 1  # words of 4 bytes
        self.sums = np.zeros(1 << min(max(hashes.bit_length(), 16), largest), dtype=np.uint32)

    def add(self, hashes: NDArray[np.uint64], documents: NDArray[np.uint32]) -> None:
        """Add the documents of each hash."""
        np.add.at(self.sums, self._places(hashes), documents)

    def of(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """[hashes] the sum of each hash's bucket."""
        return self.sums[self._places(hashes)]

    def _places(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes & np.uint64(len(self.sums) - 1)
