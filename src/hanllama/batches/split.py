"""The choice of held-out documents: by hash, and never a copy of a document that is trained.

Documents are ordered by a hash of the seed and their id, so the choice is a pure function of the
corpus and the seed, and adding documents changes little. They are taken in that order until the
requested share of characters is reached. A candidate that another document largely repeats (a
second edition of a book, an anthology that contains it) is refused and stays in training; otherwise
the held-out loss would measure memory.

"Repeats" means that more than 20 % of the candidate's character 13-grams occur in one other
document; only letters and digits count, so line breaks and punctuation do not matter. Thirteen is
the length of GPT-3's contamination check. To bound memory, only n-grams whose hash ends in zeros
are kept: all of them at first, then half, a quarter and so on, of every document. Hashes of 32 bits
are enough: against a threshold of 20 %, a chance hit in 10,000 n-grams does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hanllama.base.errors import ConfigError, InputError
from hanllama.reading.records import Document
from hanllama.text import letters
from hanllama.text.hashing import hash64, rank

NGRAM = 13
REFUSED_ABOVE = 0.2
# The largest share of the corpus that a document may have to be held out whole. When all documents
# are larger (a single book), the end of one is held out instead.
LARGEST_WHOLE = 0.2
# 16 MiB of hashes: every n-gram of a corpus of 4 million characters, one in 64 of 260 million.
MAX_GRAMS = 2**22
_CANDIDATES_A_ROUND = 512
# The search ends after candidates of this multiple of the requested share: a corpus that repeats
# itself so much (generated stories) has hardly any document that does not.
_SEARCHED_SHARES = 4
_FILTER_BITS = 20  # 1 MiB of bytes: stays in the second-level cache
_HITS_AT_ONCE = 1 << 16  # enough that calls cost nothing; 512 KiB an array

Hashes = NDArray[np.uint32]  # of n-grams
Names = NDArray[np.uint64]  # hashes of whole texts and of ids


@dataclass(frozen=True)
class Holdout:
    """The chosen documents.

    Attributes:
        documents: numbers of the held-out documents, in the order of the corpus.
        tail_characters: if not 0, only this many characters at the end of the one document.
        refused: number of candidates that repeat another document.
        note: a sentence for the user, or "".
    """

    documents: tuple[int, ...]
    tail_characters: int = 0
    refused: int = 0
    note: str = ""


class Sketch:
    """The facts of a corpus from which the choice is made, gathered in one pass."""

    def __init__(self, max_grams: int = MAX_GRAMS) -> None:
        self.max_grams = max_grams
        self.kept_of = 1  # one in so many n-grams is kept
        self._n_grams = 0
        self._ranks: list[Names] = []
        self._wholes: list[Names] = []
        self._characters: list[NDArray[np.int64]] = []
        self._counts: list[NDArray[np.int64]] = []
        self._grams: list[Hashes] = []

    def add(self, part: SketchPart) -> None:
        """Add the next documents of the corpus."""
        self._ranks.append(part.ranks)
        self._wholes.append(part.wholes)
        self._characters.append(part.characters)
        self._counts.append(part.counts)
        self._grams.append(part.grams)
        if self.kept_of > part.kept_of:
            self._thin(len(self._grams) - 1)
        self._n_grams += self._grams[-1].size
        while self._n_grams > self.max_grams:
            self.kept_of *= 2
            for i in range(len(self._grams)):
                self._thin(i)
            self._n_grams = sum(g.size for g in self._grams)

    def _thin(self, i: int) -> None:
        kept = np.flatnonzero((self._grams[i] & np.uint32(self.kept_of - 1)) == 0)
        ends = np.cumsum(self._counts[i])
        self._counts[i] = np.diff(np.searchsorted(kept, ends), prepend=0)
        self._grams[i] = self._grams[i].take(kept)

    @property
    def n_documents(self) -> int:
        return sum(c.size for c in self._characters)

    def choose(self, share: float) -> Holdout:
        """Choose the held-out documents.

        Args:
            share: the share of the corpus's characters, from 0 (nothing) to below 0.5.

        Raises InputError when the corpus is too small to be divided.
        """
        if not 0 <= share < 0.5:
            raise ConfigError(f"holdout must be at least 0 and less than 0.5, not {share}")
        if share == 0:
            return Holdout(())
        sizes = np.concatenate(self._characters)
        total = int(sizes.sum())
        target = max(int(share * total), 1)
        order = np.lexsort((np.arange(sizes.size), np.concatenate(self._ranks)))
        if int(sizes.min()) > LARGEST_WHOLE * total:
            return self._tail(order, sizes, target)
        # A document much larger than the target would exceed it alone, so these come last, the
        # smallest first.
        large = np.where(sizes > 2 * target, sizes, 0)
        order = order[np.argsort(large[order], kind="stable")]
        order = order[sizes[order] <= LARGEST_WHOLE * total]
        taken, refused = self._search(order, sizes, target)
        held = int(sizes[taken].sum()) if taken else 0
        note = ""
        if held < target / 2:
            # The least repeated first; the sort is stable, so equal ones stay ordered by rank.
            for i, repeated in sorted(refused, key=lambda pair: pair[1]):
                if held < target and (not taken or held + sizes[i] <= 2 * target):
                    taken.append(i)
                    held += int(sizes[i])
                    note = (
                        "nearly every document repeats another one; the held-out ones share up to"
                        f" {repeated:.0%} of their {NGRAM}-grams with a single other document, so"
                        " their loss is partly memory"
                    )
        refused_count = sum(i not in taken for i, _ in refused)
        return Holdout(tuple(sorted(int(i) for i in taken)), 0, refused_count, note)

    def _search(
        self, order: NDArray[np.int64], sizes: NDArray[np.int64], target: int
    ) -> tuple[list[int], list[tuple[int, float]]]:
        """Accepted candidates, and refused ones with their repeated share."""
        taken: list[int] = []
        refused: list[tuple[int, float]] = []
        held = seen = at = 0
        while held < target and at < order.size and (seen < _SEARCHED_SHARES * target or not at):
            # As many as would reach the target if all of them were accepted.
            needed = np.cumsum(sizes[order[at : at + _CANDIDATES_A_ROUND]]) + held
            stop = at + int(np.searchsorted(needed, target)) + 1
            candidates = order[at : min(stop, at + _CANDIDATES_A_ROUND)]
            for i, repeated in zip(candidates.tolist(), self._repeated(candidates), strict=True):
                seen += int(sizes[i])
                if repeated > REFUSED_ABOVE:
                    refused.append((i, repeated))
                elif held < target:
                    taken.append(i)
                    held += int(sizes[i])
            at += candidates.size
        return taken, refused

    def _tail(self, order: NDArray[np.int64], sizes: NDArray[np.int64], target: int) -> Holdout:
        """Hold out the end of the first large document that is not repeated."""
        if sizes.max() < 2:
            raise InputError(
                "the corpus is too small to hold anything out; give more text or --holdout 0"
            )
        order = order[sizes[order] >= 2]
        repeated = self._repeated(order)
        best = int(np.argmin(repeated > REFUSED_ABOVE))
        refused = int((repeated > REFUSED_ABOVE).sum())
        note = "the end of one document is held out, since each is a large part of the corpus"
        if repeated[best] > REFUSED_ABOVE:
            best = int(np.argmin(repeated))
            note += f"; another document repeats {repeated[best]:.0%} of it"
        i = int(order[best])
        return Holdout((i,), min(target, int(sizes[i]) // 2), refused, note)

    def _repeated(self, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each candidate, the largest share of its n-grams found in one other document."""
        wholes = np.concatenate(self._wholes)
        values, occurrences = np.unique(wholes, return_counts=True)
        copies = occurrences[np.searchsorted(values, wholes[candidates])] > 1
        worst = np.where(copies, 1.0, 0.0)
        pairs = [np.unique(self._grams_of(i)) for i in candidates.tolist()]
        n_own = np.array([p.size for p in pairs])
        grams = np.concatenate(pairs)
        by_gram = np.argsort(grams, kind="stable")
        grams = grams[by_gram]
        owners = np.repeat(np.arange(len(pairs)), n_own)[by_gram]
        for document, low in self._occurrences(grams):
            size = np.searchsorted(grams, grams[low], side="right") - low
            # Each candidate with such an n-gram gets a point from that document.
            step = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
            owner = owners[np.repeat(low, size) + step]
            giver = np.repeat(document, size)
            foreign = candidates[owner] != giver
            keys, points = np.unique(
                giver[foreign] * len(pairs) + owner[foreign], return_counts=True
            )
            at = keys % len(pairs)
            np.maximum.at(worst, at, points / np.maximum(n_own[at], 1))
        return worst

    def _occurrences(self, grams: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Pairs of a document's number and the place in sorted `grams` (the first of equal ones)
        of an n-gram that it holds. Each pair comes once."""
        table = np.zeros(1 << _FILTER_BITS, dtype=bool)
        table[_slot(grams)] = True
        documents: list[NDArray[np.int64]] = []
        found: list[Hashes] = []
        first = n_found = 0
        for batch, (counts, there) in enumerate(zip(self._counts, self._grams, strict=True), 1):
            maybe = np.flatnonzero(table.take(_slot(there)))
            documents.append(np.searchsorted(np.cumsum(counts), maybe, side="right") + first)
            found.append(there.take(maybe))
            first += counts.size
            n_found += maybe.size
            if n_found >= _HITS_AT_ONCE or batch == len(self._grams):
                gram = np.concatenate(found)
                low = np.searchsorted(grams, gram)
                low[low == grams.size] = 0
                true = grams.take(low) == gram
                pairs = np.unique(np.concatenate(documents)[true] * grams.size + low[true])
                yield np.divmod(pairs, max(grams.size, 1))
                documents, found, n_found = [], [], 0

    def _grams_of(self, number: int) -> Hashes:
        for counts, grams in zip(self._counts, self._grams, strict=True):
            if number < counts.size:
                end = int(counts[: number + 1].sum())
                return grams[end - int(counts[number]) : end]
            number -= counts.size
        raise IndexError(number)


@dataclass(frozen=True)
class SketchPart:
    """The hashes of a few documents; made in any process, added in order."""

    ranks: Names  # [documents] the order in which they are tried
    characters: NDArray[np.int64]  # [documents]
    wholes: Names  # [documents] equal for equal texts
    counts: NDArray[np.int64]  # [documents] n-grams each
    grams: Hashes  # [n-grams] end to end
    kept_of: int = 1  # one in so many n-grams is kept


def sketch_part(documents: Sequence[Document], seed: int, kept_of: int = 1) -> SketchPart:
    """Hash the n-grams of many texts with the same calls, so that short texts are as fast.

    Args:
        kept_of: an earlier value of `Sketch.kept_of`: n-grams that the sketch would drop anyway
            are dropped here.
    """
    texts = [d.text for d in documents]
    ranks = np.array([rank(seed, d.id or d.source) for d in documents], dtype=np.uint64)
    characters = np.array([len(t) for t in texts], dtype=np.int64)
    wholes = np.array([_whole(t) for t in texts], dtype=np.uint64)
    codes = letters.code_points("".join(texts))
    counted = np.flatnonzero(letters.counted().take(codes))
    ends = np.searchsorted(counted, np.cumsum(characters))
    starts = np.concatenate([[0], ends[:-1]])
    grams = _ngram_hashes(codes.take(counted))
    kept = (grams & np.uint32(kept_of - 1)) == 0
    # N-grams from the last 12 positions of a document would reach into the next one.
    over = ends[:, None] - np.arange(1, NGRAM)
    over = over[(over >= starts[:, None]) & (over < grams.size)]
    kept[over] = False
    places = np.flatnonzero(kept)
    counts = np.searchsorted(places, ends) - np.searchsorted(places, starts)
    return SketchPart(ranks, characters, wholes, counts, grams[places], kept_of)


def _whole(text: str) -> int:
    """A hash of a whole text: it finds copies too short to have a kept n-gram."""
    return hash64(f"{len(text)} {text[:2000]}".encode())


def cut_tail(text: str, characters: int) -> int:
    """The place of the last `characters` of a text, moved to the start of the next line if any."""
    at = len(text) - characters
    line = text.find("\n", at - 1) + 1
    return line if 0 < line < len(text) else at


def _ngram_hashes(codes: NDArray[np.uint32]) -> Hashes:
    """A 32-bit hash of each 13-gram, [characters - 12].

    The polynomial over 13 characters is composed of those over 8, 4 and 1 (five products per
    character instead of thirteen), then mixed, because its low bits decide which are kept.
    """
    n = codes.size - NGRAM + 1
    if n <= 0:
        return np.zeros(0, dtype=np.uint32)
    out = np.empty(n, dtype=np.uint32)
    for at in range(0, n, _CACHED):
        out[at : at + _CACHED] = _hash_block(codes[at : at + _CACHED + NGRAM - 1])
    return out


# Characters hashed at once, so that the intermediate arrays stay in the second-level cache.
_CACHED = 1 << 15
_POWERS = [np.uint32(pow(0x9E3779B1, k, 2**32)) for k in range(6)]  # any large odd base would do


def _hash_block(codes: NDArray[np.uint32]) -> Hashes:
    n = codes.size - NGRAM + 1
    two: Hashes = codes[:-1] * _POWERS[1] + codes[1:]
    four: Hashes = two[:-2] * _POWERS[2] + two[2:]
    eight: Hashes = four[:-4] * _POWERS[4] + four[4:]
    whole: Hashes = eight[:n] * _POWERS[5] + four[8 : 8 + n] * _POWERS[1] + codes[12 : 12 + n]
    whole ^= whole >> np.uint32(15)
    whole *= np.uint32(0x2C1B3C6D)  # a multiplier of a good 32-bit hash (of lowbias32's kind)
    whole ^= whole >> np.uint32(12)
    return whole


def _slot(grams: Hashes) -> Hashes:
    """The place of an n-gram in the filter: its high bits, since the low ones may all be 0."""
    return grams >> np.uint32(32 - _FILTER_BITS)
