"""The loops over equal texts and equal lines, compiled by numba.

Many texts come as UTF-8, end to end in one buffer: a call costs more than a poem.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hanllama.base.machine_code import compiled
from hanllama.text.tables import STEP, after, home, mixed

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_NEWLINE = np.uint8(0x0A)
# Bytes that a loop without branches takes at once: the widest vector. Such a loop casts to a byte
# at each step; otherwise numba would compute in 64 bits, with eight times as many instructions.
BLOCK = 64


# --- equal texts -------------------------------------------------------------------------------


@compiled
def without_space(utf8: Bytes, ends: Places, out: Bytes, out_ends: Places) -> None:
    """Copy documents without ASCII white space and U+3000, for an exact comparison.

    Args:
        out: room for the copies end to end.
        out_ends: [documents] the end of each in `out`.
    """
    chunk = 4096
    steps = np.empty(chunk, dtype=np.int8)
    into = np.uint64(0)  # unsigned: a signed index costs a test for negative values
    start = 0
    for d in range(len(ends)):
        text = utf8[start : ends[d]]
        for at in range(0, len(text), chunk):
            here = text[at : at + chunk]
            # Every byte is copied; a step of 0, or of -2 after U+3000, overwrites it.
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
    """[documents] the number of odd characters, as `letters_of` defines them."""
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
            its text, end of its text) in bytes; stop is after the newline.

    Returns the number of lines.
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
    """Copy documents without some lines; a cut at the end also removes the newlines before it.

    Args:
        cuts: [cuts, 3] document (ascending), begin and end of the cut in its text.
        out: room for the documents end to end.
        out_ends: [documents] the end of each in `out`.
        characters: [documents] set to the characters left, for documents with cuts.
        blank: [documents] set to whether perhaps only white space is left, for documents with cuts.

    Returns the bytes left in all.
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
    """Whether no byte is printable ASCII or 0xE4 and above, which no white space holds."""
    at = 0
    while at < len(utf8) and utf8[at] < 0xE4 and not 0x20 < utf8[at] < 0x7F:
        at += 1
    return at == len(utf8)


@compiled
def documents_of_lines(
    hashes: Hashes, documents: Places, values: Hashes, counts: NDArray[np.uint32], firsts: Places
) -> int:
    """Count the documents of each different line, and note the first of them.

    Args:
        hashes, documents: [lines] hash and document of each; the documents ascend.
        values, counts, firsts: [lines] room for the result.

    Returns the number of different lines.
    """
    size = 16
    while size < 2 * len(hashes):
        size *= 2
    places = np.full(size, -1, dtype=np.int64)
    latest = np.empty(len(hashes), dtype=np.int64)
    n = 0
    for i in range(len(hashes)):
        slot = home(places, hashes[i])
        while places[slot] >= 0 and values[places[slot]] != hashes[i]:
            slot = after(places, slot)
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
    value = np.uint64(size) * STEP  # spread over all bits: no first letter can cancel a length
    if size < 8:
        for i in range(size):
            value = (value ^ np.uint64(line[i])) * STEP
        return mixed(value)
    i = 0
    while i + 8 < size:
        value = _stirred(value, line[i : i + 8])
        i += 8
    return mixed(_stirred(value, line[size - 8 : size]))  # overlaps the word before


@compiled
def _stirred(value: np.uint64, word: Bytes) -> np.uint64:
    bits = np.uint64(0)
    for k in range(8):
        bits |= np.uint64(word[k]) << np.uint64(8 * k)
    value = (value ^ bits) * STEP
    return value ^ (value >> np.uint64(29))  # a product never moves upper bits down


# --- bytes ---------------------------------------------------------------------------------------


@compiled
def _found(utf8: Bytes, wanted: np.uint8, at: int, stop: int) -> int:
    """The place of the next byte `wanted`; `stop` when there is none."""
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
    """Write `source` to `out` from `into`; returns its end."""
    room = out[into : into + len(source)]
    for i in range(len(source)):
        room[i] = source[i]
    return into + len(source)
