"""Find equal and near-equal documents: keys -> partitions -> pairs under one key -> true pairs.

Exact copies, MinHash and SimHash take the same way. A `Comparison` holds their three differences:
the keys under which similar documents meet, the similarity of two documents, and its threshold. A
key is never believed: every pair that meets is compared by data of the whole texts. Keys are sorted
in partitions (`work.Partitions`), which bounds their memory.

A group of more than `LARGEST_GROUP` under one key is not paired off completely. If that happened
and a document was removed, the search is repeated among the rest until it finds nothing. So
deduplicating the result removes nothing more.
"""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs, workers
from hanllama.base.progress import Progress
from hanllama.corpus.dedup import near_loops
from hanllama.corpus.dedup.keep import REMOVED, Numbers, Preference, Removed, choose
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.work import Partitions, Store, partitions_in, save, sorted_packed

LARGEST_GROUP = 64
# Of two documents of very unequal length one may hold the other and much more. Containment judges
# that; it is never a reason to drop the longer one.
UNEQUAL = 0.7
_COMPARED_AT_ONCE = 1 << 14  # pairs; a sketch of 512 slots has 1 KiB
REMOVED_FILE = "removed.npy"


class Comparison(ABC):
    """The keys under which documents meet, and their similarity.

    Attributes:
        how: its name in clusters.jsonl.
        rows: the array of the store that maps compared rows to documents; "": rows are documents.
        keys_per_row: keys of each row.
        threshold: the least similarity at which one of two documents is removed.
        exact: whether equal means the same text; then lengths are not compared.
    """

    how: str
    rows: str = ""
    keys_per_row: int
    threshold: float
    exact: bool = False

    def __init__(self, store: Store) -> None:
        self.store = store

    @abstractmethod
    def keys(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        """[rows, keys_per_row] the keys, well mixed."""

    @abstractmethod
    def similarity(self, left: Numbers, right: Numbers) -> NDArray[np.float32]:
        """[pairs] the similarity of rows, given by number: 0 to 1."""

    @property
    @abstractmethod
    def array(self) -> str:
        """The name of the store's array that `keys` takes."""


class Equal(Comparison):
    """The same text apart from white space."""

    how, array, keys_per_row, threshold, exact = "exact", "digest", 1, 1.0, True

    def keys(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        return np.asarray(rows[:, :1], dtype=np.uint64)

    def similarity(self, left: Numbers, right: Numbers) -> NDArray[np.float32]:
        same = self.store.take("digest", left) == self.store.take("digest", right)
        return np.asarray(same.all(axis=1), dtype=np.float32)


class MinHash(Comparison):
    """Jaccard similarity of shingle sets, estimated from sketches; bands are the keys."""

    how, array, rows = "minhash", "sketch", "sketched_document"

    def __init__(self, store: Store, config: DedupConfig) -> None:
        super().__init__(store)
        self.keys_per_row, self.band_rows = config.bands, config.rows
        self.threshold = config.threshold

    def keys(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        keys = np.empty((len(rows), self.keys_per_row), dtype=np.uint64)
        near_loops.band_keys(rows, self.band_rows, keys)
        return keys

    def similarity(self, left: Numbers, right: Numbers) -> NDArray[np.float32]:
        shares = np.empty(len(left), dtype=np.float32)
        for at in range(0, len(left), _COMPARED_AT_ONCE):
            span = slice(at, at + _COMPARED_AT_ONCE)
            rows, ends = np.unique(np.concatenate([left[span], right[span]]), return_inverse=True)
            sketches = self.store.take("sketch", rows)
            half = len(ends) // 2
            near_loops.equal_shares(sketches, ends[:half], ends[half:], shares[span])
        return shares


class SimHash(Comparison):
    """Hamming distance of 64-bit SimHashes; each choice of three blocks of bits is a key.

    The bits are cut into d + 3 blocks. d different bits touch at most d blocks, so two hashes
    within the distance agree on some three blocks. (With d + 1 blocks and one block per key, a key
    would have only 16 bits, and all documents would meet.)
    """

    how, array, rows = "simhash", "simhash", "sketched_document"

    def __init__(self, store: Store, config: DedupConfig) -> None:
        super().__init__(store)
        self.threshold = 1 - config.distance / 64
        self.masks = _masks(config.distance)
        self.keys_per_row = len(self.masks)

    def keys(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        keys = np.empty((len(rows), self.keys_per_row), dtype=np.uint64)
        near_loops.masked_keys(rows, self.masks, keys)
        return keys

    def similarity(self, left: Numbers, right: Numbers) -> NDArray[np.float32]:
        unequal = self.store.take("simhash", left) ^ self.store.take("simhash", right)
        bits = np.unpackbits(unequal.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
        return np.asarray(1 - bits / 64, dtype=np.float32)


def _masks(distance: int) -> NDArray[np.uint64]:
    edges = np.linspace(0, 64, distance + 4).round().astype(int).tolist()
    blocks = [((1 << b) - 1) ^ ((1 << a) - 1) for a, b in itertools.pairwise(edges)]
    chosen = itertools.combinations(blocks, 3)
    return np.array([a | b | c for a, b, c in chosen], dtype=np.uint64)


# --- the stages ----------------------------------------------------------------------------------


def deal(stage: Path, comparison: Comparison, memory_mib: int, alive: NDArray[np.bool_]) -> None:
    """The stage `bands`: write every key of the `alive` rows into partitions."""
    store = comparison.store
    starts = store.starts(comparison.array)
    with fs.publish(stage) as folder:
        entries = int(starts[-1]) * comparison.keys_per_row
        parts = Partitions(folder, entries, memory_mib, packed=True)
        for values, first in zip(store.blocks(comparison.array), starts[:-1], strict=True):
            numbers = np.arange(first, first + len(values))
            here = alive[numbers]
            for at in range(0, len(values), 1 << 14):
                span = slice(at, at + (1 << 14))
                keys = comparison.keys(values[span][here[span]])
                parts.add(keys.ravel(), np.repeat(numbers[span][here[span]], keys.shape[1]))


def search(
    stage: Path,
    dealt: Path,
    comparison: Comparison,
    preference: Preference,
    n_workers: int,
    judged_elsewhere: float,
) -> None:
    """The stage `exact` or `near`: compare the pairs that meet in `dealt`, write those to remove.

    Args:
        judged_elsewhere: documents of this many letters or more are not removed for a much longer
            one: the search for contained works judges them.
    """
    store = comparison.store

    def similarity(gone: Numbers, kept: Numbers) -> NDArray[np.float32]:
        shares = comparison.similarity(gone, kept)
        if len(gone) and not comparison.exact:
            lost, stays = (_letters(store, comparison, rows) for rows in (gone, kept))
            shares[stays < UNEQUAL * lost] = 0
            shares[(lost < UNEQUAL * stays) & (lost >= judged_elsewhere)] = 0
        return shares

    with fs.publish(stage) as folder:
        gone = np.empty(0, dtype=np.int64)  # rows
        removed = [np.empty(0, dtype=REMOVED)]
        while True:
            save(folder / "gone.npy", np.sort(gone))
            left, right, cut = _matches(dealt, folder / "gone.npy", comparison, n_workers)
            found = choose(
                left,
                right,
                lambda rows: preference.ranks(_documents(store, comparison, rows)),
                similarity,
                comparison.threshold,
            )
            gone = np.concatenate([gone, found["document"]])
            found["document"] = _documents(store, comparison, found["document"])
            found["kept"] = _documents(store, comparison, found["kept"])
            removed.append(found)
            if not cut or not len(found):
                break
        (folder / "gone.npy").unlink()
        result = np.concatenate(removed)
        save(folder / REMOVED_FILE, result[np.argsort(result["document"])])


def removed_in(stage: Path) -> Removed:
    """The documents that a stage removed."""
    return np.asarray(np.load(stage / REMOVED_FILE))


def _documents(store: Store, comparison: Comparison, rows: Numbers) -> Numbers:
    return store.take(comparison.rows, rows) if comparison.rows and len(rows) else rows


def _letters(store: Store, comparison: Comparison, rows: Numbers) -> Numbers:
    counts = store.take("counts", _documents(store, comparison, rows))
    return np.asarray(counts[:, 0], dtype=np.int64)


def _matches(
    dealt: Path, gone: Path, comparison: Comparison, n_workers: int
) -> tuple[Numbers, Numbers, bool]:
    """(left, right) rows of every true pair, and whether a group was not paired off completely."""
    paths = partitions_in(dealt)
    packed = [np.empty(0, dtype=np.uint64)]
    any_cut = False
    n_workers = min(n_workers, len(paths)) or 1
    work = workers.ordered(paths, n_workers, _Matcher, (comparison, gone))
    with contextlib.closing(work) as results, Progress(comparison.how, len(paths)) as progress:
        for pairs, cut in results:
            packed.append(pairs)
            any_cut = any_cut or cut
            progress.advance(1)
    pairs = np.unique(np.concatenate(packed))
    left, right = unpacked(pairs)
    return left, right, any_cut


class _Matcher:
    """Sorts, pairs and compares the entries of a partition."""

    def __init__(self, comparison: Comparison, gone: Path) -> None:
        self.comparison = comparison
        self.gone = np.load(gone)

    def __call__(self, partition: Path) -> tuple[NDArray[np.uint64], bool]:
        keys, rows = sorted_packed(partition)
        if len(self.gone):
            left = ~np.isin(rows, self.gone)
            keys, rows = keys[left], rows[left]
        pairs, cut = paired(keys, rows, LARGEST_GROUP, star=True)
        pairs = np.unique(pairs)
        shares = self.comparison.similarity(*unpacked(pairs))
        return pairs[shares >= self.comparison.threshold], bool(cut)


def paired(
    keys: NDArray[np.uint64], values: NDArray[np.uint32], largest: int, *, star: bool
) -> tuple[NDArray[np.uint64], int]:
    """`near_loops.pairs_in_groups` with an array of the right size."""
    nothing = np.empty(0, dtype=np.uint64)
    count, cut = near_loops.pairs_in_groups(keys, values, largest, star, nothing)
    pairs = np.empty(count, dtype=np.uint64)
    if count:
        near_loops.pairs_in_groups(keys, values, largest, star, pairs)
    return pairs, cut


def unpacked(pairs: NDArray[np.uint64]) -> tuple[Numbers, Numbers]:
    """(left, right) of packed pairs."""
    left = (pairs >> np.uint64(32)).astype(np.int64)
    return left, (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def alive_rows(comparison: Comparison, gone: Iterable[Removed]) -> NDArray[np.bool_]:
    """[rows] whether the row's document is not removed."""
    store = comparison.store
    alive = np.ones(store.documents, dtype=bool)
    for removed in gone:
        alive[removed["document"]] = False
    if not comparison.rows:
        return alive
    return np.concatenate(
        [np.empty(0, dtype=bool), *(alive[block] for block in store.blocks(comparison.rows))]
    )
