"""Hashes of names and texts, the same in every process and on every machine.

Files on disk and orders of data depend on their values, so nothing here may change. (Python's own
`hash` differs between processes.)
"""

from __future__ import annotations

import hashlib


def hash64(data: bytes) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def rank(seed: int, name: str) -> int:
    """A name's rank in an order shuffled by a seed: 64 bits."""
    return hash64(f"{seed}\0{name}".encode())
