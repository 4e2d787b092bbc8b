"""Choose the copies that stay: the order of preference, and the choice within a group.

The best document of a connected group stays, and the documents similar to it are removed. A member
connected only through others is not removed for a text that it does not resemble: the best of the
rest stays too, and so on. So every removed document was compared with a kept one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hanllama.corpus.dedup import near_loops
from hanllama.corpus.dedup.work import Store

Numbers = NDArray[np.int64]
REMOVED = np.dtype([("document", "<i8"), ("kept", "<i8"), ("similarity", "<f4")])
Removed = NDArray[np.void]  # of REMOVED, by document


class Preference:
    """The order of `--keep` among documents, given by number."""

    def __init__(self, store: Store, order: Sequence[str]) -> None:
        self.store = store
        self.order = tuple(order)

    def ranks(self, documents: Numbers) -> Numbers:
        """[documents] 0 for the best, 1 for the next, …; without ties."""
        letters, han, characters, odd, _ = self.store.take("counts", documents).astype(np.int64).T
        columns = {
            "input": self.store.take("corpus", documents).astype(np.int64),
            "clean": 1000 * odd // np.maximum(characters, 1),
            "longer": -letters,
            "han": -(1000 * han // np.maximum(letters, 1)),
        }
        keys = [columns[name] for name in self.order]
        # lexsort's last key decides first.
        by_rank = np.lexsort([documents, *reversed(keys)])
        ranks = np.empty(len(documents), dtype=np.int64)
        ranks[by_rank] = np.arange(len(documents))
        return ranks


def choose(
    left: Numbers,
    right: Numbers,
    ranks_of: Callable[[Numbers], Numbers],
    similarity: Callable[[Numbers, Numbers], NDArray[np.float32]],
    threshold: float,
) -> Removed:
    """The documents to remove, given pairs of similar documents.

    Args:
        left, right: [pairs] the documents of each pair.
        ranks_of: the ranks of documents by preference.
        similarity: the similarity of pairs of documents.
    """
    nodes, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    group = near_loops.components(len(nodes), ends[: len(left)], ends[len(left) :])
    waiting = np.lexsort([ranks_of(nodes), group])
    removed = [np.empty(0, dtype=REMOVED)]
    while len(waiting):
        first = np.ones(len(waiting), dtype=bool)
        first[1:] = group[waiting[1:]] != group[waiting[:-1]]
        best = waiting[first][np.cumsum(first) - 1]
        others, best = waiting[~first], best[~first]
        shares = similarity(nodes[others], nodes[best])
        near = shares >= threshold
        gone = np.empty(int(near.sum()), dtype=REMOVED)
        gone["document"], gone["kept"] = nodes[others[near]], nodes[best[near]]
        gone["similarity"] = shares[near]
        removed.append(gone)
        waiting = others[~near]
    result = np.concatenate(removed)
    return result[np.argsort(result["document"])]
