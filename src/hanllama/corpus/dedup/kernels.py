"""The loops of deduplication, compiled by numba: sketches, pairs; JSON lines, lines, equal texts.

They are one file because they call each other: numba keeps a loop's machine code until the loop's
own file changes, so one that stood elsewhere could change and still be called as it was.

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

from hanllama.base.machine_code import compiled

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]

# Odd constants of splitmix64 (Steele, Lea, Flood 2014); any well-mixed ones would do.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_NEWLINE = np.uint8(0x0A)
# Bytes that a loop without branches takes at once: one of the widest vectors. What such a
# loop finds is cast to a byte at each step: numba would compute in 64 bits, in eight times as many.
BLOCK = 64


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
        if 0xE4 <= first <= 0xE9:  # nearly all Han, as which they count without a look
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
    start = 0
    for end in ends:
        longest = max(longest, _characters(utf8[start:end]))
        start = end
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


# --- bytes ---------------------------------------------------------------------------------------


@compiled
def _found(utf8: Bytes, wanted: np.uint8, at: int, stop: int) -> int:
    """Where the next such byte is; `stop` when there is none."""
    while at + BLOCK <= stop:
        block = utf8[at : at + BLOCK]
        found = np.uint8(0)
        for k in range(BLOCK):
            found = np.uint8(found | np.uint8(block[k] == wanted))
        if found:
            first = np.uint8(BLOCK)
            for k in range(BLOCK):
                here = np.uint8(k) if block[k] == wanted else np.uint8(BLOCK)
                first = min(first, here)
            return at + int(first)
        at += BLOCK
    while at < stop and utf8[at] != wanted:
        at += 1
    return at


@compiled
def _characters(utf8: Bytes) -> int:
    total = at = 0
    while at + BLOCK <= len(utf8):
        block = utf8[at : at + BLOCK]
        count = np.uint8(0)
        for k in range(BLOCK):
            count = np.uint8(count + np.uint8((block[k] & np.uint8(0xC0)) != np.uint8(0x80)))
        total += int(count)
        at += BLOCK
    while at < len(utf8):
        total += (utf8[at] & np.uint8(0xC0)) != np.uint8(0x80)
        at += 1
    return total


@compiled
def _copied(source: Bytes, out: Bytes, into: int) -> int:
    """Write `source` to `out`; returns where it ends."""
    room = out[into : into + len(source)]
    for i in range(len(source)):
        room[i] = source[i]
    return into + len(source)


# --- equal texts -------------------------------------------------------------------------------


@compiled
def without_space(utf8: Bytes, ends: Places, out: Bytes, out_ends: Places) -> None:
    """Copy documents without ASCII white space and U+3000: what an exact comparison looks at.

    Args:
        out: room for them end to end.
        out_ends: [documents] where each ends in `out`.
    """
    chunk = 4096
    steps = np.empty(chunk, dtype=np.int8)
    into = np.uint64(0)  # a signed index is looked at for being negative
    start = 0
    for d in range(len(ends)):
        text = utf8[start : ends[d]]
        for at in range(0, len(text), chunk):
            here = text[at : at + chunk]
            # Every byte is copied; a step of 0 or, behind U+3000, of -2 takes it back.
            for k in range(min(len(here), max(0, 2 - at))):
                steps[k] = 1 - _is_space(here[k])
            low = max(at, 2)
            one, two = text[low - 1 : at + chunk - 1], text[low - 2 : at + chunk - 2]
            rest, ahead = here[low - at :], steps[low - at :]
            for k in range(len(rest)):
                wide = (
                    np.uint8(rest[k] == np.uint8(0x80))
                    & np.uint8(one[k] == np.uint8(0x80))
                    & np.uint8(two[k] == np.uint8(0xE3))
                )
                ahead[k] = np.int8(np.uint8(1) - _is_space(rest[k]) - np.uint8(3) * wide)
            for k in range(len(here)):
                out[into] = here[k]
                into += np.uint64(np.int64(steps[k]))
        start = ends[d]
        out_ends[d] = into


@compiled
def _is_space(byte: np.uint8) -> np.uint8:
    return np.uint8(byte == np.uint8(0x20)) | np.uint8(
        np.uint8(byte - np.uint8(0x09)) <= np.uint8(0x04)
    )


@compiled
def odd_characters(utf8: Bytes, ends: Places, counts: NDArray[np.uint32]) -> None:
    """[documents] how many characters are odd, as `letters_of` has it."""
    start = 0
    for d in range(len(ends)):
        text = utf8[start : ends[d]]
        total = at = 0
        while at + BLOCK + 2 <= len(text):
            here, next_, third = (
                text[at : at + BLOCK], text[at + 1 : at + 1 + BLOCK], text[at + 2 : at + 2 + BLOCK]
            )  # fmt: skip
            count = np.uint8(0)
            for k in range(BLOCK):
                count = np.uint8(count + _is_odd(here[k], next_[k], third[k]))
            total += int(count)
            at += BLOCK
        while at < len(text):
            second = text[at + 1] if at + 1 < len(text) else np.uint8(0xFF)
            last = text[at + 2] if at + 2 < len(text) else np.uint8(0xFF)
            total += int(_is_odd(text[at], second, last))
            at += 1
        counts[d] = total
        start = ends[d]


@compiled
def _is_odd(first: np.uint8, second: np.uint8, third: np.uint8) -> np.uint8:
    """1 when an odd character begins here."""
    space = (
        np.uint8(first == np.uint8(0x0A))
        | np.uint8(first == np.uint8(0x0D))
        | np.uint8(first == np.uint8(0x09))
    )
    control = np.uint8(first < np.uint8(0x20)) & np.uint8(space == np.uint8(0))
    return np.uint8(
        control
        | np.uint8(first == np.uint8(0x7F))
        | (np.uint8(first == np.uint8(0xC2)) & np.uint8(second < np.uint8(0xA0)))
        | np.uint8(first == np.uint8(0xEE))
        | (np.uint8(first == np.uint8(0xEF)) & np.uint8(second < np.uint8(0xA4)))
        | (
            np.uint8(first == np.uint8(0xEF))
            & np.uint8(second == np.uint8(0xBF))
            & np.uint8(third == np.uint8(0xBD))
        )
    )


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
            at = _found(utf8, _NEWLINE, at, ends[d])
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
            line = utf8[low:high] if low < high else utf8[0:0]
            # No character takes more than four bytes: long lines need no count.
            if len(line) >= minimum and (len(line) >= 4 * minimum or _characters(line) >= minimum):
                hashes[count] = _line_hash(line)
                places[count, 0] = d
                places[count, 1] = start
                places[count, 2] = min(at, ends[d])
                places[count, 3] = low
                places[count, 4] = high
                count += 1
        at = ends[d]
    return count


@compiled
def without_cuts(
    utf8: Bytes, ends: Places, cuts: Places, out: Bytes, out_ends: Places, characters: Places,
    blank: NDArray[np.bool_],
) -> int:  # fmt: skip
    """Copy documents without some of their lines; what is cut at the end takes the newlines before.

    Args:
        cuts: [cuts, 3] document, ascending, and where in its text the cut begins and ends.
        out: room for the documents end to end.
        out_ends: [documents] where each ends in `out`.
        characters: [documents] of those that are cut, what is left.
        blank: [documents] whether of one that is cut perhaps only white space is left: no byte is
            that no white space has in UTF-8.

    Returns the bytes that are left of all.
    """
    start = into = cut = 0
    for d in range(len(ends)):
        begin = into
        at = start
        whole = cut == len(cuts) or cuts[cut, 0] != d
        while cut < len(cuts) and cuts[cut, 0] == d:
            into = _copied(utf8[at : start + cuts[cut, 1]], out, into)
            at = start + cuts[cut, 2]
            cut += 1
        into = _copied(utf8[at : ends[d]], out, into)
        if at == ends[d] and not whole:
            while into > begin and out[into - 1] == 0x0A:
                into -= 1
        if not whole:
            characters[d] = _characters(out[begin:into])
            blank[d] = _is_blank(out[begin:into])
        out_ends[d] = into
        start = ends[d]
    return into


@compiled
def _is_blank(utf8: Bytes) -> bool:
    """Whether no byte is printable ASCII or 0xE4 and above: those that no white space has."""
    at = 0
    while at < len(utf8) and utf8[at] < 0xE4 and not 0x20 < utf8[at] < 0x7F:
        at += 1
    return at == len(utf8)


@compiled
def documents_of_lines(
    hashes: Hashes, documents: Places, values: Hashes, counts: NDArray[np.uint32], firsts: Places
) -> int:
    """In how many documents each line occurs, and in which first.

    Args:
        hashes, documents: [lines] of each, the documents ascending.
        values, counts, firsts: [lines] room for the result.

    Returns how many different lines there are.
    """
    size = 16
    while size < 2 * len(hashes):
        size *= 2
    mask = np.uint64(size - 1)
    places = np.full(size, -1, dtype=np.int64)  # by the last bits of a hash, or the next free one
    latest = np.empty(len(hashes), dtype=np.int64)
    n = 0
    for i in range(len(hashes)):
        slot = hashes[i] & mask
        while places[slot] >= 0 and values[places[slot]] != hashes[i]:
            slot = (slot + np.uint64(1)) & mask
        if places[slot] < 0:
            places[slot] = n
            values[n], counts[n] = hashes[i], 1
            firsts[n] = latest[n] = documents[i]
            n += 1
        elif latest[places[slot]] != documents[i]:
            latest[places[slot]] = documents[i]
            counts[places[slot]] += 1
    return n


@compiled
def _line_hash(line: Bytes) -> np.uint64:
    size = len(line)
    value = np.uint64(size) * _STEP  # in all bits: no other first letter makes up for a length
    if size < 8:
        for i in range(size):
            value = (value ^ np.uint64(line[i])) * _STEP
        return _mixed(value)
    i = 0
    while i + 8 < size:
        value = _stirred(value, line[i : i + 8])
        i += 8
    return _mixed(_stirred(value, line[size - 8 : size]))  # some of them once more


@compiled
def _stirred(value: np.uint64, word: Bytes) -> np.uint64:
    bits = np.uint64(0)
    for k in range(8):
        bits |= np.uint64(word[k]) << np.uint64(8 * k)
    value = (value ^ bits) * _STEP
    return value ^ (value >> np.uint64(29))  # a product's upper bits never come down by themselves


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
        one, other = sketches[left[p]], sketches[right[p]]
        for s in range(len(one)):
            equal += one[s] == other[s]
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
