"""The loops of the quality models, compiled by numba.

The language model packs the symbols of an n-gram into 64 bits, the earliest highest. So sorted
n-grams are grouped by context, and no hash can confuse two of them. Symbol 0 is the line end; it
also fills the context at the beginning of a line.

The n-grams of all orders lie in open-addressing hash tables in one array of 128-bit slots (key and
value side by side cost one cache miss). Column 0 is the key plus 1 (0 is an empty slot). Column 1
is the cost of the n-gram and, in the lower half, the cost of backing off from it as a context.
Costs are -ln p in whole units of 1/SCALE, so that a sum is the same on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hanllama.base.machine_code import compiled
from hanllama.corpus.quality.symbols import LINE_END, SPACE
from hanllama.text.tables import MIX_1, STEP

SCALE = 2**20  # 4,096 nats fit into 32 bits
END, UNKNOWN = 0, 1  # symbols of the language model

_HALF = np.uint64(0xFFFFFFFF)


@compiled
def compact(codes: Any, folds: Any) -> Any:
    """Folded code points: single spaces, none at line ends; no empty line; one line end last."""
    out = np.empty(len(codes) + 1, np.uint32)
    n = 0
    for code in codes:
        symbol = folds[code]
        if symbol == SPACE:
            if n > 0 and out[n - 1] != SPACE and out[n - 1] != LINE_END:
                out[n] = SPACE
                n += 1
        elif symbol == LINE_END:
            if n > 0 and out[n - 1] == SPACE:
                n -= 1
            if n > 0 and out[n - 1] != LINE_END:
                out[n] = LINE_END
                n += 1
        else:
            out[n] = symbol
            n += 1
    if n > 0 and out[n - 1] == SPACE:
        n -= 1
    if n > 0 and out[n - 1] != LINE_END:
        out[n] = LINE_END
        n += 1
    return out[:n]


# --- the language model: counting ----------------------------------------------------------------


@compiled
def ngram_keys(symbols: Any, bits: int, order: int) -> Any:
    """[len(symbols)] the packed n-gram that ends at each symbol."""
    out = np.empty(len(symbols), np.uint64)
    width = np.uint64(bits)
    context_mask = (np.uint64(1) << np.uint64(bits * (order - 1))) - np.uint64(1)
    context = np.uint64(0)
    for i in range(len(symbols)):
        key = (context << width) | np.uint64(symbols[i])
        out[i] = key
        context = np.uint64(0) if symbols[i] == END else key & context_mask
    return out


@compiled
def merged(keys: Any, counts: Any, sorted_keys: Any) -> Any:
    """The sorted table of keys and counts, with sorted occurrences added."""
    out_keys = np.empty(len(keys) + len(sorted_keys), np.uint64)
    out_counts = np.empty(len(keys) + len(sorted_keys), np.uint32)
    n = i = j = 0
    while i < len(keys) or j < len(sorted_keys):
        if j == len(sorted_keys) or (i < len(keys) and keys[i] <= sorted_keys[j]):
            key, count = keys[i], counts[i]
            i += 1
        else:
            key, count = sorted_keys[j], np.uint32(0)
        while j < len(sorted_keys) and sorted_keys[j] == key:
            count += np.uint32(1)
            j += 1
        out_keys[n], out_counts[n] = key, count
        n += 1
    return out_keys[:n].copy(), out_counts[:n].copy()


# --- the language model: tables and scoring ------------------------------------------------------


@compiled
def _slot(key: np.uint64, mask: np.uint64) -> np.uint64:
    mixed = (key ^ (key >> np.uint64(29))) * STEP
    mixed = (mixed ^ (mixed >> np.uint64(32))) * MIX_1
    return (mixed >> np.uint64(20)) & mask


@compiled
def insert(slots: Any, keys: Any, values: Any) -> None:
    """Fill an empty table, whose length is a power of two, with different keys."""
    mask = np.uint64(len(slots) - 1)
    for i in range(len(keys)):
        at = _slot(keys[i], mask)
        while slots[at, 0] != 0:
            at = (at + np.uint64(1)) & mask
        slots[at, 0] = keys[i] + np.uint64(1)
        slots[at, 1] = values[i]


@compiled
def _found(slots: Any, start: np.int64, mask: np.uint64, key: np.uint64) -> np.int64:
    """The row of a key in the table that begins at `start`; -1 when it is missing."""
    at = _slot(key, mask)
    while True:
        row = start + np.int64(at)
        held = slots[row, 0]
        if held == key + np.uint64(1):
            return row
        if held == 0:
            return np.int64(-1)
        at = (at + np.uint64(1)) & mask


@compiled
def line_costs(
    compacted: Any,
    numbers: Any,
    unigrams: Any,
    slots: Any,
    starts: Any,
    masks: Any,
    bits: int,
    order: int,
    unseen_cost: int,
) -> Any:
    """(cost, symbols) of each line of a compacted text.

    Args:
        numbers: [0x110000] the symbol of a code point; UNKNOWN for those outside the vocabulary.
        unigrams: [vocabulary, 2] int64, cost of a symbol and of backing off from it.
        starts, masks: [order + 1] where the table of each order begins in slots, its length - 1.
        unseen_cost: the cost of choosing one character outside the vocabulary.
    """
    lines = 0
    for code in compacted:
        lines += code == LINE_END
    costs = np.zeros(lines, np.int64)
    lengths = np.zeros(lines, np.int64)
    width = np.uint64(bits)
    context_mask = (np.uint64(1) << np.uint64(bits * (order - 1))) - np.uint64(1)
    # The row of the longest n-gram that ended at the previous symbol, for its back-off cost.
    context = np.uint64(0)
    before = np.uint64(END)
    known, known_row = order - 1, np.int64(-2)
    line = 0
    for code in compacted:
        symbol = np.uint64(numbers[code])
        key = (context << width) | symbol
        cost = np.int64(0)
        longest, longest_row = 1, np.int64(-1)
        for n in range(min(order, known + 1), 1, -1):
            ngram_mask = ~np.uint64(0) >> np.uint64(64 - bits * n)
            row = _found(slots, starts[n], masks[n], key & ngram_mask)
            if row >= 0:
                cost += np.int64(slots[row, 1] >> np.uint64(32))
                longest, longest_row = n, row
                break
            if n == 2:
                cost += unigrams[before, 1]
                continue
            if n - 1 == known and known_row >= 0:
                row = known_row
            else:
                row = _found(slots, starts[n - 1], masks[n - 1], context & (ngram_mask >> width))
            if row >= 0:
                cost += np.int64(slots[row, 1] & _HALF)
        if longest == 1:
            cost += unigrams[symbol, 0]
        if symbol == UNKNOWN:
            cost += unseen_cost
        costs[line] += cost
        lengths[line] += 1
        if symbol == END:
            line += 1
            context, before = np.uint64(0), np.uint64(END)
            known, known_row = order - 1, np.int64(-2)
        else:
            context, before = key & context_mask, symbol
            known, known_row = longest, longest_row
    return costs, lengths


# --- the classifier ------------------------------------------------------------------------------


@compiled
def features(compacted: Any, orders: int, bits: int) -> Any:
    """Hashed n-grams of 1 to `orders` characters, as places in a table of 2**bits weights."""
    out = np.empty(len(compacted) * orders, np.int64)
    n = 0
    for end in range(len(compacted)):
        key = np.uint64(0)
        for length in range(orders):
            if end - length < 0:
                break
            code = np.uint64(compacted[end - length])
            key = (key + code + np.uint64(length + 1)) * STEP
            key = (key ^ (key >> np.uint64(29))) * MIX_1
            out[n] = np.int64(key >> np.uint64(64 - bits))
            n += 1
    return out[:n]


@compiled
def logit(places: Any, weights: Any, bias: float) -> float:
    """The mean weight of a passage's features, plus the bias."""
    total = 0.0
    for place in places:
        total += weights[place]
    return total / max(len(places), 1) + bias


@compiled
def train_epoch(
    order: Any,
    places: Any,
    starts: Any,
    labels: Any,
    example_weights: Any,
    weights: Any,
    squares: Any,
    bias: Any,
    learning_rate: float,
) -> float:
    """One pass of AdaGrad (Duchi et al. 2011) over logistic loss; returns the mean loss.

    Each occurrence of a feature gets 1/len(passage) of the passage's gradient. AdaGrad makes rare
    features learn as fast as frequent ones.
    """
    loss = 0.0
    for example in order:
        first, last = starts[example], starts[example + 1]
        z = bias[0]
        share = 1.0 / max(last - first, 1)
        for i in range(first, last):
            z += weights[places[i]] * share
        p = 1.0 / (1.0 + np.exp(-z))
        target = labels[example]
        loss -= np.log(max(p if target else 1.0 - p, 1e-12)) * example_weights[example]
        error = (p - target) * example_weights[example]
        gradient = error * share
        for i in range(first, last):
            place = places[i]
            squares[place] += gradient * gradient
            weights[place] -= learning_rate * gradient / np.sqrt(squares[place])
        bias[1] += error * error
        bias[0] -= learning_rate * error / np.sqrt(bias[1] + 1e-12)
    return loss / len(order)
