"""Hashes of names and texts whose values are kept: on disk, or in the order that they give.

Other Python processes and other machines find the same values (Python's own `hash` does not), so
nothing here may change.
"""

from __future__ import annotations

import hashlib


def hash64(data: bytes) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def rank(seed: int, name: str) -> int:
    """A name's place in a queue that a seed shuffles: 64 bits, the same wherever it is asked."""
    return hash64(f"{seed}\0{name}".encode())
