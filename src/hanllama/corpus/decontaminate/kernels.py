"""The loops of decontamination, compiled by numba.

A text becomes units. A Han character (or another letter of East Asia) is one unit; a word or number
of another script is one unit, since thirteen Latin letters are two words and prove nothing. A unit
is a code point, or WORD + the number of a word in the questions; any other word is UNKNOWN and
matches nothing. So equal units mean equal text, and a comparison of units after a hash match leaves
no false positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hanllama.base.machine_code import compiled
from hanllama.text.tables import STEP, after, home, mixed

WORD = 0x110000
UNKNOWN = 0xFFFFFFFF
EAST_ASIA = 0x2E80  # from here no script puts spaces between words


@compiled
def units(codes: Any, folds: Any, word_slots: Any, word_letters: Any, word_starts: Any) -> Any:
    """(units, begins, ends) of a text: [n] each, places in characters.

    Args:
        codes: code points. folds: [0x110000] `letters.folded`.
        word_slots: hash table of the questions' words, -1 where empty.
        word_letters, word_starts: their folded letters end to end.
    """
    out = np.empty(len(codes), np.uint32)
    begins = np.empty(len(codes), np.int64)
    ends = np.empty(len(codes), np.int64)
    n = at = 0
    while at < len(codes):
        code = folds[codes[at]]
        if code == 0:
            at += 1
            continue
        begins[n] = at
        if code >= EAST_ASIA:
            out[n] = code
            at += 1
        else:
            value = np.uint64(0)
            while at < len(codes) and 0 < folds[codes[at]] < EAST_ASIA:
                value = (value + np.uint64(folds[codes[at]])) * STEP
                at += 1
            out[n] = _word(
                codes[begins[n] : at], folds, value, word_slots, word_letters, word_starts
            )
        ends[n] = at
        n += 1
    return out[:n], begins[:n], ends[:n]


@compiled
def _word(
    codes: Any, folds: Any, value: np.uint64, slots: Any, letters: Any, starts: Any
) -> np.uint32:
    slot = home(slots, mixed(value))
    while slots[slot] >= 0:
        word = slots[slot]
        if starts[word + 1] - starts[word] == len(codes):
            same = True
            for i in range(len(codes)):
                if letters[starts[word] + i] != folds[codes[i]]:
                    same = False
                    break
            if same:
                return np.uint32(WORD + word)
        slot = after(slots, slot)
    return np.uint32(UNKNOWN)


@compiled
def add_words(letters: Any, starts: Any, slots: Any) -> None:
    """Fill an empty table, whose length is a power of two, with different words."""
    for word in range(len(starts) - 1):
        value = np.uint64(0)
        for i in range(starts[word], starts[word + 1]):
            value = (value + np.uint64(letters[i])) * STEP
        slot = home(slots, mixed(value))
        while slots[slot] >= 0:
            slot = after(slots, slot)
        slots[slot] = word


# --- n-grams of the questions --------------------------------------------------------------------


@compiled
def _power(n: int) -> np.uint64:
    power = np.uint64(1)
    for _ in range(n):
        power *= STEP
    return power


@compiled
def _equal(a: Any, at: int, b: Any, start: int, length: int) -> bool:
    if at + length > len(a):
        return False
    for i in range(length):  # noqa: SIM110 (numba compiles no generator)
        if a[at + i] != b[start + i]:
            return False
    return True


@compiled
def index(question_units: Any, starts: Any, lengths: Any, key_length: int, slots: Any) -> Any:
    """[len(starts)] the number of each n-gram, the same for equal ones; fills the table `slots`.

    An n-gram is `lengths[i]` units from `starts[i]`; its key is the hash of the first `key_length`.
    Its number is the index of the first equal n-gram.
    """
    numbers = np.empty(len(starts), np.int64)
    for i in range(len(starts)):
        value = np.uint64(0)
        for k in range(key_length):
            value = value * STEP + np.uint64(question_units[starts[i] + k])
        slot = home(slots, mixed(value))
        numbers[i] = i
        while slots[slot] >= 0:
            other = slots[slot]
            if lengths[other] == lengths[i] and _equal(
                question_units, starts[i], question_units, starts[other], lengths[i]
            ):
                numbers[i] = other
                break
            slot = after(slots, slot)
        if numbers[i] == i:
            slots[slot] = i
    return numbers


@compiled
def find(
    text_units: Any, question_units: Any, starts: Any, lengths: Any, key_length: int, slots: Any
) -> Any:
    """(places in units, n-gram numbers) of every occurrence of the questions' n-grams."""
    places = np.empty(16, np.int64)
    found = np.empty(16, np.int64)
    n = 0
    if len(text_units) < key_length:
        return places[:0], found[:0]
    highest = _power(key_length - 1)
    value = np.uint64(0)
    for i in range(len(text_units)):
        if i >= key_length:
            value -= np.uint64(text_units[i - key_length]) * highest
        value = value * STEP + np.uint64(text_units[i])
        at = i - key_length + 1
        if at < 0:
            continue
        slot = home(slots, mixed(value))
        while slots[slot] >= 0:
            gram = slots[slot]
            if _equal(text_units, at, question_units, starts[gram], lengths[gram]):
                if n == len(places):
                    places = np.concatenate((places, np.empty(n, np.int64)))
                    found = np.concatenate((found, np.empty(n, np.int64)))
                places[n], found[n] = at, gram
                n += 1
            slot = after(slots, slot)
    return places[:n], found[:n]
