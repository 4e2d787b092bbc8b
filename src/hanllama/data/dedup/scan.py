"""The passes over the corpus: what is learnt of each document, and the lines that many share.

Both passes cut the input into the same jobs, so a document has the same number in each, and in
the pass that writes the output. Workers send arrays; the parent puts them end to end in the order
of the corpus, in segments that are published one by one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanllama import fs, records
from hanllama.data import workers
from hanllama.data.dedup import kernels
from hanllama.data.dedup.options import DedupConfig
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
# Python's white space in the first plane that texts really hold; what makes no difference to an
# exact comparison.
_ASCII_SPACE = b" \t\r\n\v\f"
_WIDE_SPACE = "\u3000".encode()


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
    """The documents of a job, as UTF-8."""

    documents: list[Document] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)  # documents that had boilerplate lines
    removed_lines: Counter[str] = field(default_factory=Counter)
    cut_characters: int = 0  # with the line breaks and the white space around

    def buffer(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(all texts end to end, where each ends)."""
        ends = np.cumsum([len(text) for text in self.texts], dtype=np.int64)
        return np.frombuffer(b"".join(self.texts), dtype=np.uint8), ends


class Reader:
    """Reads a job's documents, without the lines that are boilerplate."""

    def __init__(self, config: DedupConfig, boilerplate: Path | None) -> None:
        self.fields = config.fields
        self.minimum = config.line_characters
        self.keep_first = config.line_keep == "first"
        self.boilerplate = np.load(boilerplate) if boilerplate is not None else None

    def __call__(self, job: Job) -> Read:
        result = Read()
        for piece in job.pieces:
            for item in records.parse(piece, self.fields):
                if isinstance(item, Reject):
                    result.rejects.append(item)
                else:
                    result.documents.append(item)
                    result.texts.append(item.text.encode("utf-8"))
        if self.boilerplate is not None and len(self.boilerplate) and result.texts:
            self._without_boilerplate(result, job.first)
        return result

    def _without_boilerplate(self, read: Read, first: int) -> None:
        assert self.boilerplate is not None
        utf8, ends = read.buffer()
        hashes, places = lines_of(utf8, ends, self.minimum)
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
        starts = np.concatenate([[0], ends[:-1]])
        for number in np.unique(places[hit, 0]).tolist():
            text = read.texts[number]
            kept = []
            at_byte = 0
            for _, start, stop, low, high in places[hit & (places[:, 0] == number)].tolist():
                offset = int(starts[number])
                kept.append(text[at_byte : start - offset])
                at_byte = stop - offset
                read.removed_lines[utf8[low:high].tobytes().decode("utf-8")] += 1
            kept.append(text[at_byte:])
            rest = b"".join(kept)
            # Without its last line a text does not end in the newline before that.
            read.texts[number] = rest.rstrip(b"\n") if at_byte == len(text) else rest
            document = read.documents[number]
            read.cut_characters += len(document.text)
            document.text = read.texts[number].decode("utf-8")
            read.cut_characters -= len(document.text)
            read.changed.add(number)


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
        utf8, ends = read.buffer()
        n, config = len(read.texts), self.config
        slots = config.bands * config.rows if config.method == "minhash" else 0
        counts = np.zeros((n, 5), dtype=np.uint32)
        sketches = np.zeros((n, slots), dtype=np.uint16)
        simhashes = np.zeros(n if config.method == "simhash" else 0, dtype=np.uint64)
        # Eight times what is expected of English; a text of one word over and over needs no more.
        room = len(utf8) // 4 + 1024
        samples = np.empty(room, dtype=np.uint64)
        chapters = np.empty(room, dtype=np.uint32)
        sketched, sampled = 0, 0
        if n:
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
        names = [_name(document) for document in read.documents]
        least = max(config.min_letters, config.shingle)
        arrays: dict[str, NDArray[np.generic]] = {
            "digest": digests(read.texts),
            "counts": counts,
            "corpus": np.full(n, job.corpus, dtype=np.uint16),
            "sketch": sketches[:sketched],
            "simhash": simhashes[:sketched],
            "sketched_document": np.flatnonzero(counts[:, 0] >= least).astype(np.int64),
            "sample": samples[:sampled].copy(),
            "chapter": chapters[:sampled].copy(),
            "names": np.frombuffer(b"".join(names), dtype=np.uint8),
            "name_bytes": np.array([len(name) for name in names], dtype=np.uint32),
            "cut_characters": np.array([read.cut_characters]),
        }
        rejects = Counter(reject.reason for reject in read.rejects)
        return Batch(n, len(utf8), arrays, rejects)


def digests(texts: list[bytes]) -> NDArray[np.uint64]:
    """[documents, 2] BLAKE2b of each text without its white space."""
    data = b"".join(
        hashlib.blake2b(
            text.translate(None, _ASCII_SPACE).replace(_WIDE_SPACE, b""), digest_size=16
        ).digest()
        for text in texts
    )
    return np.frombuffer(data, dtype="<u8").reshape(-1, 2)


def _name(document: Document) -> bytes:
    """Id, source and the beginning of the text: what clusters.jsonl shows of a document."""
    beginning = " ".join(document.text[: 2 * BEGINNING].split())[:BEGINNING]
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
        utf8, ends = read.buffer()
        hashes, places = lines_of(utf8, ends, self.minimum)
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
        return Batch(len(read.texts), len(utf8), arrays, rejects)


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
