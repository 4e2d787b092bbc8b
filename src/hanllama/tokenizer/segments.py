"""Fast BPE for Chinese: cut the text where no merge can cross, then look up the segments.

A BPE merge joins two neighbours into a piece, so it crosses the boundary between two characters
only if some piece holds these two characters side by side. Few pairs occur inside pieces (9,214 for
a 16k vocabulary trained on novels), and most boundaries of Chinese text are other pairs. Cut there,
the text falls into segments of 1.3 characters on average. The ids of a segment do not depend on its
neighbours, so they are the ids of the whole text, by construction. Segments repeat, so nearly all
work is table lookups, for thousands of segments at once:

- one character: a table by code point; a character without a piece is spelt in bytes;
- two to four: characters that can be joined are numbered, below 65,535, so four numbers of 16 bits
  are an exact key (no collisions) into a table of ids that fills as it is used;
- longer ones, and those not yet in the table: sentencepiece, one call for many, separated by
  newlines, which no merge crosses either.

A segment hardly ever has more ids than characters. So ids are written at the places of the
characters, and places without an id are dropped at the end. This is cheaper than computing places.

The pair test is a hashed bit table without verification: a false alarm makes a segment longer and
changes no id. The table of short segments belongs to a thread and is only a cache.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.tokenizer import hf

Ids = NDArray[np.int32]

_PAIR_BITS = 20  # 1 MiB of bytes: stays in the second-level cache; 1-10 % false alarms
_SLOT_BITS = 19  # 8 MiB per thread
_ID_BITS = 20  # three ids and their count in one 64-bit value
_EMPTY = np.uint64(2**64 - 1)  # no four numbers below 65,535 pack to this
_NEWLINE = 10
_ASKED = 150  # segments in one string for sentencepiece, which is fastest on about 600 characters
_SHORT = 4  # characters of the longest segment in the table
# Characters per block, measured: a smaller block pays more calls, a larger one leaves the cache.
BLOCK = 1 << 17
# By segment length: the bits of a key that belong to the segment.
_OWN_BITS = np.array([2 ** (16 * k) - 1 for k in range(_SHORT + 1)], dtype=np.uint64)


class SegmentEncoder:
    """Encodes with a SentencePiece BPE model that `fits`.

    Args:
        model: the pieces of the model.
        whole: encodes whole strings with that model, without prefix; called for unknown segments.
    """

    def __init__(self, model: hf.Pieces, whole: Callable[[list[str]], list[Ids]]) -> None:
        self._whole = whole
        self._thread = threading.local()
        self._character_ids = np.full(0x110000, -1, dtype=np.int32)
        self._byte_ids = np.full(256, -1, dtype=np.int32)
        self._numbers = np.zeros(0x110000, dtype=np.uint16)  # 0: the character is never joined
        self._pairs = np.zeros(1 << _PAIR_BITS, dtype=bool)
        self._seed = np.full((1 << _SLOT_BITS, 2), _EMPTY, dtype=np.uint64)
        for i in model.of_kind(hf.BYTE):
            self._byte_ids[int(model.texts[i][1:-1], 16)] = i
        ids = np.array(model.of_kind(hf.NORMAL), dtype=np.int32)
        texts = model.normal()
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
        starts = np.cumsum(sizes) - sizes
        self._character_ids[codes[starts[sizes == 1]]] = ids[sizes == 1]
        ascii_ids = self._character_ids[:0x80]
        np.copyto(ascii_ids, self._byte_ids[:0x80], where=ascii_ids < 0)
        beside = _pair_key(codes[:-1], codes[1:])
        pairs = np.unique(np.delete(beside, starts[1:] - 1))  # without pairs across two pieces
        joinable = np.unique(pairs.view("<u4"))
        self._numbers[joinable] = np.arange(1, joinable.size + 1)
        as_piece = np.full(pairs.size, -1, dtype=np.int64)
        as_piece[np.searchsorted(pairs, beside[starts[sizes == 2]])] = ids[sizes == 2]
        self._learn_pairs(pairs, as_piece)

    def _learn_pairs(self, pairs: NDArray[np.uint64], as_piece: NDArray[np.int64]) -> None:
        """Mark the pairs that occur in pieces, and enter the one or two ids of each pair.

        Args:
            pairs: [pairs] by `_pair_key`.
            as_piece: [pairs] the id of the piece that equals this pair, or -1.
        """
        codes = pairs.astype("<u8").view("<u4").reshape(-1, 2)[:, ::-1]
        self._pairs[_pair_slot(codes[:, 0], codes[:, 1])] = True
        ids = self._character_ids[codes]
        ids[as_piece >= 0, 0] = as_piece[as_piece >= 0]
        ids[as_piece >= 0, 1] = 0
        known = (ids >= 0).all(axis=1)
        wide, tokens = self._numbers[codes[known]].astype(np.uint64), ids[known].astype(np.uint64)
        counts = np.where(as_piece[known] >= 0, 1, 2).astype(np.uint64)
        packed = tokens[:, 0] | tokens[:, 1] << np.uint64(_ID_BITS)
        packed |= counts << np.uint64(3 * _ID_BITS)
        _insert(self._seed, wide[:, 0] | wide[:, 1] << np.uint64(16), packed)

    @staticmethod
    def fits(proto: Any, model: hf.Pieces) -> bool:
        """Whether segments of this model are independent: plain BPE with bytes for the unknown."""
        kinds = Counter(model.kinds)
        plain = proto.trainer_spec.model_type == hf.BPE and proto.trainer_spec.byte_fallback
        # User symbols are cut out first and unused pieces are split again, so segments depend on
        # their neighbours.
        special = kinds[hf.USER_DEFINED] or kinds[hf.UNUSED]
        whole = kinds[hf.BYTE] == 256 and len(model.kinds) < 1 << _ID_BITS
        joinable = set("".join(model.normal()))
        return bool(plain and not special and whole and len(joinable) < 2**16 - 1)

    def encode(self, parts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of all parts end to end, and their number for each part.

        Parts are separate texts, or one text cut where no merge crosses. Spaces are `▁` already.
        """
        ids: list[Ids] = []
        counts: list[NDArray[np.int64]] = []
        begin = characters = 0
        for i, part in enumerate(parts):
            characters += len(part)
            if characters >= BLOCK or i + 1 == len(parts):
                block_ids, block_counts = self._block(parts[begin : i + 1])
                ids.append(block_ids)
                counts.append(block_counts)
                begin, characters = i + 1, 0
        if not ids:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        return np.concatenate(ids), np.concatenate(counts)

    def _block(self, parts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        text = "".join(parts)
        if not text:
            return np.zeros(0, np.int32), np.zeros(len(parts), np.int64)
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        places = codes.astype(np.intp)  # once, since `take` would convert on every call
        numbers = np.zeros(codes.size + _SHORT, dtype=np.uint16)
        self._numbers.take(places, out=numbers[: codes.size], mode="clip")
        edges = np.cumsum([len(p) for p in parts])
        # joined[i]: whether characters i - 1 and i may be in one token.
        joined = np.zeros(codes.size + 1, dtype=bool)
        self._pairs.take(_pair_slot(codes[:-1], codes[1:]), out=joined[1:-1], mode="clip")
        joined[edges] = False
        joinable = numbers[: codes.size] != 0
        joined[:-1] &= joinable
        joined[1:] &= joinable

        ids = self._character_ids.take(places)  # right for segments of one character
        has_id = ~joined[:-1]  # every segment has an id at its first character
        begins = np.flatnonzero(joined[1:] > joined[:-1])
        lengths = np.flatnonzero(joined[1:] < joined[:-1]) - begins + 1
        short = np.flatnonzero(lengths <= _SHORT)
        at = begins[short]
        values, known = self._look_up(codes, numbers, at, lengths[short])
        rest = lengths > _SHORT
        if not known.all():
            rest[short[~known]] = True
            at, values = at[known], values[known]
        _put(ids, has_id, at, values)

        unknown = np.flatnonzero(ids < 0)
        unknown = unknown[~(joined[unknown] | joined[unknown + 1])]
        others = np.concatenate([begins[rest], unknown])
        sizes = np.concatenate([lengths[rest], np.ones(unknown.size, dtype=np.int64)])
        asked, asked_counts = self._ask(codes, begins[rest], lengths[rest])
        spelt, spelt_counts = self._spell(codes[unknown])
        counts = np.concatenate([asked_counts, spelt_counts])
        step = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        place = np.repeat(others, counts) + step
        values = np.concatenate([asked, spelt])
        # If a segment has more ids than characters, the excess follows its last character.
        over = step >= np.repeat(sizes, counts)
        inside = ~over
        ids[place[inside]] = values[inside]
        has_id[place[inside]] = True
        ends_of_over = np.repeat(others + sizes, counts)[over]
        id_ends = np.zeros(codes.size + 1, dtype=np.int64)
        np.cumsum(has_id, out=id_ends[1:])
        out = ids.compress(has_id)  # a mask in brackets takes three times as long
        part_ends = id_ends[edges]
        if ends_of_over.size:
            out = np.insert(out, id_ends[ends_of_over], values[over])
            part_ends += np.searchsorted(np.sort(ends_of_over), edges, side="right")
        return out, np.diff(part_ends, prepend=0)

    def _look_up(
        self,
        codes: NDArray[np.uint32],
        numbers: NDArray[np.uint16],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """The packed ids of segments of two to four characters, and whether each is known."""
        table = self._table()
        key = numbers.take(starts).astype(np.uint64)
        for k in range(1, _SHORT):
            key |= numbers.take(starts + k).astype(np.uint64) << np.uint64(16 * k)
        key &= _OWN_BITS.take(lengths)
        values, known = _find(table, key)
        new = np.flatnonzero(~known)
        if new.size:
            _, once = np.unique(key[new], return_index=True)
            once = new[once]
            ids, counts = self._ask(codes, starts[once], lengths[once])
            fits = counts <= 3
            once, begin, counts = once[fits], (np.cumsum(counts) - counts)[fits], counts[fits]
            packed = counts.astype(np.uint64) << np.uint64(3 * _ID_BITS)
            for k in range(3):
                token = ids[np.minimum(begin + k, ids.size - 1)].astype(np.uint64)
                packed |= np.where(counts > k, token, np.uint64(0)) << np.uint64(k * _ID_BITS)
            _insert(table, key[once], packed)
            values[new], known[new] = _find(table, key[new])
        return values, known

    def _ask(
        self, codes: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """The ids of segments end to end, and their counts, from sentencepiece."""
        if starts.size == 0:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        # Every segment, and a newline after it.
        ends = np.cumsum(lengths + 1)
        source = np.repeat(starts - (ends - lengths - 1), lengths + 1) + np.arange(int(ends[-1]))
        source[ends - 1] = 0
        joined = codes[source]
        joined[ends - 1] = _NEWLINE
        text = joined.tobytes().decode("utf-32-le")
        cuts = [0, *ends[_ASKED - 1 : -1 : _ASKED].tolist(), len(text)]
        ids = np.concatenate(self._whole([text[a:b] for a, b in itertools.pairwise(cuts)]))
        breaks = np.flatnonzero(ids == self._character_ids[_NEWLINE])
        assert breaks.size == starts.size, "a segment held a newline"
        return np.delete(ids, breaks), np.diff(breaks, prepend=-1) - 1

    def _spell(self, codes: NDArray[np.uint32]) -> tuple[Ids, NDArray[np.int64]]:
        """The byte ids (UTF-8) of characters without a piece, and their number for each."""
        data = codes.tobytes().decode("utf-32-le").encode()
        counts = np.ones(codes.size, dtype=np.int64)
        for first in (0x80, 0x800, 0x10000):  # the first characters of two, three and four bytes
            counts += codes >= first
        return self._byte_ids[np.frombuffer(data, dtype=np.uint8)], counts

    def _table(self) -> NDArray[np.uint64]:
        """[slots, 2] this thread's short segments: key and packed ids."""
        mine = self._thread.__dict__
        if "table" not in mine:
            mine["table"] = self._seed.copy()
        table: NDArray[np.uint64] = mine["table"]
        return table


def _put(
    ids: Ids, has_id: NDArray[np.bool_], at: NDArray[np.int64], packed: NDArray[np.uint64]
) -> None:
    """Write packed ids to the places from `at` on."""
    mask = np.uint64((1 << _ID_BITS) - 1)
    ids[at] = packed & mask
    for k in (1, 2):
        more = np.flatnonzero(packed >= np.uint64((k + 1) << (3 * _ID_BITS)))
        at, packed = at[more], packed[more]
        ids[at + k] = (packed >> np.uint64(k * _ID_BITS)) & mask
        has_id[at + k] = True


def _find(
    table: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """The value of each key in the table, and whether the table holds it."""
    slots = _key_slot(keys)
    rows = table.take(slots, axis=0)  # an index in brackets is ten times slower for rows
    known, values = rows[:, 0] == keys, rows[:, 1]
    missed = np.flatnonzero(~known)
    if missed.size:
        second = table.take(slots[missed] ^ 1, axis=0)
        known[missed] = second[:, 0] == keys[missed]
        values[missed] = second[:, 1]
    return values, known


def _insert(
    table: NDArray[np.uint64], keys: NDArray[np.uint64], packed: NDArray[np.uint64]
) -> None:
    """Enter different keys, each in its slot or the one beside it; earlier entries stay."""
    for beside in (0, 1):
        slots = _key_slot(keys) ^ beside
        free = np.flatnonzero(table[slots, 0] == _EMPTY)
        table[slots[free], 0] = keys[free]  # the last of several keys for one slot wins
        won = table[slots, 0] == keys
        table[slots[won], 1] = packed[won]
        keys, packed = keys[~won], packed[~won]


def _key_slot(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The slot of a key; it may also lie in the one beside it."""
    mixed = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _SLOT_BITS)
    slots: NDArray[np.int64] = mixed.astype(np.int64)
    return slots


def _pair_key(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Both code points in one number, which sorts like the pairs."""
    return left.astype(np.uint64) << np.uint64(32) | right


def _pair_slot(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The slot of a pair of code points in the bit table."""
    mixed: NDArray[np.uint32] = left * np.uint32(0x9E3779B1) + right * np.uint32(0x85EBCA77)
    mixed >>= np.uint32(32 - _PAIR_BITS)
    return mixed.astype(np.int64)
