"""Room for the bytes of one job, used again by the next.

A few megabytes that are asked for and given back come from the system and go back to it each time,
and it clears every page before it hands it out: that took a third of the time of reading. What is
taken here is good until the next `clear`, and must be copied to live longer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A job is 4 MiB, taken a few times over; after one longer document nothing larger is held on to.
_LARGEST_BYTES = 64 * 2**20


class Arena:
    """Hands out pieces of one buffer, which grows to what a job takes."""

    def __init__(self) -> None:
        self._held = np.empty(0, dtype=np.uint8)
        self._taken = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        """So many bytes, of any value."""
        start, self._taken = self._taken, self._taken + size
        if self._taken > len(self._held):
            return np.empty(size, dtype=np.uint8)
        return self._held[start : self._taken]

    def clear(self) -> None:
        """The next job begins: what was taken may be overwritten."""
        if len(self._held) < self._taken <= _LARGEST_BYTES:
            self._held = np.empty(self._taken + self._taken // 4, dtype=np.uint8)
        self._taken = 0


def joined(runs: Sequence[bytes | NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Runs of bytes end to end; one array alone is not copied.

    It can be written to in any case: numba has other machine code for what cannot.
    """
    if len(runs) == 1 and isinstance(runs[0], np.ndarray):
        return runs[0]
    return np.frombuffer(bytearray().join(runs), dtype=np.uint8)  # type: ignore[arg-type]
