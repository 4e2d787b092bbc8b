"""The open-addressing hash table and the hash mixer of compiled loops.

A table is an array of integers whose length is a power of two. A slot holds an entry's number, or
-1 when it is free. An entry lies in its `home` slot, or in the next free slot `after` it:

    slot = home(slots, key)
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = after(slots, slot)

Only files of compiled loops import this module: numba is slow to import.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base.machine_code import compiled

# Odd constants of splitmix64 (Steele, Lea, Flood 2014); other well-mixed ones would work too.
STEP = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """A 64-bit hash: each of its bits depends on every bit of the value."""
    value = (value ^ (value >> np.uint64(30))) * MIX_1
    value = (value ^ (value >> np.uint64(27))) * MIX_2
    return value ^ (value >> np.uint64(31))


@compiled
def home(slots: Any, key: np.uint64) -> np.int64:
    """The first slot to search for a key; the key's low bits must be mixed."""
    return np.int64(key & np.uint64(len(slots) - 1))


@compiled
def after(slots: Any, slot: np.int64) -> np.int64:
    """The slot after a taken one; the first follows the last."""
    return (slot + 1) & (len(slots) - 1)


def free(entries: int) -> NDArray[np.int64]:
    """An empty table for this many entries, which fill at most half of it."""
    return np.full(1 << max(2 * entries, 15).bit_length(), -1, dtype=np.int64)
