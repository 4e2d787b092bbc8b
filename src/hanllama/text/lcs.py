"""The longest common subsequence of one text with many others, for `similarity.py`.

Bit-parallel (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"): a machine word holds 64
positions of the one text, so each symbol of another text costs a few instructions per word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hanllama.base.machine_code import compiled


@compiled
def lcs_lengths(
    wanted: NDArray[np.int32],
    slots: NDArray[np.int32],
    symbols: NDArray[np.int32],
    starts: NDArray[np.int64],
    out: NDArray[np.int32],
    shortest: int,
    longest: int,
) -> None:
    """Fill `out` [texts] with the length of each text's common subsequence with `wanted`.

    Args:
        wanted: the one text, as symbol numbers.
        slots: [number of symbols], scratch space: all -1 before and after.
        symbols: all other texts end to end; text i is `symbols[starts[i]:starts[i + 1]]`.
        shortest, longest: texts of other lengths are skipped and get 0.
    """
    words = (len(wanted) + 63) // 64
    different = 0
    for symbol in wanted:
        if slots[symbol] < 0:
            slots[symbol] = different
            different += 1
    masks = np.zeros((different, words), dtype=np.uint64)
    one = np.uint64(1)
    for place in range(len(wanted)):
        masks[slots[wanted[place]], place // 64] |= one << np.uint64(place % 64)
    row = np.empty(words, dtype=np.uint64)
    for text in range(len(starts) - 1):
        size = starts[text + 1] - starts[text]
        if size < shortest or size > longest:
            out[text] = 0
            continue
        row[:] = ~np.uint64(0)
        for at in range(starts[text], starts[text + 1]):
            slot = slots[symbols[at]]
            if slot < 0:
                continue
            carry = np.uint64(0)
            for word in range(words):
                before = row[word]
                common = before & masks[slot, word]
                total = before + common
                over = one if total < before else np.uint64(0)
                total2 = total + carry
                if total2 < total:
                    over = one
                carry = over
                row[word] = total2 | (before & ~masks[slot, word])
        length = 0
        for place in range(len(wanted)):
            if not (row[place // 64] >> np.uint64(place % 64)) & one:
                length += 1
        out[text] = length
    for symbol in wanted:
        slots[symbol] = -1
