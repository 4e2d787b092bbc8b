"""The loops of near duplicates, compiled by numba: letters, shingles, sketches, pairs, clusters.

Many texts come as UTF-8, end to end in one buffer: a call costs more than a poem. A shingle is n
consecutive letters (`letters.folded`); its hash is a rolling polynomial modulo 2**64, mixed.

MinHash is the "fast similarity sketch" of Dahlgaard, Knudsen and Thorup (FOCS 2017): each round
throws every shingle into one of k slots, and a slot keeps the smallest hash of its first round. Two
slots agree with the probability of the Jaccard similarity, as with k independent permutations, at a
cost of n + k log k instead of n * k. A slot is stored in 16 bits: unrelated shingles agree once in
65,536, too rarely to change an estimate of 0.3.

SimHash is Charikar's (STOC 2002) over all shingles; Manku, Jain and Das Sarma (WWW 2007) use it
with 64 bits and a Hamming distance of 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hanllama.base.machine_code import compiled
from hanllama.text.tables import MIX_1, STEP, mixed

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]


# --- letters and shingles ----------------------------------------------------------------------


@compiled
def letters_of(
    utf8: Bytes, start: int, stop: int, folded: NDArray[np.uint32], letters: NDArray[np.uint32]
) -> tuple[int, int, int, int]:
    """Write the folded letters of valid UTF-8 to `letters`.

    Returns (letters, Han characters, characters, odd characters). Odd are U+FFFD, private use and
    controls: signs of bad decoding or extraction.
    """
    count = han = characters = odd = 0
    i = start
    while i < stop:
        first = int(utf8[i])
        if 0xE4 <= first <= 0xE9:  # nearly all Han, which need no table
            code = ((first & 0x0F) << 12) | (int(utf8[i + 1] & 0x3F) << 6) | int(utf8[i + 2] & 0x3F)
            i += 3
            if 0x4E00 <= code <= 0x9FA5:
                letters[count] = code
                count += 1
                han += 1
                characters += 1
                continue
        elif first < 0x80:
            code = first
            i += 1
        elif first < 0xE0:
            code = ((first & 0x1F) << 6) | int(utf8[i + 1] & 0x3F)
            i += 2
        elif first < 0xF0:
            code = ((first & 0x0F) << 12) | (int(utf8[i + 1] & 0x3F) << 6) | int(utf8[i + 2] & 0x3F)
            i += 3
        else:
            code = (
                ((first & 0x07) << 18)
                | (int(utf8[i + 1] & 0x3F) << 12)
                | (int(utf8[i + 2] & 0x3F) << 6)
                | int(utf8[i + 3] & 0x3F)
            )
            i += 4
        characters += 1
        letter = folded[code]
        if letter:
            letters[count] = letter
            count += 1
            # The Han blocks of the first plane, and the planes that hold nothing else.
            if 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or code >= 0x20000:
                han += 1
        if (
            code == 0xFFFD
            or 0xE000 <= code <= 0xF8FF
            or (code < 0x20 and code != 0x0A and code != 0x0D and code != 0x09)
            or 0x7F <= code < 0xA0
        ):
            odd += 1
    return count, han, characters, odd


@compiled
def shingle_hashes(letters: NDArray[np.uint32], count: int, n: int, hashes: Hashes) -> int:
    """Write the hash of every run of n letters to `hashes`; returns their number."""
    if count < n:
        return 0
    leaving = np.uint64(1)
    for _ in range(n):
        leaving *= STEP
    rolling = np.uint64(0)
    for i in range(count):
        rolling = rolling * STEP + np.uint64(letters[i])
        if i >= n:
            rolling -= np.uint64(letters[i - n]) * leaving
        if i >= n - 1:
            hashes[i - n + 1] = mixed(rolling)
    return count - n + 1


# --- sketches ----------------------------------------------------------------------------------


@compiled
def minhash(hashes: Hashes, count: int, slots: Hashes, sketch: NDArray[np.uint16]) -> None:
    """Sketch a set of shingles (at least one; repeats do not matter) into `sketch`.

    Args:
        slots: [k] scratch space.
        sketch: [k] the result.
    """
    k = len(slots)
    empty = np.uint64(0xFFFFFFFFFFFFFFFF)
    slots[:] = empty
    # The first k rounds throw at random. Then each slot in turn gets every shingle, so the loop
    # ends for every set.
    for turn in range(2 * k):
        # The hashes are mixed: the first round takes them as they are, later ones multiply by an
        # odd number.
        seed = mixed(np.uint64(turn)) | np.uint64(1) if turn else np.uint64(1)
        order = np.uint64(turn) << np.uint64(48)  # k is at most 4096: earlier rounds win
        for i in range(count):
            thrown = hashes[i] * seed
            if turn < k:
                slot = np.int64((thrown >> np.uint64(48)) * np.uint64(k) >> np.uint64(16))
            else:
                slot = np.int64(turn - k)
            # No branch: the processor cannot predict which slot a shingle wins.
            slots[slot] = min(slots[slot], order | (thrown & np.uint64(0xFFFFFFFFFFFF)))
        if slots.max() != empty:
            break
    for s in range(k):
        # Not the value's own bits, which are small for a large set.
        sketch[s] = np.uint16((slots[s] * MIX_1) >> np.uint64(48))


@compiled
def simhash(hashes: Hashes, count: int) -> np.uint64:
    """The 64-bit SimHash of all shingles, repeats included."""
    votes = np.zeros(64, dtype=np.int32)
    for i in range(count):
        bits = hashes[i]
        for b in range(64):
            votes[b] += np.int32((bits >> np.uint64(b)) & np.uint64(1))
    result = np.uint64(0)
    for b in range(64):
        if 2 * votes[b] > count:
            result |= np.uint64(1) << np.uint64(b)
    return result


@compiled
def survey(
    utf8: Bytes,
    ends: Places,
    characters: Places,
    folded: NDArray[np.uint32],
    n: int,
    minimum: int,
    sampled: int,
    minimum_sampled: int,
    chunk: int,
    counts: NDArray[np.uint32],
    sketches: NDArray[np.uint16],
    simhashes: Hashes,
    samples: Hashes,
    chunks: NDArray[np.uint32],
) -> tuple[int, int]:
    """Compute counts, sketches and samples of documents in one pass over their bytes.

    Args:
        utf8: the documents end to end.
        ends: [documents] the end of each.
        characters: [documents] of each.
        n: letters of a shingle.
        minimum: documents of fewer letters get no sketch.
        sampled: one shingle hash in this many (a power of two) is a sample; 0: none.
        minimum_sampled: documents of fewer letters get no samples.
        chunk: letters of a chapter.
        counts: [documents, 5] letters, Han, characters, odd characters, samples.
        sketches: [sketched documents, k]; k = 0 makes none.
        simhashes: [sketched documents]; empty makes none.
        samples, chunks: room for samples and their chapters; excess samples are dropped.

    Returns (sketched documents, samples).
    """
    longest = characters.max() if len(characters) else 0
    letters = np.empty(longest, dtype=np.uint32)
    hashes = np.empty(longest, dtype=np.uint64)
    slots = np.empty(sketches.shape[1], dtype=np.uint64)
    rows = 0
    found = 0
    start = 0
    for d in range(len(ends)):
        count, han, seen, odd = letters_of(utf8, start, ends[d], folded, letters)
        start = ends[d]
        counts[d, 0] = count
        counts[d, 1] = han
        counts[d, 2] = seen
        counts[d, 3] = odd
        counts[d, 4] = 0
        shingles = 0
        if count >= min(minimum, minimum_sampled):
            shingles = shingle_hashes(letters, count, n, hashes)
        if shingles > 0 and count >= minimum:
            if len(slots) > 0:
                minhash(hashes, shingles, slots, sketches[rows])
            if len(simhashes) > 0:
                simhashes[rows] = simhash(hashes, shingles)
            rows += 1
        if shingles > 0 and sampled > 0 and count >= minimum_sampled:
            mask = np.uint64(sampled - 1)
            before = found
            n_chunks = max(1, (count + chunk // 2) // chunk)
            for i in range(shingles):
                if hashes[i] & mask == np.uint64(0) and found < len(samples):
                    samples[found] = hashes[i]
                    chunks[found] = i * n_chunks // shingles
                    found += 1
            counts[d, 4] = found - before
    return rows, found


# --- bands, pairs, clusters --------------------------------------------------------------------


@compiled
def band_keys(sketches: NDArray[np.uint16], rows: int, keys: Hashes) -> None:
    """[documents, bands] the key of each band of `rows` slots; bands have different keys."""
    for d in range(len(sketches)):
        for band in range(keys.shape[1]):
            value = np.uint64(band + 1)
            for r in range(rows):
                value = (value ^ np.uint64(sketches[d, band * rows + r])) * STEP
                value ^= value >> np.uint64(32)
            keys[d, band] = mixed(value)


@compiled
def masked_keys(simhashes: Hashes, masks: Hashes, keys: Hashes) -> None:
    """[documents, masks] the key of a SimHash's bits under each mask."""
    for d in range(len(simhashes)):
        for m in range(len(masks)):
            keys[d, m] = mixed(mixed(simhashes[d] & masks[m]) + np.uint64(m + 1) * STEP)


@compiled
def pairs_in_groups(
    keys: Hashes, values: NDArray[np.uint32], largest: int, star: bool, pairs: Hashes
) -> tuple[int, int]:
    """Pairs (smaller << 32 | larger) of values under one key; `keys` are sorted.

    A group of more than `largest` values gives no pairs, or, with `star`, only the pairs with its
    smallest value and between neighbours.

    Args:
        pairs: room for the pairs; length 0 only counts them.

    Returns (number of pairs, number of too large groups).
    """
    count = 0
    cut = 0
    start = 0
    while start < len(keys):
        stop = start + 1
        while stop < len(keys) and keys[stop] == keys[start]:
            stop += 1
        if stop - start > 1:
            group = np.sort(values[start:stop])  # a copy
            size = 1
            for i in range(1, len(group)):  # a value may occur twice
                if group[i] != group[size - 1]:
                    group[size] = group[i]
                    size += 1
            if size > largest:
                cut += 1
                if star:
                    for i in range(1, size):
                        if len(pairs) > 0:
                            pairs[count] = (np.uint64(group[0]) << np.uint64(32)) | np.uint64(
                                group[i]
                            )
                        count += 1
                        if i > 1:
                            if len(pairs) > 0:
                                pairs[count] = (
                                    np.uint64(group[i - 1]) << np.uint64(32)
                                ) | np.uint64(group[i])
                            count += 1
            else:
                for i in range(size):
                    for j in range(i + 1, size):
                        if len(pairs) > 0:
                            pairs[count] = (np.uint64(group[i]) << np.uint64(32)) | np.uint64(
                                group[j]
                            )
                        count += 1
        start = stop
    return count, cut


@compiled
def equal_shares(
    sketches: NDArray[np.uint16], left: Places, right: Places, shares: NDArray[np.float32]
) -> None:
    """[pairs] the share of slots that agree: the estimate of the Jaccard similarity."""
    for p in range(len(left)):
        equal = 0
        one, other = sketches[left[p]], sketches[right[p]]
        for s in range(len(one)):
            equal += one[s] == other[s]
        shares[p] = equal / sketches.shape[1]


@compiled
def components(n_nodes: int, left: Places, right: Places) -> Places:
    """[nodes] the smallest node connected with each (union-find with path halving)."""
    parent = np.arange(n_nodes)
    for e in range(len(left)):
        a = left[e]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        b = right[e]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b
    for node in range(n_nodes):  # a parent is smaller, so it is final already
        parent[node] = parent[parent[node]]
    return parent
