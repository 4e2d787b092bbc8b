"""The compact set of digests says the same as Python's own set, whatever meets in one batch."""

from __future__ import annotations

import numpy as np

from hanllama.text import digests
from hanllama.text.digests import Digests


def test_it_says_what_a_set_says_while_it_grows() -> None:
    rng = np.random.default_rng(0)
    common = rng.integers(0, 2**63, (3000, 2)).astype(np.uint64)
    common[:2] = [[0, 5], [0, 6]]  # a first word of zero marks a free place
    seen, reference = Digests(), set()
    for number in range(60):
        batch = common[rng.integers(0, len(common), 300)]
        if number % 2:
            batch = np.concatenate([batch, rng.integers(0, 2**63, (3000, 2)).astype(np.uint64)])
        expected = []
        for row in batch.tolist():
            expected.append(tuple(row) not in reference)
            reference.add(tuple(row))
        assert seen.add(batch).tolist() == expected
    assert seen.count == len(reference) > digests.FIRST_CAPACITY


def test_digests_that_want_one_place_all_find_another() -> None:
    same_place = np.array([[n, 7] for n in range(1, 501)], np.uint64)
    seen = Digests()
    assert seen.add(same_place).all()
    assert not seen.add(same_place[::-1].copy()).any()
    assert seen.add(np.zeros((0, 2), np.uint64)).tolist() == []
