"""The loops of deduplication, compiled by numba: letters, shingles, sketches, pairs.

Texts arrive as UTF-8, many of them end to end in one buffer, because a call costs more than a
poem. A shingle is n consecutive letters (`letters.folded`); its hash is a rolling polynomial
modulo 2**64, mixed.

MinHash is the "fast similarity sketch" of Dahlgaard, Knudsen and Thorup (FOCS 2017): each round
throws every shingle into one of k slots, a slot keeps the smallest hash of the first round that
reached it. Two slots agree with the probability of the Jaccard similarity, as with k independent
permutations, at a cost of n + k log k instead of n * k. A slot is stored in 16 bits: unrelated
shingles agree once in 65,536, which an estimate of 0.3 does not feel.

SimHash is Charikar's (STOC 2002) over all shingles; Manku, Jain and Das Sarma (WWW 2007) use it
with 64 bits and a Hamming distance of 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hanllama.machine_code import compiled

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]

# Odd constants of splitmix64 (Steele, Lea, Flood 2014); any well-mixed ones would do.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LICENSE = np.frombuffer(b"license", dtype=np.uint8)  # the other spelling


@compiled
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


# --- letters and shingles ----------------------------------------------------------------------


@compiled
def letters_of(
    utf8: Bytes, start: int, stop: int, folded: NDArray[np.uint32], letters: NDArray[np.uint32]
) -> tuple[int, int, int, int]:
    """Write the folded letters of valid UTF-8 to `letters`.

    Returns (letters, Han characters, characters, odd characters); odd are U+FFFD, private use and
    controls, which betray a text that was decoded or extracted badly.
    """
    count = han = characters = odd = 0
    i = start
    while i < stop:
        first = int(utf8[i])
        if first < 0x80:
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
    """Write the hash of every run of n letters to `hashes`; returns how many there are."""
    if count < n:
        return 0
    leaving = np.uint64(1)
    for _ in range(n):
        leaving *= _STEP
    rolling = np.uint64(0)
    for i in range(count):
        rolling = rolling * _STEP + np.uint64(letters[i])
        if i >= n:
            rolling -= np.uint64(letters[i - n]) * leaving
        if i >= n - 1:
            hashes[i - n + 1] = _mixed(rolling)
    return count - n + 1


# --- sketches ----------------------------------------------------------------------------------


@compiled
def minhash(hashes: Hashes, count: int, slots: Hashes, sketch: NDArray[np.uint16]) -> None:
    """Sketch a set of shingles (at least one; repeated ones do not matter) into `sketch`.

    Args:
        slots: [k] room to work in.
        sketch: [k] the result.
    """
    k = len(slots)
    empty = np.uint64(0xFFFFFFFFFFFFFFFF)
    slots[:] = empty
    # The first k rounds throw at random; then each slot in turn is given to every shingle, which
    # ends it whatever the set is.
    for turn in range(2 * k):
        # The hashes are mixed already: the first round takes them as they are, and later ones need
        # no more than another odd multiplier.
        seed = _mixed(np.uint64(turn)) | np.uint64(1) if turn else np.uint64(1)
        order = np.uint64(turn) << np.uint64(48)  # k is at most 4096: earlier rounds win
        for i in range(count):
            thrown = hashes[i] * seed
            if turn < k:
                slot = np.int64((thrown >> np.uint64(48)) * np.uint64(k) >> np.uint64(16))
            else:
                slot = np.int64(turn - k)
            # No branch: which slot a shingle wins cannot be foretold.
            slots[slot] = min(slots[slot], order | (thrown & np.uint64(0xFFFFFFFFFFFF)))
        if slots.max() != empty:
            break
    for s in range(k):
        # Not the value's own bits, which are small where a set is large.
        sketch[s] = np.uint16((slots[s] * _MIX_1) >> np.uint64(48))


@compiled
def simhash(hashes: Hashes, count: int) -> np.uint64:
    """The 64-bit SimHash of all shingles, each as often as it occurs."""
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
    """Everything that is learnt of some documents in one pass over their bytes.

    Args:
        utf8: the documents end to end.
        ends: [documents] where each ends.
        n: letters of a shingle.
        minimum: documents of fewer letters get no sketch.
        sampled: one shingle hash of so many (a power of two) is a sample; 0: none.
        minimum_sampled: documents of fewer letters get no samples.
        chunk: letters of a chapter; a sample knows the chapter it stands in.
        counts: [documents, 5] letters, Han, characters, odd characters, samples.
        sketches: [sketched documents, k]; k = 0: none is made.
        simhashes: [sketched documents] or empty: none is made.
        samples, chunks: room for the samples; what does not fit is left out.

    Returns (sketched documents, samples).
    """
    longest = 0  # characters: a third of the bytes, in Chinese
    i = 0
    for end in ends:
        characters = 0
        while i < end:
            characters += (utf8[i] & 0xC0) != 0x80
            i += 1
        longest = max(longest, characters)
    letters = np.empty(longest, dtype=np.uint32)
    hashes = np.empty(longest, dtype=np.uint64)
    slots = np.empty(sketches.shape[1], dtype=np.uint64)
    rows = 0
    found = 0
    start = 0
    for d in range(len(ends)):
        count, han, characters, odd = letters_of(utf8, start, ends[d], folded, letters)
        start = ends[d]
        counts[d, 0] = count
        counts[d, 1] = han
        counts[d, 2] = characters
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


# --- JSON lines --------------------------------------------------------------------------------


@compiled
def _string(raw: Bytes, at: int, stop: int, out: Bytes, into: int) -> tuple[int, int, int, int]:
    """Copy the JSON string that begins behind its quotation mark at `at`, unescaped.

    Returns (place of the closing mark, end of the copy, characters, escapes); the place is -1 when
    the string is not valid UTF-8, does not end, or has an escape that `json.dumps` would not write
    without need (`\\u...`, `\\/`).
    """
    characters = escapes = 0
    i = at
    while i < stop:
        byte = raw[i]
        if byte >= 0xE0:  # the most frequent first: a Chinese character
            if byte < 0xF0:
                if i + 2 >= stop or (raw[i + 1] & 0xC0) != 0x80 or (raw[i + 2] & 0xC0) != 0x80:
                    return -1, into, characters, escapes
                # Not longer than needed, and no half of a surrogate pair.
                if (byte == 0xE0 and raw[i + 1] < 0xA0) or (byte == 0xED and raw[i + 1] >= 0xA0):
                    return -1, into, characters, escapes
                out[into] = byte
                out[into + 1] = raw[i + 1]
                out[into + 2] = raw[i + 2]
                i += 3
                into += 3
            else:
                if i + 3 >= stop or byte > 0xF4:
                    return -1, into, characters, escapes
                if (byte == 0xF0 and raw[i + 1] < 0x90) or (byte == 0xF4 and raw[i + 1] >= 0x90):
                    return -1, into, characters, escapes
                out[into] = byte
                for k in range(1, 4):
                    if (raw[i + k] & 0xC0) != 0x80:
                        return -1, into, characters, escapes
                    out[into + k] = raw[i + k]
                i += 4
                into += 4
        elif byte >= 0x80:
            if byte < 0xC2 or i + 1 >= stop or (raw[i + 1] & 0xC0) != 0x80:
                return -1, into, characters, escapes
            out[into] = byte
            out[into + 1] = raw[i + 1]
            i += 2
            into += 2
        elif byte == 0x22:
            return i, into, characters, escapes
        elif byte < 0x20:
            return -1, into, characters, escapes
        elif byte == 0x5C:
            if i + 1 >= stop:
                return -1, into, characters, escapes
            code = raw[i + 1]
            if code == 0x6E:  # n
                out[into] = 0x0A
            elif code == 0x22 or code == 0x5C:
                out[into] = code
            elif code == 0x74:  # t
                out[into] = 0x09
            elif code == 0x72:  # r
                out[into] = 0x0D
            elif code == 0x62:  # b
                out[into] = 0x08
            elif code == 0x66:  # f
                out[into] = 0x0C
            else:
                return -1, into, characters, escapes
            escapes += 1
            i += 2
            into += 1
        else:
            out[into] = byte
            i += 1
            into += 1
        characters += 1
    return -1, into, characters, escapes


@compiled
def _after_spaces(raw: Bytes, at: int, stop: int) -> int:
    while at < stop and raw[at] == 0x20:
        at += 1
    return at


@compiled
def plain_lines(
    raw: Bytes, ends: Places, keys: Bytes, key_ends: Places, places: Places, sizes: Places,
    texts: Bytes,
) -> None:  # fmt: skip
    """Read lines that are flat objects of strings; of others only say that they are not.

    Args:
        raw, ends: the lines end to end, and where each ends.
        keys, key_ends: the names of the text's field and of the labels' fields.
        places: [lines, 2 * keys] begin and end of each value in its line, -1 where it is absent.
        sizes: [lines, 2] bytes and characters of the text; -1: not a plain line.
        texts: room for the texts end to end, as long as `raw`.

    A plain line has the text, no field of ours twice, no label with an escape, no field `license`
    (which may stand for `licence`), and no white space but blanks.
    """
    skipped = np.empty(len(raw), dtype=np.uint8)
    start = written = 0
    for number in range(len(ends)):
        stop = ends[number]
        places[number, :] = -1
        sizes[number, 0] = -1
        begin = written
        end = written
        characters = 0
        i = _after_spaces(raw, start, stop)
        plain = i < stop and raw[i] == 0x7B
        i += 1
        while plain:
            i = _after_spaces(raw, i, stop)
            plain = i < stop and raw[i] == 0x22
            if not plain:
                break
            name = i + 1
            i, _, _, escapes = _string(raw, name, stop, skipped, 0)
            plain = i >= 0 and escapes == 0
            if not plain:
                break
            field = _named(raw, name, i, keys, key_ends)
            i = _after_spaces(raw, i + 1, stop)
            plain = field > -2 and i < stop and raw[i] == 0x3A
            i = _after_spaces(raw, i + 1, stop)
            plain = plain and i < stop and raw[i] == 0x22
            if plain and field >= 0:
                plain = places[number, 2 * field] < 0
            if not plain:
                break
            value = i + 1
            if field == 0:
                i, end, characters, _ = _string(raw, value, stop, texts, written)
            else:
                i, _, _, escapes = _string(raw, value, stop, skipped, 0)
                plain = field < 0 or escapes == 0
            plain = plain and i >= 0
            if not plain:
                break
            if field >= 0:
                places[number, 2 * field] = value - start
                places[number, 2 * field + 1] = i - start
            i = _after_spaces(raw, i + 1, stop)
            if i < stop and raw[i] == 0x2C:
                i += 1
                continue
            plain = i < stop and raw[i] == 0x7D and _after_spaces(raw, i + 1, stop) == stop
            if plain and places[number, 0] >= 0:
                sizes[number, 0] = end - begin
                sizes[number, 1] = characters
                written = end
            break
        start = stop


@compiled
def _named(raw: Bytes, start: int, stop: int, keys: Bytes, key_ends: Places) -> int:
    """Which key stands there; -1 none, -2 `license`."""
    low = 0
    for key in range(len(key_ends)):
        size = key_ends[key] - low
        if size == stop - start:
            same = True
            for k in range(size):
                if raw[start + k] != keys[low + k]:
                    same = False
                    break
            if same:
                return key
        low = key_ends[key]
    if stop - start == 7:
        for k in range(7):
            if raw[start + k] != _LICENSE[k]:
                return -1
        return -2
    return -1


@compiled
def without_space(utf8: Bytes, ends: Places, out: Bytes, out_ends: Places) -> None:
    """Copy documents without ASCII white space and U+3000: what an exact comparison looks at."""
    i = 0
    into = 0
    for d in range(len(ends)):
        while i < ends[d]:
            byte = utf8[i]
            if byte == 0x20 or 0x09 <= byte <= 0x0D:
                i += 1
            elif byte == 0xE3 and i + 2 < ends[d] and utf8[i + 1] == 0x80 and utf8[i + 2] == 0x80:
                i += 3
            else:
                out[into] = byte
                into += 1
                i += 1
        out_ends[d] = into


# --- lines -------------------------------------------------------------------------------------


@compiled
def lines(utf8: Bytes, ends: Places, minimum: int, hashes: Hashes, places: Places) -> int:
    """The lines of at least `minimum` characters, white space around them not counted.

    Args:
        utf8: documents end to end; a line also ends where its document ends.
        ends: [documents].
        hashes, places: room for the hash of each line, and for (document, start, stop, begin of
            its text, end of its text) in bytes; stop is behind the newline.

    Returns how many lines there are.
    """
    count = 0
    at = 0
    for d in range(len(ends)):
        while at < ends[d]:
            start = at
            while at < ends[d] and utf8[at] != 0x0A:
                at += 1
            low, high = start, at
            at += 1
            while low < high:
                if utf8[low] <= 0x20:
                    low += 1
                elif (  # U+3000, the ideographic space that indents a paragraph
                    high - low >= 3
                    and utf8[low] == 0xE3
                    and utf8[low + 1] == 0x80
                    and utf8[low + 2] == 0x80
                ):
                    low += 3
                else:
                    break
            while low < high:
                if utf8[high - 1] <= 0x20:
                    high -= 1
                elif (
                    high - low >= 3
                    and utf8[high - 3] == 0xE3
                    and utf8[high - 2] == 0x80
                    and utf8[high - 1] == 0x80
                ):
                    high -= 3
                else:
                    break
            characters = 0
            value = np.uint64(high - low)
            for i in range(low, high):
                byte = utf8[i]
                if (byte & 0xC0) != 0x80:
                    characters += 1
                value = (value ^ np.uint64(byte)) * _STEP
            if characters >= minimum and high > low:
                hashes[count] = _mixed(value)
                places[count, 0] = d
                places[count, 1] = start
                places[count, 2] = min(at, ends[d])
                places[count, 3] = low
                places[count, 4] = high
                count += 1
        at = ends[d]
    return count


# --- bands, pairs, clusters --------------------------------------------------------------------


@compiled
def band_keys(sketches: NDArray[np.uint16], rows: int, keys: Hashes) -> None:
    """[documents, bands] a key for every `rows` slots of a sketch, different for each band."""
    for d in range(len(sketches)):
        for band in range(keys.shape[1]):
            value = np.uint64(band + 1)
            for r in range(rows):
                value = (value ^ np.uint64(sketches[d, band * rows + r])) * _STEP
                value ^= value >> np.uint64(32)
            keys[d, band] = _mixed(value)


@compiled
def masked_keys(simhashes: Hashes, masks: Hashes, keys: Hashes) -> None:
    """[documents, masks] a key of the bits that each mask leaves of a SimHash."""
    for d in range(len(simhashes)):
        for m in range(len(masks)):
            keys[d, m] = _mixed(_mixed(simhashes[d] & masks[m]) + np.uint64(m + 1) * _STEP)


@compiled
def pairs_in_groups(
    keys: Hashes, values: NDArray[np.uint32], largest: int, star: bool, pairs: Hashes
) -> tuple[int, int]:
    """Pairs (smaller << 32 | larger) of values under one key; `keys` are sorted.

    A group of more than `largest` gives with `star` only the pairs with its smallest value and
    between neighbours, and otherwise none.

    Args:
        pairs: room for them; of length 0 to count only.

    Returns (pairs, groups that were too large).
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
            for i in range(1, len(group)):  # a value may be there twice
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
        for s in range(sketches.shape[1]):
            equal += sketches[left[p], s] == sketches[right[p], s]
        shares[p] = equal / sketches.shape[1]


@compiled
def components(n_nodes: int, left: Places, right: Places) -> Places:
    """[nodes] the smallest node that each is connected with (union-find with path halving)."""
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
    for node in range(n_nodes):  # a parent is smaller, so it is settled already
        parent[node] = parent[parent[node]]
    return parent
