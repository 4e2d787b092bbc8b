"""Remove works whose chapters stand in a larger document.

A story inside collected works is no near duplicate of them: their Jaccard similarity is as small
as the story's share of the whole. So each document also has samples of its shingles, each with its
chapter of about `chapter_letters` letters. A sample is a shingle whose hash ends in zeros, so every
document samples the same shingles (FracMinHash, Irber and others 2022). Another document contains a
chapter when it holds `chapter_share` of the chapter's samples. It contains a document when such
chapters make up the share `containment` of the document.

Two documents that contain each other are editions of one work: the better copy stays, as among near
duplicates. Otherwise the larger one stays.

Documents are compared when they share samples that few documents have (`RARE`); the comparison uses
all samples. As in `near`, the search is repeated among the rest when common samples may have hidden
a pair.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs, workers
from hanllama.base.progress import Progress
from hanllama.corpus.dedup.keep import REMOVED, Numbers, Preference, Removed, choose
from hanllama.corpus.dedup.near import REMOVED_FILE, paired, unpacked
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.work import Partitions, Store, partitions_in, save, sorted_entries

RARE = 32  # a sample in more documents than this does not bring documents together
# Two documents are compared when they share this many rare samples, and this share of the smaller
# one's samples: less would not reach any sensible threshold.
_SHARED_SAMPLES = 5
_SHARED_SHARE = 0.1
_MIN_SAMPLES = 8  # fewer samples cannot judge a document
_SAMPLES_AT_ONCE = 1 << 18  # about 100 bytes each while pairs are compared
_CACHED_SEGMENTS = 16  # 8 bytes a document


class Samples(NamedTuple):
    """The distinct samples of some documents: ascending by document, then by hash.

    Attributes:
        numbers: [samples] of the hash, equal for equal ones.
        owners, chapters: [samples] the document, and the first chapter that it stands in.
        bounds: [documents + 1] where the samples of each begin.
    """

    numbers: Numbers
    owners: Numbers
    chapters: Numbers
    bounds: Numbers


def search(
    stage: Path, store: Store, alive: NDArray[np.bool_], config: DedupConfig, n_workers: int
) -> None:
    """The stage: remove the `alive` documents that another one contains."""
    preference = Preference(store, config.keep)
    alive = alive.copy()
    with fs.publish(stage) as folder:
        removed = [np.empty(0, dtype=REMOVED)]
        while True:
            pairs, cut = _meetings(folder, store, alive, config, n_workers)
            found = _choose(_Containment(store, config), pairs, preference, config, n_workers)
            alive[found["document"]] = False
            removed.append(found)
            if not cut or not len(found):
                break
        result = np.concatenate(removed)
        save(folder / REMOVED_FILE, result[np.argsort(result["document"])])


# --- pairs to compare ----------------------------------------------------------------------------


def _meetings(
    folder: Path, store: Store, alive: NDArray[np.bool_], config: DedupConfig, n_workers: int
) -> tuple[NDArray[np.uint64], bool]:
    """(packed pairs of documents that share enough rare samples, whether samples were too common).

    Samples are dealt by their hash and paired off; the pairs are dealt by pair and counted.
    """
    total = int(store.starts("sample")[-1])
    sorting = max(64, config.memory // n_workers)  # MiB, of each process
    samples = Partitions(_fresh(folder / "samples"), total, sorting, packed=False)
    start = 0
    for hashes, counts in zip(store.blocks("sample"), store.blocks("counts"), strict=True):
        documents = np.repeat(np.arange(start, start + len(counts)), counts[:, 4])
        here = alive[documents]
        samples.add(hashes[here], documents[here])
        start += len(counts)
    any_cut = False
    tallies = []
    paths = partitions_in(samples.folder)
    work = workers.ordered(paths, min(n_workers, len(paths)) or 1, _Pairing, ())
    with contextlib.closing(work) as results, Progress("samples", len(paths)) as progress:
        for path, cut in results:
            tallies.append(path)
            any_cut = any_cut or cut
            progress.advance(1)
    found = _counted(tallies, store, config.memory)
    fs.remove_folder(samples.folder)
    return found, any_cut


def _fresh(folder: Path) -> Path:
    with fs.storage(folder):
        folder.mkdir()
    return folder


class _Pairing:
    """Turns a partition of samples into pairs of documents that share one, with counts."""

    def __call__(self, partition: Path) -> tuple[Path, bool]:
        hashes, documents = sorted_entries(partition)
        pairs, cut = paired(hashes, documents, RARE, star=False)
        values, counts = np.unique(pairs, return_counts=True)
        out = partition.with_suffix(".pairs.npy")
        save(out, np.stack([values, counts.astype(np.uint64)]))
        partition.unlink()
        return out, bool(cut)


def _counted(tallies: list[Path], store: Store, memory_mib: int) -> NDArray[np.uint64]:
    """The pairs that share enough samples over all partitions, ascending."""
    entries = sum(np.load(path, mmap_mode="r").shape[1] for path in tallies)
    # By ranges of the pair's value, so that the partitions come out in order.
    parts = max(1, -(-entries * 64 // (memory_mib * 2**20)))
    bounds = np.linspace(0, store.documents, parts + 1).astype(np.uint64)[1:-1] << np.uint64(32)
    kept = [np.empty(0, dtype=np.uint64)]
    for low, high in zip([np.uint64(0), *bounds], [*bounds, np.uint64(2**64 - 1)], strict=True):
        runs = []
        for path in tallies:
            values, counts = np.load(path, mmap_mode="r")
            span = slice(*np.searchsorted(values, [low, high]))
            runs.append((np.array(values[span]), np.array(counts[span])))
        values = np.concatenate([r[0] for r in runs] or kept)
        counts = np.concatenate([r[1] for r in runs] or kept)
        pairs, at = np.unique(values, return_inverse=True)
        shared = np.bincount(at, weights=counts, minlength=len(pairs))
        left, right = unpacked(pairs)
        sizes = np.minimum(_sample_counts(store, left), _sample_counts(store, right))
        kept.append(pairs[(shared >= _SHARED_SAMPLES) & (shared >= _SHARED_SHARE * sizes)])
    return np.concatenate(kept)


def _sample_counts(store: Store, documents: Numbers) -> NDArray[np.int64]:
    if not len(documents):
        return documents
    return np.asarray(store.take("counts", documents)[:, 4], dtype=np.int64)


# --- containment of a pair -----------------------------------------------------------------------


class _Containment:
    """How much of a document another one holds, by its chapters; built in each process."""

    def __init__(self, store: Store, config: DedupConfig) -> None:
        self.store = store
        self.chapter_share = config.chapter_share
        cache = functools.lru_cache(_CACHED_SEGMENTS)
        self._sample_places = cache(self._read_sample_places)

    def __call__(self, pairs: NDArray[np.uint64]) -> NDArray[np.float32]:
        """[pairs, 2] the share of the first that the second holds, and the other way."""
        documents, ends = np.unique(np.concatenate(unpacked(pairs)), return_inverse=True)
        left, right = ends.reshape(2, -1)
        samples = self._samples(documents)
        shares = [self._shares(samples, a, b) for a, b in ((left, right), (right, left))]
        return np.stack(shares, axis=1)

    def _samples(self, documents: Numbers) -> Samples:
        """The distinct samples of some documents, each with the first chapter it stands in."""
        starts = self.store.starts("counts")
        segments = np.searchsorted(starts, documents, side="right") - 1
        spans = np.empty((len(documents), 2), dtype=np.int64)
        for segment in np.unique(segments).tolist():
            here = segments == segment
            rows = documents[here] - starts[segment]
            places = self._sample_places(segment)
            spans[here] = np.stack([places[rows], places[rows + 1]], axis=1)
        owners, rows = _spread(spans[:, 0], spans[:, 1] - spans[:, 0])
        hashes = self.store.take("sample", rows)
        order = np.lexsort([hashes, owners])
        hashes, owners = hashes[order], owners[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        chapters = self.store.take("chapter", rows[order[first]]).astype(np.int64)
        numbers = np.unique(hashes[first], return_inverse=True)[1]
        bounds = np.searchsorted(owners[first], np.arange(len(documents) + 1))
        return Samples(numbers, owners[first], chapters, bounds)

    def _shares(self, samples: Samples, small: Numbers, large: Numbers) -> NDArray[np.float32]:
        """[pairs] the share of `small`, by samples, in chapters that `large` contains."""
        sizes = np.diff(samples.bounds)[small]
        pairs, rows = _spread(samples.bounds[small], sizes)
        # A document and a hash in one number; ascending, as the samples are.
        n = len(samples.numbers)
        known = samples.owners * n + samples.numbers
        wanted = large[pairs] * n + samples.numbers[rows]
        held = known[np.minimum(np.searchsorted(known, wanted), n - 1)] == wanted
        width = int(samples.chapters.max(initial=0)) + 1
        chapters, at = np.unique(pairs * width + samples.chapters[rows], return_inverse=True)
        in_chapter = np.bincount(at, minlength=len(chapters))
        contained = np.bincount(at, weights=held) >= self.chapter_share * in_chapter
        covered = np.bincount(chapters // width, in_chapter * contained, minlength=len(small))
        shares = covered / np.maximum(sizes, 1)
        shares[sizes < _MIN_SAMPLES] = 0
        return shares.astype(np.float32)

    def _read_sample_places(self, segment: int) -> NDArray[np.int64]:
        """[documents of the segment + 1] where the samples of each begin; last, the end."""
        start, stop = self.store.starts("counts")[segment : segment + 2].tolist()
        counts = self.store.run("counts", start, stop)[:, 4]
        first = self.store.starts("sample")[segment]
        return np.concatenate([[first], first + np.cumsum(counts, dtype=np.int64)])


def _spread(starts: Numbers, sizes: Numbers) -> tuple[Numbers, Numbers]:
    """(number of its run, place) of every member of runs that begin at `starts`."""
    runs = np.repeat(np.arange(len(starts)), sizes)
    return runs, np.arange(len(runs)) + (starts - np.cumsum(sizes) + sizes)[runs]


def _choose(
    containment: _Containment,
    pairs: NDArray[np.uint64],
    preference: Preference,
    config: DedupConfig,
    n_workers: int,
) -> Removed:
    """The documents to remove: all editions but the best, then documents inside a kept one."""
    shares = _shares(containment, pairs, config, n_workers)
    left, right = unpacked(pairs)
    both = shares.min(axis=1) >= config.containment if len(shares) else np.empty(0, dtype=bool)
    known = dict(zip(pairs[both].tolist(), shares[both].min(axis=1).tolist(), strict=True))

    def mutual(a: Numbers, b: Numbers) -> NDArray[np.float32]:
        keys = (np.minimum(a, b) << 32) | np.maximum(a, b)
        return np.array([known.get(key, 0.0) for key in keys.tolist()], dtype=np.float32)

    editions = choose(left[both], right[both], preference.ranks, mutual, config.containment)
    gone = set(editions["document"].tolist())

    # Larger containers first: then it is known whether a container itself stays.
    small = np.concatenate([left, right])
    large = np.concatenate([right, left])
    share = shares.T.ravel()
    within = share >= config.containment
    small, large, share = small[within], large[within], share[within]
    sizes_small, sizes_large = (
        _sample_counts(containment.store, small),
        _sample_counts(containment.store, large),
    )
    # Of two equal sizes the earlier document counts as larger.
    larger = (sizes_large > sizes_small) | ((sizes_large == sizes_small) & (large < small))
    small, large, share = small[larger], large[larger], share[larger]
    order = np.lexsort([-share, small, -sizes_small[larger]])
    rows = []
    for at in order.tolist():
        inner, outer = int(small[at]), int(large[at])
        if inner not in gone and outer not in gone:
            gone.add(inner)
            rows.append((inner, outer, share[at]))
    return np.concatenate([editions, np.array(rows, dtype=REMOVED)])


def _shares(
    containment: _Containment, pairs: NDArray[np.uint64], config: DedupConfig, n_workers: int
) -> NDArray[np.float32]:
    samples = sum(_sample_counts(containment.store, documents) for documents in unpacked(pairs))
    group = np.cumsum(samples) // _SAMPLES_AT_ONCE
    runs = np.split(pairs, np.flatnonzero(np.diff(group)) + 1) if len(pairs) else []
    arguments = (containment.store, config)
    work = workers.ordered(runs, min(n_workers, len(runs)) or 1, _Containment, arguments)
    with contextlib.closing(work) as results, Progress("containment", len(pairs)) as progress:
        done = [np.empty((0, 2), dtype=np.float32)]
        for shares in results:
            done.append(shares)
            progress.advance(len(shares))
    return np.concatenate(done)
