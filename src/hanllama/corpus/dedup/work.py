"""The unfinished work of dedup: stages, each complete or absent, and their arrays.

Each stage is a folder named `stage-KEY`. The key is a hash of everything the stage's result depends
on: the input files, its options, the code, and the key of the stage before. So a killed run finds
its finished stages, a changed option repeats exactly the stages it affects, and no stale result can
be read. Arrays are plain `.npy` files.

A pass over the corpus is divided into segments of about `SEGMENT_BYTES` of text, published one by
one. `Store` reads the arrays of all segments as one, by rows and not by memory map, so that pages
of the disk cache do not count as memory of the process.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fingerprint, fs
from hanllama.base.errors import InputError
from hanllama.base.making import Making
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.reading import records

SEGMENT_BYTES = 128 * 2**20
# Or this many bytes of arrays: documents without text take memory too.
SEGMENT_ARRAYS = 64 * 2**20
COMPLETE = "complete.json"  # of a pass, once its last segment is published
# The options of each stage, in addition to those of the stages before it.
READING = ("text_field", "id_field", "source_field", "category_field", "licence_field")
LINES = ("exact_lines", "line_characters", "line_documents", "line_keep")
SKETCH = (
    "exact_documents", "method", "bands", "rows", "shingle", "min_letters", "containment",
    "chapter_letters",
)  # fmt: skip
STAGES = {
    "lines": (*READING, *LINES),
    "scan": SKETCH,
    "exact": ("keep",),
    "bands": ("distance", "memory"),
    "near": ("threshold",),
    "contained": ("chapter_share",),
}


def made_from(config: DedupConfig, corpora: Sequence[Sequence[Path]]) -> dict[str, Any]:
    """The values that the result depends on."""
    files = [[(str(p.resolve()), *records.stamp(p)) for p in paths] for paths in corpora]
    names = [name for stage in STAGES.values() for name in stage]
    return {
        "the input": fingerprint.of_json(files),
        "hanllama's code": fingerprint.of_code("hanllama.corpus.dedup.dedup", quick=True),
        **{name: getattr(config, name) for name in names},
    }


class Work:
    """The stages of a run, in `OUTPUT.partial`; stages of other input or options are removed.

    Attributes:
        stages: {stage: its folder}, existing or not.
    """

    def __init__(
        self, made: Making, config: DedupConfig, corpora: Sequence[Sequence[Path]]
    ) -> None:
        self.folder = made.folder
        self._config, self._corpora, self._input = config, corpora, made.made_from["the input"]
        key = fingerprint.of_json([self._input, made.made_from["hanllama's code"]])
        self.stages: dict[str, Path] = {}
        for stage, names in STAGES.items():
            key = fingerprint.of_json([key, stage, {n: made.made_from[n] for n in names}])
            self.stages[stage] = self.folder / f"{stage}-{key[:16]}"
        known = {path.name for path in self.stages.values()}
        made.save()
        for path in self.folder.iterdir():
            # `exact-KEY.bands` belongs to its stage; the next `publish` sweeps `.tmp-` folders.
            ours = path.name.startswith(".") or path.name.split(".")[0] in known
            if path.is_dir() and not ours:
                fs.remove_folder(path)
        resumed = [stage for stage, path in self.stages.items() if is_complete(path)]
        if resumed:
            print(f"complete: {', '.join(resumed)}", file=sys.stderr)

    def check_unchanged(self) -> None:
        """Raise InputError when a file has changed since the run began."""
        if made_from(self._config, self._corpora)["the input"] != self._input:
            raise changed()


def is_complete(folder: Path) -> bool:
    """Whether a stage or a segment was published."""
    return (folder / fs.SUMS).is_file() or (folder / COMPLETE).is_file()


def changed() -> InputError:
    """The error for an input that differs from an earlier pass."""
    return InputError("the input was changed while it was being read; start again")


class _Plain:
    """Hides a file's type from numpy: its fast path for files does not report a full disk."""

    def __init__(self, out: IO[bytes]) -> None:
        self.write = out.write


def save(path: Path, values: NDArray[Any]) -> None:
    """Write an array as `.npy`; StorageError on a full disk."""
    with fs.storage(path), open(path, "wb") as out:
        np.save(_Plain(out), values)  # type: ignore[call-overload]


# --- the arrays of a pass ----------------------------------------------------------------------


@dataclass
class Batch:
    """The result of a pass for one job.

    Attributes:
        arrays: one row per document, sketch or sample. Values of an array whose name ends in
            `_document` are document numbers, counted from the job's first.
        rejects: counts of the reasons of unreadable records.
    """

    documents: int
    bytes: int
    arrays: dict[str, NDArray[Any]]
    rejects: Counter[str] = field(default_factory=Counter)


class SegmentWriter:
    """Collects batches in order and publishes a segment when it has enough text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = Store(folder)
        self.jobs_done = sum(len(meta["jobs"]) for meta in store.metas)
        self.bytes_done = sum(meta["bytes"] for meta in store.metas)
        self.documents = store.documents
        self._number = len(store.metas)
        self._held: list[Batch] = []
        self._bytes = self._array_bytes = 0

    def add(self, batch: Batch) -> None:
        """Add the batch of the next job."""
        for name, values in batch.arrays.items():
            if name.endswith("_document"):
                batch.arrays[name] = values + self.documents
        self.documents += batch.documents
        self._held.append(batch)
        self._bytes += batch.bytes
        self._array_bytes += sum(values.nbytes for values in batch.arrays.values())
        if self._bytes >= SEGMENT_BYTES or self._array_bytes >= SEGMENT_ARRAYS:
            self.flush()

    def flush(self) -> None:
        """Publish the collected batches as a segment."""
        if not self._held:
            return
        with fs.publish(self.folder / f"{self._number:06d}") as folder:
            for name in self._held[0].arrays:
                values = np.concatenate([batch.arrays[name] for batch in self._held])
                save(folder / f"{name}.npy", values)
            meta = {
                "jobs": [batch.documents for batch in self._held],
                "bytes": self._bytes,
                "rejects": _total(batch.rejects for batch in self._held),
            }
            fs.write_json(folder / "meta.json", meta)
        self._number += 1
        self._held = []
        self._bytes = self._array_bytes = 0


class Store:
    """The arrays of a pass, all its segments as one."""

    def __init__(self, folder: Path) -> None:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        self.segments = [s for s in found if s.name.isdigit() and is_complete(s)]
        self.metas: list[dict[str, Any]] = [fs.read_json(s / "meta.json") for s in self.segments]
        self._headers: dict[tuple[int, str], _Header] = {}
        self._starts: dict[str, NDArray[np.int64]] = {}

    @property
    def jobs(self) -> list[int]:
        """[jobs] the number of documents of each job."""
        return [count for meta in self.metas for count in meta["jobs"]]

    @property
    def documents(self) -> int:
        """The number of documents."""
        return sum(self.jobs)

    @property
    def rejects(self) -> Counter[str]:
        """reason -> number of unreadable records."""
        return _total(meta["rejects"] for meta in self.metas)

    def starts(self, name: str) -> NDArray[np.int64]:
        """[segments + 1] the first row of each segment, then the number of rows."""
        if name not in self._starts:
            sizes = [self._header(n, name).shape[0] for n in range(len(self.segments))]
            self._starts[name] = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        return self._starts[name]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """An array, segment by segment."""
        for segment in self.segments:
            yield np.load(segment / f"{name}.npy")

    def whole(self, name: str) -> NDArray[Any]:
        """An array in memory."""
        return np.concatenate(list(self.blocks(name)))

    def take(self, name: str, rows: NDArray[Any]) -> NDArray[Any]:
        """The given rows of an array, in the given order."""
        starts = self.starts(name)
        first = np.load(self.segments[0] / f"{name}.npy", mmap_mode="r")
        result = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        segment_of = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(segment_of).tolist():
            here = segment_of == number
            source = np.load(self.segments[number] / f"{name}.npy", mmap_mode="r")
            result[here] = source[rows[here] - starts[number]]
        return result

    def run(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Consecutive rows of an array; all must lie in one segment."""
        starts = self.starts(name)
        number = int(np.searchsorted(starts[:-1], start, side="right")) - 1
        header = self._header(number, name)
        row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
        with open(header.path, "rb", buffering=0) as file:
            file.seek(header.offset + int(start - starts[number]) * row_bytes)
            data = file.read((stop - start) * row_bytes)
        return np.frombuffer(data, header.dtype).reshape(-1, *header.shape[1:])

    def _header(self, number: int, name: str) -> _Header:
        """The header of a segment's array, cached: reading it takes longer than a job's rows."""
        if (number, name) not in self._headers:
            path = self.segments[number] / f"{name}.npy"
            array = np.load(path, mmap_mode="r")
            self._headers[number, name] = _Header(str(path), array.offset, array.dtype, array.shape)
        return self._headers[number, name]


class _Header(NamedTuple):
    path: str
    offset: int  # of the values, in bytes
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


# --- sorting more than fits into memory ----------------------------------------------------------

ENTRY = np.dtype([("key", "<u8"), ("value", "<u4")])
# Memory of an entry while its partition is sorted and paired: the entry, its sorted copy, its place
# in the order, and a pair.
_SORTING_BYTES = 64
_MAX_PARTITIONS = 1024


class Partitions:
    """Entries of a key and a 32-bit value, distributed over files by the key's first bits.

    Args:
        entries: how many at most; the number of files follows, so that each fits into the memory.
        packed: write one word with the next 32 key bits and the value. It sorts faster, but equal
            words do not prove equal keys. Otherwise entries are written whole.
    """

    def __init__(self, folder: Path, entries: int, memory_mib: int, *, packed: bool) -> None:
        fitting = memory_mib * 2**20 // _SORTING_BYTES
        self.bits = 0
        while (entries >> self.bits) > fitting and (1 << self.bits) < _MAX_PARTITIONS:
            self.bits += 1
        self.folder = folder
        self.count = 1 << self.bits
        self.packed = packed

    def add(self, keys: NDArray[np.uint64], values: NDArray[Any]) -> None:
        """Append entries; keys must be well mixed."""
        entries: NDArray[Any]
        if self.packed:
            entries = (keys << np.uint64(self.bits)) & _UPPER
            entries |= values.astype(np.uint64)
        else:
            entries = np.empty(len(keys), dtype=ENTRY)
            entries["key"], entries["value"] = keys, values
        if not self.bits:
            self._append(0, entries)
            return
        part = (keys >> np.uint64(64 - self.bits)).astype(np.int64)
        entries = entries[np.argsort(part, kind="stable")]
        ends = np.cumsum(np.bincount(part, minlength=self.count))
        for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > start:
                self._append(number, entries[start:end])

    def _append(self, number: int, entries: NDArray[Any]) -> None:
        path = self.folder / f"part-{number:04d}"
        with fs.storage(path), open(path, "ab") as out:
            out.write(entries.tobytes())


_UPPER = np.uint64(0xFFFFFFFF00000000)


def partitions_in(folder: Path) -> list[Path]:
    """The files that `Partitions` wrote, in order."""
    return sorted(folder.glob("part-*"))


def sorted_entries(path: Path) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """The keys of a partition of whole entries, ascending, and their values."""
    entries = np.fromfile(path, dtype=ENTRY)
    keys = np.ascontiguousarray(entries["key"])
    order = np.argsort(keys)
    return keys[order], np.ascontiguousarray(entries["value"][order])


def sorted_packed(path: Path) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """(keys, values) of a partition of packed entries, sorted; only 32 bits of a key are known."""
    entries = np.fromfile(path, dtype="<u8")
    entries.sort()
    return entries & _UPPER, entries.astype(np.uint32)  # the lower half
