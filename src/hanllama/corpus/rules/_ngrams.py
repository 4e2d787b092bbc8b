"""Measure how much of a text repeats itself, by character n-grams.

`repetition(points)` takes the code points of a text and returns two kinds of shares:
- top: the share of characters inside the most frequent n-gram; overlapping occurrences count once;
- duplicate: the share of characters inside n-grams that occurred earlier in the text.

A long text is measured in blocks of `BLOCK` characters, and the shares are averaged. A share grows
with the length of the text searched (in a library everything has been said before). With blocks,
one threshold fits an article and a book. The tables of one block also fit into the cache of a core,
so the cost per character is the same for any length. Deduplication finds more distant repeats.

Method: an n-gram's hash is the difference of two prefix hashes (a polynomial modulo 2**64), stored
in an open-addressing table. A duplicate (n+1)-gram begins where a duplicate n-gram begins, so only
the shortest duplicate length looks at every position. Two different n-grams of a block share a
hash with a probability of about 1e-10, which does not change a share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from hanllama.base.errors import ConfigError
from hanllama.base.machine_code import compiled

BLOCK = 1 << 16

Shares = tuple[NDArray[np.float64], NDArray[np.float64]]


def repetition(
    points_N: NDArray[np.uint32], top: tuple[int, ...], duplicate: tuple[int, ...]
) -> Shares:
    """(shares of the top n-grams, shares in duplicate n-grams), in the order of the lengths.

    Args:
        points_N: code points.
        top: the lengths n for which the most frequent n-gram is measured.
        duplicate: the lengths n for which duplicate n-grams are measured, ascending.
    """
    scan = _compiled()
    tops = np.zeros(len(top))
    duplicates = np.zeros(len(duplicate))
    lengths = np.array(top, dtype=np.int64), np.array(duplicate, dtype=np.int64)
    blocks = max(1, -(-len(points_N) // BLOCK))
    for block_M in np.array_split(points_N, blocks):
        covered = scan(block_M, *lengths)
        tops += covered[: len(top)]
        duplicates += covered[len(top) :]
    length = max(len(points_N), 1)
    return tops / length, duplicates / length


def check_installed() -> None:
    """Raise ConfigError when numba is missing: before a run begins, not at its first document."""
    if find_spec("numba") is None:
        raise ConfigError("repeated_ngrams needs numba: pip install 'hanllama[data]'")


@cache
def _compiled() -> Callable[..., NDArray[np.int64]]:
    """`_scan` as machine code, compiled at the first call: numba is slow to import."""
    return compiled(_scan)


def _scan(
    points_N: NDArray[np.uint32], top: NDArray[np.int64], duplicate: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[len(top) + len(duplicate)]: characters covered. Compiled by numba: plain loops."""
    length = len(points_N)
    covered = np.zeros(len(top) + len(duplicate), dtype=np.int64)

    base = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplication by it loses nothing
    prefix = np.zeros(length + 1, dtype=np.uint64)
    for i in range(length):
        prefix[i + 1] = prefix[i] * base + np.uint64(points_N[i]) + np.uint64(1)

    bits = 4
    while (1 << bits) < 2 * length:
        bits += 1
    size = 1 << bits
    mask = size - 1
    shift = np.uint64(64 - bits)
    keys = np.zeros(size, dtype=np.uint64)  # 0: free
    counts = np.zeros(size, dtype=np.int32)
    ends = np.zeros(size, dtype=np.int32)  # end of the last counted occurrence

    for which in range(len(top)):
        n = top[which]
        power = np.uint64(1)
        for _ in range(n):
            power *= base
        keys[:] = np.uint64(0)
        best = 0
        for i in range(length - n + 1):
            key = prefix[i + n] - prefix[i] * power
            key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            key |= np.uint64(1)
            slot = np.int64(key >> shift)
            while keys[slot] != key and keys[slot] != np.uint64(0):
                slot = (slot + 1) & mask
            if keys[slot] == np.uint64(0):
                keys[slot] = key
                counts[slot] = 1
                ends[slot] = i + n
            elif i >= ends[slot]:
                counts[slot] += 1
                ends[slot] = i + n
            if counts[slot] > best:
                best = int(counts[slot])
        # One occurrence is no repetition, however short the text.
        covered[which] = best * n if best > 1 else 0

    starts = np.arange(length, dtype=np.int32)  # positions at which an n-gram may be a duplicate
    slots = np.zeros(length, dtype=np.int32)
    for which in range(len(duplicate)):
        n = duplicate[which]
        power = np.uint64(1)
        for _ in range(n):
            power *= base
        keys[:] = np.uint64(0)
        reached = 0  # everything before it has been counted
        found = 0
        used = 0
        for start in starts:
            i = int(start)
            if i + n > length:
                break
            key = prefix[i + n] - prefix[i] * power
            key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            key |= np.uint64(1)
            slot = np.int64(key >> shift)
            while keys[slot] != key and keys[slot] != np.uint64(0):
                slot = (slot + 1) & mask
            if keys[slot] == np.uint64(0):
                keys[slot] = key
                counts[slot] = 1
            else:
                counts[slot] += 1
                found += i + n - max(i, reached)
                reached = i + n
            slots[used] = slot
            used += 1
        covered[len(top) + which] = found
        kept = 0
        for k in range(used):
            if counts[slots[k]] > 1:
                starts[kept] = starts[k]
                kept += 1
        starts = starts[:kept]
    return covered
