"""Fit the character language model: count n-grams in bounded memory, discount, interpolate.

Counting keeps one sorted table of the longest n-grams. When it exceeds its limit, the rarest are
dropped (count 1, then 2, …); discounts come from the counts before the first drop. The longest
n-grams determine the shorter ones: Kneser-Ney counts the different contexts of a shorter n-gram,
except at the beginning of a line, where it counts occurrences.

N-grams seen less than `min_count` times are not stored. Their probability goes to the back-off of
their context, so every context still adds up to one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hanllama.corpus.quality.ngram_lm import BITS, numbers
from hanllama.corpus.quality.symbols import LINE_END, folds
from hanllama.text.letters import code_points

BUFFER = 2**23  # occurrences sorted at a time: 64 MiB
MAX_LOAD = 0.6  # of a hash table


class CharacterCounts:
    """First pass: count the characters."""

    def __init__(self) -> None:
        self.counts = np.zeros(0x110000, np.int64)
        self._buffer: list[Any] = []
        self._held = 0

    def add(self, text: str) -> None:
        """Count a passage."""
        self._buffer.append(code_points(text))
        self._held += len(text)
        if self._held >= BUFFER:
            self._count()

    def _count(self) -> None:
        # Many passages at a time: the table of all code points is larger than a passage.
        for start in range(0, len(self._buffer), 1000):
            some = np.concatenate(self._buffer[start : start + 1000])
            self.counts += np.bincount(folds()[some], minlength=len(self.counts))
        self._buffer, self._held = [], 0

    def vocabulary(self, limit: int) -> str:
        """The most frequent characters seen at least twice, at most `limit`, by code point."""
        self._count()
        places = np.flatnonzero(self.counts >= 2)
        places = places[(places != LINE_END) & ~((places >= 0xD800) & (places < 0xE000))]
        best = places[np.argsort(-self.counts[places], kind="stable")[:limit]]
        return "".join(map(chr, np.sort(best)))


class NgramCounts:
    """Second pass: the longest n-grams, sorted by key.

    Attributes:
        keys, counts: the table; complete after `finish`.
        forgotten: n-grams seen this often or less were dropped to stay within the limit.
        occurrences: symbols seen.
    """

    def __init__(self, order: int, characters: str, limit: int) -> None:
        self.order, self.limit = order, limit
        self.keys = np.zeros(0, np.uint64)
        self.counts = np.zeros(0, np.uint32)
        self.forgotten = 0
        self.occurrences = 0
        self.counts_of_counts: list[int] = []
        self._numbers = numbers(characters)
        self._buffer: list[Any] = []
        self._held = 0

    def add(self, text: str) -> None:
        """Count a passage."""
        from hanllama.corpus.quality import kernels

        symbols = self._numbers[kernels.compact(code_points(text), folds())]
        self._buffer.append(kernels.ngram_keys(symbols, BITS[self.order], self.order))
        self._held += len(symbols)
        self.occurrences += len(symbols)
        if self._held >= BUFFER:
            self._merge()

    def finish(self) -> None:
        """Complete the table."""
        self._merge()
        if not self.forgotten:
            self.counts_of_counts = counts_of_counts(self.counts)

    def _merge(self) -> None:
        from hanllama.corpus.quality import kernels

        if not self._buffer:
            return
        occurrences = np.sort(np.concatenate(self._buffer))
        self._buffer, self._held = [], 0
        self.keys, self.counts = kernels.merged(self.keys, self.counts, occurrences)
        while len(self.keys) > self.limit:
            if not self.forgotten:
                self.counts_of_counts = counts_of_counts(self.counts)
            self.forgotten = int(self.counts.min())
            kept = self.counts > self.forgotten
            self.keys, self.counts = self.keys[kept], self.counts[kept]


def counts_of_counts(counts: Any) -> list[int]:
    """How many n-grams were seen 1, 2, 3 and 4 times."""
    return [int((counts == times).sum()) for times in (1, 2, 3, 4)]


def discounts(n: list[int]) -> tuple[float, float, float]:
    """The discounts of a count of 1, of 2, of 3 or more (Chen & Goodman 1998, equation 26).

    When a count of counts is zero (a tiny corpus), the formula has no value. Then each discount is
    half a count, which leaves every probability positive.
    """
    if min(n) == 0:
        return 0.5, 0.5, 0.5
    y = n[0] / (n[0] + 2 * n[1])
    raw = [k - (k + 1) * y * n[k] / n[k - 1] for k in (1, 2, 3)]
    first, second, third = (min(max(d, 0.05), k) for k, d in enumerate(raw, 1))
    return first, second, third


@dataclass
class _Types:
    """The n-grams of one order, sorted by key, with their estimates."""

    keys: Any  # [n] uint64
    counts: Any  # [n] int64
    p: Any = None  # [n] float64, interpolated
    kept: Any = None  # [n] bool
    contexts: Any = None  # [m] uint64, sorted: the n-grams of one order less that are contexts
    backoff: Any = None  # [m] float64


@dataclass(frozen=True)
class Fitted:
    """A model's arrays (see `ngram_lm`), and the number of n-grams stored of each order."""

    arrays: dict[str, Any]
    stored: dict[int, int]
    discounts: dict[int, tuple[float, float, float]]


def estimate(table: NgramCounts, vocabulary: int, min_count: int) -> Fitted:
    """Estimate a model from counts; `vocabulary` includes line end and unknown."""
    order, bits = table.order, BITS[table.order]
    types = {order: _Types(table.keys, table.counts.astype(np.int64))}
    for n in range(order - 1, 0, -1):
        types[n] = _shorter(types[n + 1], n, bits)
    _keep(types, order, bits, min_count)
    taken = {}
    for n in range(1, order + 1):
        seen = table.counts_of_counts if n == order else counts_of_counts(types[n].counts)
        taken[n] = discounts(seen)
        if n == 1:
            _unigrams(types[1], vocabulary, taken[1])
        else:
            _interpolate(types[n], types[n - 1], n, bits, taken[n])
    return Fitted(_arrays(types, order), {n: int(t.kept.sum()) for n, t in types.items()}, taken)


def _shorter(longer: _Types, n: int, bits: int) -> _Types:
    """The n-grams that end the longer ones, counted by distinct first symbols."""
    seen = longer.counts > 0  # not the empty line, below
    suffixes = longer.keys[seen] & np.uint64((1 << bits * n) - 1)
    at_start = (
        suffixes >> np.uint64(bits * (n - 1)) == 0 if n > 1 else np.zeros(len(suffixes), bool)
    )
    keys, counts = np.unique(suffixes[~at_start], return_counts=True)
    starts, place = np.unique(suffixes[at_start], return_inverse=True)
    start_counts = np.bincount(place, longer.counts[seen][at_start], len(starts)).astype(np.int64)
    if n > 1 and (len(starts) == 0 or starts[0] != 0):  # the empty line: a context, never seen
        starts, start_counts = np.append(np.uint64(0), starts), np.append(0, start_counts)
    # A first symbol of 0 makes the smallest keys, so the two stay sorted end to end.
    return _Types(
        np.concatenate([starts, keys]).astype(np.uint64), np.concatenate([start_counts, counts])
    )


def _keep(types: dict[int, _Types], order: int, bits: int, min_count: int) -> None:
    """Mark the n-grams to store: frequent ones, and the contexts of stored ones."""
    needed = np.zeros(0, np.uint64)
    for n in range(order, 0, -1):
        found = types[n]
        least = min_count if n >= 3 else 0
        found.kept = (found.counts >= least) | np.isin(found.keys, needed, assume_unique=True)
        if n > 1:
            found.kept |= (found.keys == 0) & (n < order)
        needed = np.unique(found.keys[found.kept] >> np.uint64(bits))


def _discount(counts: Any, taken: tuple[float, float, float]) -> Any:
    return np.minimum(counts, np.array([0.0, *taken])[np.minimum(counts, 3)])


def _unigrams(found: _Types, vocabulary: int, taken: tuple[float, float, float]) -> None:
    counts = np.zeros(vocabulary, np.int64)
    counts[found.keys.astype(np.int64)] = found.counts
    discount = _discount(counts, taken)
    total = counts.sum()
    found.keys = np.arange(vocabulary, dtype=np.uint64)
    found.counts, found.kept = counts, np.ones(vocabulary, bool)
    found.p = (counts - discount) / total + discount.sum() / total / vocabulary


def _interpolate(
    found: _Types, shorter: _Types, n: int, bits: int, taken: tuple[float, float, float]
) -> None:
    owners = found.keys >> np.uint64(bits)
    found.contexts, first = np.unique(owners, return_index=True)
    place = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(owners))))
    totals = np.maximum(np.add.reduceat(found.counts, first), 1)
    discount = _discount(found.counts, taken)
    own = np.where(found.kept, found.counts - discount, 0.0)
    found.backoff = 1.0 - np.add.reduceat(own, first) / totals
    suffixes = found.keys & np.uint64((1 << bits * (n - 1)) - 1)
    lower = shorter.p[np.searchsorted(shorter.keys, suffixes)]
    found.p = own / totals[place] + found.backoff[place] * lower


def _arrays(types: dict[int, _Types], order: int) -> dict[str, Any]:
    """The costs in hash tables, see `kernels`."""
    from hanllama.corpus.quality import kernels

    unigrams = np.stack([_costs(types[1].p), _backoff_costs(types, 1)], axis=1)
    sizes = [0, 0]
    tables = []
    for n in range(2, order + 1):
        found = types[n]
        keys = found.keys[found.kept]
        values = _costs(found.p[found.kept]).astype(np.uint64) << np.uint64(32)
        if n < order:
            values |= _backoff_costs(types, n)[found.kept].astype(np.uint64)
        size = 1 << max(int(len(keys) / MAX_LOAD), 1).bit_length()
        table = np.zeros((size, 2), np.uint64)
        kernels.insert(table, keys, values)
        tables.append(table)
        sizes.append(size)
    return {
        "unigrams": unigrams.astype(np.int64),
        "slots": np.concatenate(tables),
        "sizes": np.array(sizes, np.int64),
    }


def _costs(p: Any) -> Any:
    from hanllama.corpus.quality.kernels import SCALE

    return np.round(-np.log(np.maximum(p, 1e-300)) * SCALE).astype(np.int64)


def _backoff_costs(types: dict[int, _Types], n: int) -> Any:
    """[n-grams of order n] the cost of backing off from each as a context; 0 for no context."""
    longer = types[n + 1]
    backoff = np.ones(len(types[n].keys))
    backoff[np.searchsorted(types[n].keys, longer.contexts)] = longer.backoff
    return _costs(np.clip(backoff, 1e-300, 1.0))
