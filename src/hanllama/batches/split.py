"""Which documents are held out: by document, by hash, and never a copy of what stays in training.

Documents are ranked by a hash of the seed and their id, so the choice is a pure function of the
corpus and the seed, and adding documents moves few others. They are taken in that order until the
wanted share of characters is reached. A candidate that another document largely repeats (a second
edition of the book, an anthology that holds it) is refused and stays in training; otherwise the
held-out loss would measure memory.

"Repeats" is containment of character 13-grams, letters and digits alone, so that line breaks and
punctuation of an edition do not matter: more than 20 % of the candidate's n-grams occur in one
other document. Thirteen is the length that GPT-3's contamination check made customary. To bound
memory only n-grams whose hash ends in zeros are kept: all of them at first, then half, a quarter
and so on, whenever there are too many; every document is always sampled alike. Hashes of 32 bits
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
# One document may be this share of the corpus and still be held out whole; where all are larger
# (a single book), the end of one is held out instead.
LARGEST_WHOLE = 0.2
# 16 MiB of hashes: every n-gram of a corpus of 4 million characters, one in 64 of 260 million.
MAX_GRAMS = 2**22
_CANDIDATES_A_ROUND = 512
# Candidates beyond this multiple of the wanted share are not looked at: a corpus of which so much
# repeats itself is made that way (generated stories), and will not yield.
_SEARCHED_SHARES = 4
_FILTER_BITS = 20  # 1 MiB of bytes: stays in the second-level cache
_HITS_AT_ONCE = 1 << 16  # enough that calls cost nothing; 512 KiB an array

Hashes = NDArray[np.uint32]  # of n-grams
Names = NDArray[np.uint64]  # hashes of whole texts and of ids


@dataclass(frozen=True)
class Holdout:
    """The choice.

    Attributes:
        documents: numbers of the held-out documents, in the order of the corpus.
        tail_characters: 0, or: only that many characters at the end of the (one) document.
        refused: candidates that repeat another document.
        note: what the user should know, or "".
    """

    documents: tuple[int, ...]
    tail_characters: int = 0
    refused: int = 0
    note: str = ""


class Sketch:
    """What the choice needs to know of a corpus, gathered in one pass: a few bytes a document."""

    def __init__(self, max_grams: int = MAX_GRAMS) -> None:
        self.max_grams = max_grams
        self.kept_of = 1  # one n-gram of so many is kept
        self._n_grams = 0
        self._ranks: list[Names] = []
        self._wholes: list[Names] = []
        self._characters: list[NDArray[np.int64]] = []
        self._counts: list[NDArray[np.int64]] = []
        self._grams: list[Hashes] = []

    def add(self, part: SketchPart) -> None:
        """Take the next documents of the corpus."""
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

    @property
    def n_characters(self) -> int:
        return sum(int(c.sum()) for c in self._characters)

    def choose(self, share: float) -> Holdout:
        """Choose the held-out documents.

        Args:
            share: of the corpus's characters, from 0 (nothing) to below 0.5.

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
        # A novel of which the wanted share is a tenth would take the rest of the share with it:
        # what is far too large comes last, the smallest of it first.
        large = np.where(sizes > 2 * target, sizes, 0)
        order = order[np.argsort(large[order], kind="stable")]
        order = order[sizes[order] <= LARGEST_WHOLE * total]
        taken, refused = self._search(order, sizes, target)
        held = int(sizes[taken].sum()) if taken else 0
        note = ""
        if held < target / 2:
            # Least repeated first; the sort is stable, so then by rank.
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
        """Accepted candidates, and refused ones with the share of them that is repeated."""
        taken: list[int] = []
        refused: list[tuple[int, float]] = []
        held = seen = at = 0
        while held < target and at < order.size and (seen < _SEARCHED_SHARES * target or not at):
            # As many as would fill what is missing, were all of them accepted.
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
        """Few large documents: the end of the one that is repeated least."""
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
        """[candidates] the largest share of a candidate's n-grams found in one other document."""
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
            # Every owner of such an n-gram gets a point from that document.
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
        """Which documents hold which of some sorted n-grams: the documents' numbers, and for each
        the place of an n-gram, where it first stands. Each pair comes once.
        """
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
    """The hashes of some documents; made in any process, added in order."""

    ranks: Names  # [documents] places in the queue for the held-out split
    characters: NDArray[np.int64]  # [documents]
    wholes: Names  # [documents] equal for equal texts
    counts: NDArray[np.int64]  # [documents] n-grams each
    grams: Hashes  # [n-grams] end to end
    kept_of: int = 1  # one n-gram of so many is there


def sketch_part(documents: Sequence[Document], seed: int, kept_of: int = 1) -> SketchPart:
    """Hash the n-grams of some texts, all at once: a poem costs no more calls than a novel.

    Args:
        kept_of: what `Sketch.kept_of` was at some time: n-grams that would be thinned out anyway
            are not even made.
    """
    texts = [d.text for d in documents]
    ranks = np.array([rank(seed, d.id or d.source) for d in documents], dtype=np.uint64)
    characters = np.array([len(t) for t in texts], dtype=np.int64)
    wholes = np.array([_whole(t) for t in texts], dtype=np.uint64)
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
    counted = np.flatnonzero(letters.counted().take(codes))
    ends = np.searchsorted(counted, np.cumsum(characters))
    starts = np.concatenate([[0], ends[:-1]])
    grams = _ngram_hashes(codes.take(counted))
    kept = (grams & np.uint32(kept_of - 1)) == 0
    # The last 12 positions of a document begin n-grams that would reach into the next one.
    over = ends[:, None] - np.arange(1, NGRAM)
    over = over[(over >= starts[:, None]) & (over < grams.size)]
    kept[over] = False
    places = np.flatnonzero(kept)
    counts = np.searchsorted(places, ends) - np.searchsorted(places, starts)
    return SketchPart(ranks, characters, wholes, counts, grams[places], kept_of)


def _whole(text: str) -> int:
    """Equal for equal texts: what finds copies too short to have an n-gram that is kept."""
    return hash64(f"{len(text)} {text[:2000]}".encode())


def cut_tail(text: str, characters: int) -> int:
    """Where the last `characters` of a text begin, moved on to the next line's start if any."""
    at = len(text) - characters
    line = text.find("\n", at - 1) + 1
    return line if 0 < line < len(text) else at


def _ngram_hashes(codes: NDArray[np.uint32]) -> Hashes:
    """[characters - 12] a 32-bit hash of each 13-gram.

    The polynomial over 13 characters is put together from those over 8, 4 and 1 (five products
    a character instead of thirteen), then mixed, because its low bits alone decide what is kept.
    """
    n = codes.size - NGRAM + 1
    if n <= 0:
        return np.zeros(0, dtype=np.uint32)
    out = np.empty(n, dtype=np.uint32)
    for at in range(0, n, _CACHED):
        out[at : at + _CACHED] = _hash_block(codes[at : at + _CACHED + NGRAM - 1])
    return out


# Characters hashed at once: all intermediate arrays stay in the processor's second-level cache.
_CACHED = 1 << 15
_POWERS = [np.uint32(pow(0x9E3779B1, k, 2**32)) for k in range(6)]  # any large odd base would do


def _hash_block(codes: NDArray[np.uint32]) -> Hashes:
    n = codes.size - NGRAM + 1
    two: Hashes = codes[:-1] * _POWERS[1] + codes[1:]
    four: Hashes = two[:-2] * _POWERS[2] + two[2:]
    eight: Hashes = four[:-4] * _POWERS[4] + four[4:]
    whole: Hashes = eight[:n] * _POWERS[5] + four[8 : 8 + n] * _POWERS[1] + codes[12 : 12 + n]
    whole ^= whole >> np.uint32(15)
    whole *= np.uint32(0x2C1B3C6D)  # mixing multiplier of a known good 32-bit hash (lowbias32 kind)
    whole ^= whole >> np.uint32(12)
    return whole


def _slot(grams: Hashes) -> Hashes:
    """The place of an n-gram in the filter table; the high bits, since low ones may all be 0."""
    return grams >> np.uint32(32 - _FILTER_BITS)
