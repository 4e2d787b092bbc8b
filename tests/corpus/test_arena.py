"""Promises of the room that one job's bytes are put into, and the next one's again."""

from __future__ import annotations

import numpy as np
import pytest

from hanllama.corpus.dedup import arena


def test_what_was_taken_is_apart_until_the_next_job_and_the_same_room_afterwards() -> None:
    room = arena.Arena()
    for _ in range(3):
        room.clear()
        taken = [room.take(size) for size in (1000, 0, 70, 5000)]
        for number, piece in enumerate(taken):
            piece[:] = number
        for number, piece in enumerate(taken):
            assert (piece == number).all()
    before = taken[0].__array_interface__["data"]
    room.clear()
    assert room.take(10).__array_interface__["data"] == before


def test_a_job_that_takes_more_than_ever_gets_it_and_nothing_huge_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arena, "_LARGEST_BYTES", 10_000)
    room = arena.Arena()
    for sizes in ([4000, 4000], [90_000, 10], [4000, 4000]):
        room.clear()
        assert [len(room.take(size)) for size in sizes] == sizes
        assert len(room._held) <= 12_500


def test_one_run_alone_is_not_copied() -> None:
    one = np.arange(5, dtype=np.uint8)
    assert np.shares_memory(arena.joined([one]), one)
    assert arena.joined([one, b"ab", one[:0]]).tobytes() == bytes(range(5)) + b"ab"
    assert len(arena.joined([])) == 0
