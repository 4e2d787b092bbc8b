"""The removed documents with the copies kept instead, and `clusters.jsonl`.

A removed document points to the document it was compared with. A later stage may remove that one
too (an exact copy of a book that is contained in collected works). A cluster is a kept document
with all documents whose pointers end at it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs
from hanllama.corpus.dedup.keep import REMOVED, Numbers, Removed
from hanllama.corpus.dedup.work import Store

MAX_LISTED = 1000  # members listed of a cluster; all are counted
_AT_ONCE = 4096  # clusters whose names are read together


class Fates:
    """Every removed document, by number.

    Attributes:
        document, kept: [removed] a document and the one kept instead when it was removed.
        root: [removed] the kept document of its cluster.
        how: [removed] an index into `hows`.
        similarity: [removed] as `how` measures it.
    """

    def __init__(self, stages: Mapping[str, Removed]) -> None:
        self.hows = list(stages)
        sizes = [len(removed) for removed in stages.values()]
        merged = np.concatenate([np.empty(0, dtype=REMOVED), *stages.values()])
        order = np.argsort(merged["document"])
        merged = merged[order]
        self.document: Numbers = np.ascontiguousarray(merged["document"])
        self.kept: Numbers = np.ascontiguousarray(merged["kept"])
        self.similarity: NDArray[np.float32] = np.ascontiguousarray(merged["similarity"])
        self.how: NDArray[np.int64] = np.repeat(
            np.arange(len(sizes)), np.array(sizes, dtype=np.int64)
        )[order]
        self.root = self.kept.copy()
        while len(self.document):
            at = np.minimum(np.searchsorted(self.document, self.root), len(self.document) - 1)
            moved = self.document[at] == self.root
            if not moved.any():
                break
            self.root[moved] = self.kept[at[moved]]

    def __len__(self) -> int:
        return len(self.document)

    @property
    def roots(self) -> Numbers:
        """The kept document of each cluster, in the order of the corpus."""
        return np.unique(self.root)

    @property
    def shown(self) -> Numbers:
        """Every document named in clusters.jsonl, ascending."""
        return np.unique(np.concatenate([self.document, self.kept]))


class Names:
    """Id, source and beginning of the documents shown in clusters.jsonl, kept in a file.

    The last pass collects them while it writes the output, so the corpus is not read again.
    """

    def __init__(self, path: Path, documents: Numbers) -> None:
        self.path, self.documents = path, documents
        self._sizes: list[int] = []
        self._out: Any = None

    def __enter__(self) -> Names:
        with fs.storage(self.path):
            self._out = open(self.path, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        with fs.storage(self.path):
            self._out.close()
        self._ends = np.cumsum([0, *self._sizes], dtype=np.int64)

    def add(self, names: list[bytes]) -> None:
        """Add the names of the next documents."""
        self._sizes += map(len, names)
        with fs.storage(self.path):
            self._out.writelines(names)

    def of(self, documents: Numbers) -> Iterator[list[str]]:
        """[id, source, beginning] of each of these documents, which ascend."""
        rows = np.searchsorted(self.documents, documents)
        starts, ends = self._ends[rows].tolist(), self._ends[rows + 1].tolist()
        with open(self.path, "rb") as file:
            for start, end in zip(starts, ends, strict=True):
                file.seek(start)
                yield json.loads(file.read(end - start))


class Lines:
    """The boilerplate lines that were removed, with counts; their texts stay on disk.

    Attributes:
        times: [boilerplate lines] how often each was removed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.times = np.zeros(0, dtype=np.int64)
        for removed in store.blocks("removed"):
            missing = int(removed[:, 0].max(initial=0)) + 1 - len(self.times)
            self.times = np.pad(self.times, (0, max(0, missing)))
            np.add.at(self.times, removed[:, 0], removed[:, 1])

    @property
    def distinct(self) -> int:
        """How many different lines were removed."""
        return int(np.count_nonzero(self.times))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """(line, times removed), in the order of first occurrence in the corpus."""
        for texts, lines in zip(
            self._store.blocks("told"), self._store.blocks("told_lines"), strict=True
        ):
            data, at = texts.tobytes(), 0
            for row, size in lines.tolist():
                if self.times[row]:
                    yield data[at : at + size].decode("utf-8"), int(self.times[row])
                at += size


def write(
    path: Path,
    fates: Fates,
    store: Store,
    names: Names,
    corpora: Sequence[str],
    lines: Lines,
) -> list[dict[str, Any]]:
    """Write a line for each cluster, then for each boilerplate line; returns the largest clusters.

    A line holds `kept` (id, source, corpus, characters, the beginning of its text), `members` (the
    number removed) and `removed`: the same fields of each, with `how`, `similarity`, and `of` when
    it was compared with another removed document.
    """
    largest: list[dict[str, Any]] = []
    with fs.storage(path), open(path, "wb") as out:
        for cluster in _clusters(fates, store, names, corpora):
            out.write(_line(cluster))
            largest.append(cluster)
            if len(largest) > 100:
                largest = _largest(largest)
        for text, removed in lines:
            out.write(_line({"how": "line", "text": text, "removed": removed}))
    return _largest(largest)


def _line(entry: dict[str, Any]) -> bytes:
    # An input's name may hold bytes that are not UTF-8.
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _largest(clusters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(clusters, key=lambda c: -int(c["members"]))[:50]


def _clusters(
    fates: Fates, store: Store, names: Names, corpora: Sequence[str]
) -> Iterator[dict[str, Any]]:
    order = np.lexsort([fates.document, fates.root])
    roots, starts = np.unique(fates.root[order], return_index=True)
    stops = np.append(starts[1:], len(order))
    for at in range(0, len(roots), _AT_ONCE):
        span = slice(at, at + _AT_ONCE)
        listed = [
            order[start : min(stop, start + MAX_LISTED)]
            for start, stop in zip(starts[span], stops[span], strict=True)
        ]
        members = np.concatenate(listed)
        wanted = np.unique(
            np.concatenate([roots[span], fates.document[members], fates.kept[members]])
        )
        entries = dict(zip(wanted.tolist(), _entries(store, names, wanted, corpora), strict=True))
        for root, rows, total in zip(roots[span], listed, (stops - starts)[span], strict=True):
            removed = []
            for row in rows.tolist():
                entry = {
                    **entries[int(fates.document[row])],
                    "how": fates.hows[int(fates.how[row])],
                    "similarity": round(float(fates.similarity[row]), 4),
                }
                if fates.kept[row] != root:
                    entry["of"] = entries[int(fates.kept[row])]["id"]
                removed.append(entry)
            yield {"kept": entries[int(root)], "members": int(total), "removed": removed}


def _entries(
    store: Store, names: Names, documents: Numbers, corpora: Sequence[str]
) -> list[dict[str, Any]]:
    """The entry of each document in clusters.jsonl; `documents` ascend."""
    characters = store.take("counts", documents)[:, 2]
    corpus = store.take("corpus", documents)
    return [
        {
            "id": identity,
            "source": source,
            "corpus": corpora[int(c)],
            "characters": int(n),
            "text": beginning,
        }
        for (identity, source, beginning), c, n in zip(
            names.of(documents), corpus, characters, strict=True
        )
    ]
