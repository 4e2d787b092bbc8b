"""The passes over the corpus: what is learnt of each document, and the lines that many share.

Both passes cut the input into the same jobs, so a document has the same number in each, and in
the pass that writes the output. Workers send arrays; the parent puts them end to end in the order
of the corpus, in segments that are published one by one.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanllama import fs, records
from hanllama.data import workers
from hanllama.data.dedup import kernels, plain_lines
from hanllama.data.dedup.options import DedupConfig
from hanllama.data.dedup.plain_lines import Block
from hanllama.data.dedup.work import (
    COMPLETE,
    Batch,
    Partitions,
    SegmentWriter,
    Store,
    partitions_in,
    save,
    sorted_entries,
)
from hanllama.data.letters import folded
from hanllama.errors import InputError
from hanllama.progress import Progress
from hanllama.records import Document, Piece, Reject

# One shingle of so many stands for the others when works are looked for inside larger ones: 12
# bytes on disk for 96 bytes of Chinese. Of 500 letters that leaves about 16.
SAMPLED = 32
MIN_SAMPLED_LETTERS = 500
BEGINNING = 80  # characters of a text that are shown in clusters.jsonl
SMALL_INPUT_BYTES = 8 * 2**20  # done before a second process has started
_JOB_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Job:
    """Some consecutive documents: their corpus, their pieces, the number of the first."""

    corpus: int
    pieces: list[Piece]
    first: int = 0


def corpora(inputs: Sequence[str]) -> list[list[Path]]:
    """The files of each input; one that two inputs reach belongs to the first of them.

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
    """The input in jobs of about 4 MiB, always the same ones."""
    for corpus, paths in enumerate(files):
        run: list[Piece] = []
        held = 0
        for piece in (piece for path in paths for piece in records.pieces(path)):
            run.append(piece)
            # A piece's share of a compressed file says little of its lines.
            held += sum(map(_size, piece.lines)) or piece.size
            if held >= _JOB_BYTES:
                yield Job(corpus, run)
                run, held = [], 0
        if run:
            yield Job(corpus, run)


def _size(line: bytes | Reject) -> int:
    return len(line) if isinstance(line, bytes) else 0


def numbered(files: Sequence[Sequence[Path]], counts: Sequence[int]) -> Iterator[Job]:
    """The jobs with the number of their first document, which an earlier pass has counted.

    Raises InputError when the input no longer gives as many jobs.
    """
    first = 0
    at = 0
    for at, job in enumerate(jobs(files), 1):
        if at > len(counts):
            break
        yield Job(job.corpus, job.pieces, first)
        first += counts[at - 1]
    if at != len(counts):
        raise changed()


def changed() -> InputError:
    """The input is not what the passes before have read."""
    return InputError("the input was changed while it was being read; start again")


def read(
    folder: Path,
    title: str,
    work: Iterator[Job],
    n_workers: int,
    build: Callable[..., Callable[[Job], Batch]],
    arguments: tuple[object, ...],
) -> Store:
    """One pass: every job through `build(*arguments)`, published segment by segment."""
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
    """The documents of a job, and their texts as UTF-8.

    Attributes:
        runs: in order: single documents, and blocks of plain lines.
        data: all texts end to end.
        ends: [documents] where each ends, in bytes.
        characters: [documents] of each.
        changed: what is left of documents that had boilerplate lines.
        cut_characters: with the line breaks and the white space around.
    """

    runs: list[Document | Block]
    data: bytes
    ends: NDArray[np.int64]
    characters: NDArray[np.int64]
    rejects: list[Reject]
    changed: dict[int, str] = field(default_factory=dict)
    removed_lines: Counter[str] = field(default_factory=Counter)
    cut_characters: int = 0
    _firsts: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ends)

    def numbered_runs(self) -> Iterator[tuple[int, Document | Block]]:
        """The runs, each with the number of its first document."""
        number = 0
        for run in self.runs:
            yield number, run
            number += len(run) if isinstance(run, Block) else 1

    def document(self, number: int, text: str) -> Document:
        """The labels of a document with a text."""
        if not self._firsts:
            self._firsts = [first for first, _ in self.numbered_runs()]
        at = bisect.bisect_right(self._firsts, number) - 1
        run = self.runs[at]
        if isinstance(run, Block):
            return run.document(number - self._firsts[at], text)
        return replace(run, text=text)

    @property
    def utf8(self) -> NDArray[np.uint8]:
        """The texts for a kernel."""
        return np.frombuffer(self.data, dtype=np.uint8)

    @property
    def starts(self) -> NDArray[np.int64]:
        """[documents] where each begins."""
        return np.concatenate([[0], self.ends[:-1]]) if len(self.ends) else self.ends


class Reader:
    """Reads a job's documents, without the lines that are boilerplate."""

    def __init__(self, config: DedupConfig, boilerplate: Path | None) -> None:
        self.fields = config.fields
        self.minimum = config.line_characters
        self.keep_first = config.line_keep == "first"
        self.boilerplate = np.load(boilerplate) if boilerplate is not None else None

    def __call__(self, job: Job) -> Read:
        runs: list[Document | Block] = []
        rejects: list[Reject] = []
        texts: list[bytes | memoryview] = []
        sizes: list[Sequence[int] | NDArray[np.int64]] = [[]]
        characters: list[Sequence[int] | NDArray[np.int64]] = [[]]
        for item in (i for piece in job.pieces for i in plain_lines.parse(piece, self.fields)):
            if isinstance(item, Reject):
                rejects.append(item)
                continue
            runs.append(item)
            if isinstance(item, Document):
                texts.append(item.text.encode("utf-8"))
                sizes.append([len(texts[-1])])
                characters.append([len(item.text)])
            else:
                texts.append(item.texts.data)
                sizes.append(item.sizes[:, 0])
                characters.append(item.sizes[:, 1])
        ends = np.cumsum(np.concatenate(sizes), dtype=np.int64)
        lengths = np.concatenate(characters).astype(np.int64)
        read = Read(runs, b"".join(texts), ends, lengths, rejects)
        if self.boilerplate is not None and len(self.boilerplate) and runs:
            self._without_boilerplate(read, job.first)
        return read

    def _without_boilerplate(self, read: Read, first: int) -> None:
        assert self.boilerplate is not None
        hashes, places = lines_of(read.utf8, read.ends, self.minimum)
        known = self.boilerplate["hash"]
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        hit = known[at] == hashes
        if self.keep_first:
            # The first occurrence in the document that has it first.
            own = self.boilerplate["first"][at] == places[:, 0] + first
            _, firsts = np.unique(hashes, return_index=True)
            earliest = np.zeros(len(hashes), dtype=bool)
            earliest[firsts] = True
            hit &= ~(own & earliest)
        places = places[hit]  # in the order of the documents
        if not len(places):
            return
        found = Counter(read.data[low:high] for low, high in places[:, 3:5].tolist())
        read.removed_lines.update({line.decode("utf-8"): n for line, n in found.items()})
        numbers, begins = np.unique(places[:, 0], return_index=True)
        sizes = np.diff(read.ends, prepend=0)
        starts = read.starts.tolist()
        texts: list[bytes] = []
        done = 0
        for number, lines in zip(
            numbers.tolist(), np.split(places[:, 1:3], begins[1:]), strict=True
        ):
            texts.append(read.data[done : starts[number]])
            done = int(read.ends[number])
            rest = _without(read.data, starts[number], done, lines.tolist())
            text = read.changed[number] = rest.decode("utf-8")
            texts.append(rest)
            sizes[number] = len(rest)
            read.cut_characters += int(read.characters[number]) - len(text)
            read.characters[number] = len(text)
        texts.append(read.data[done:])
        read.data = b"".join(texts)
        read.ends = np.cumsum(sizes, dtype=np.int64)


def _without(data: bytes, start: int, stop: int, lines: list[list[int]]) -> bytes:
    """A text without some of its lines, given by where each begins and where the next one does."""
    kept = []
    at = start
    for begin, end in lines:
        kept.append(data[at:begin])
        at = end
    kept.append(data[at:stop])
    rest = b"".join(kept)
    # Without its last line a text does not end in the newline before that.
    return rest.rstrip(b"\n") if at == stop else rest


def lines_of(
    utf8: NDArray[np.uint8], ends: NDArray[np.int64], minimum: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(hashes, places) of the lines of some documents, see `kernels.lines`."""
    # A line has its characters and the end of a line or document behind them.
    room = len(utf8) // (minimum + 1) + len(ends) + 1
    hashes = np.empty(room, dtype=np.uint64)
    places = np.empty((room, 5), dtype=np.int64)
    count = kernels.lines(utf8, ends, minimum, hashes, places)
    return hashes[:count], places[:count]


# --- the pass that learns of every document ------------------------------------------------------


class Scanner:
    """What later stages need to know of a job's documents."""

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
        # Eight times what is expected of English; a text of one word over and over needs no more.
        room = len(utf8) // 4 + 1024 if config.containment else 0
        samples = np.empty(room, dtype=np.uint64)
        chapters = np.empty(room, dtype=np.uint32)
        sketched, sampled = 0, 0
        if not config.letters_matter:
            counts[:, 2] = read.characters
            kernels.odd_characters(utf8, ends, counts[:, 3])
        elif n:
            sketched, sampled = kernels.survey(
                utf8,
                ends,
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
            "digest": digests(utf8, ends) if config.exact_documents else np.empty((0, 2), "<u8"),
            "counts": counts,
            "corpus": np.full(n, job.corpus, dtype=np.uint16),
            "sketch": sketches[:sketched],
            "simhash": simhashes[:sketched],
            "sketched_document": np.flatnonzero(counts[:, 0] >= least).astype(np.int64),
            "sample": samples[:sampled].copy(),
            "chapter": chapters[:sampled].copy(),
            "cut_characters": np.array([read.cut_characters]),
        }
        rejects = Counter(reject.reason for reject in read.rejects)
        return Batch(n, len(utf8), arrays, rejects)


def digests(utf8: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[documents, 2] BLAKE2b of each text without its white space."""
    bare = np.empty_like(utf8)
    bare_ends = np.empty_like(ends)
    kernels.without_space(utf8, ends, bare, bare_ends)
    view = memoryview(bare)  # type: ignore[arg-type]
    data = b"".join(
        hashlib.blake2b(view[start:stop], digest_size=16).digest()
        for start, stop in pairwise([0, *bare_ends.tolist()])
    )
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def name(read: Read, number: int) -> bytes:
    """Id, source and the beginning of a text: what clusters.jsonl shows of a document."""
    start, stop = int(read.starts[number]), int(read.ends[number])
    # No character takes more than four bytes; the last one may be cut in two.
    begin = read.data[start : min(stop, start + 8 * BEGINNING)].decode("utf-8", "ignore")
    beginning = " ".join(begin[: 2 * BEGINNING].split())[:BEGINNING]
    document = read.document(number, beginning)
    return "\0".join((document.id, document.source, beginning)).encode("utf-8")


# --- boilerplate lines ---------------------------------------------------------------------------

BOILERPLATE = "boilerplate.npy"
LINE_COUNT = np.dtype([("hash", "<u8"), ("documents", "<u4"), ("first", "<i8")])


class LineCounter:
    """In how many of a job's documents each line occurs, and in which first."""

    def __init__(self, config: DedupConfig) -> None:
        self.reader = Reader(config, None)
        self.minimum = config.line_characters

    def __call__(self, job: Job) -> Batch:
        read = self.reader(job)
        hashes, places = lines_of(read.utf8, read.ends, self.minimum)
        # In a document once.
        order = np.lexsort((places[:, 0], hashes))
        hashes, documents = hashes[order], places[order, 0]
        once = np.ones(len(hashes), dtype=bool)
        once[1:] = (hashes[1:] != hashes[:-1]) | (documents[1:] != documents[:-1])
        hashes, documents = hashes[once], documents[once]
        values, firsts, counts = np.unique(hashes, return_index=True, return_counts=True)
        arrays: dict[str, NDArray[np.generic]] = {
            "line": values,
            "line_count": counts.astype(np.uint32),
            "line_document": documents[firsts],
        }
        rejects = Counter(reject.reason for reject in read.rejects)
        return Batch(len(read), len(read.data), arrays, rejects)


def boilerplate(store: Store, config: DedupConfig, stage: Path) -> Path:
    """Find the lines of more than `line_documents` documents: LINE_COUNT sorted by hash."""
    with fs.publish(stage) as folder:
        parts = Partitions(folder, int(store.starts("line")[-1]), config.memory, packed=False)
        for values, start in zip(store.blocks("line"), store.starts("line")[:-1], strict=True):
            parts.add(values, np.arange(start, start + len(values)))
        found = [np.empty(0, dtype=LINE_COUNT)]
        for path in partitions_in(folder):  # in the order of the hashes
            hashes, rows = sorted_entries(path)
            counts = store.take("line_count", rows).astype(np.int64)
            documents = store.take("line_document", rows)
            values, starts = np.unique(hashes, return_index=True)
            total = np.add.reduceat(counts, starts)
            many = total > config.line_documents
            lines = np.empty(int(many.sum()), dtype=LINE_COUNT)
            lines["hash"], lines["documents"] = values[many], total[many]
            lines["first"] = np.minimum.reduceat(documents, starts)[many]
            found.append(lines)
            path.unlink()
        save(folder / BOILERPLATE, np.concatenate(found))
    return stage / BOILERPLATE
