"""Fast BPE for Chinese: cut the text where no merge can cross, then look the pieces of text up.

A BPE merge joins two neighbours into a piece, so it can cross the boundary between two characters
only if some piece holds these two characters side by side. The pairs that occur inside pieces are
few (9,214 for a 16k vocabulary trained on novels), and in Chinese text six of ten boundaries are
none of them. Cut there, the text falls into segments of 1.6 characters on average, each with its
ids independent of all others: the same ids as for the whole, by construction. Segments repeat, so
nearly all of the work is table lookups, done for thousands of segments at once:

- one character: a table by code point;
- two or three: their code points packed into 63 bits are an exact key (no hash to collide) into a
  table of ids that fills as it goes;
- longer ones, characters spelt in bytes, and what the table does not hold yet: sentencepiece, one
  call for all of a block, with newlines between, which no merge crosses either.

The pair test is a hashed bit table without verification: a false alarm makes a segment longer, and
changes no id. The table of short segments belongs to a thread and only remembers, so no id depends
on it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.tokenizer import hf

Ids = NDArray[np.int32]

_PAIR_BITS = 20  # 1 MiB of bytes: stays in the second-level cache; 1-10 % false alarms
_SLOT_BITS = 19  # 8 MiB a thread
_ID_BITS = 20  # three ids and their count in one 64-bit value
_EMPTY = np.uint64(2**64 - 1)  # no three code points pack to this
_NEWLINE = 10
_ASKED = 150  # segments in one string for sentencepiece, which is fastest on some 600 characters
_BLOCK = 1 << 17  # characters at once, measured: smaller pays more calls, larger leaves the cache


class SegmentEncoder:
    """Encodes with a SentencePiece BPE model that `fits`.

    Args:
        proto: the model.
        whole: encodes strings with that model, without prefix: the truth for what is new.
    """

    def __init__(self, proto: Any, whole: Callable[[list[str]], list[Ids]]) -> None:
        self._whole = whole
        self._thread = threading.local()
        self._character_ids = np.full(0x110000, -1, dtype=np.int32)
        self._pairs = np.zeros(1 << _PAIR_BITS, dtype=bool)
        pairs: set[str] = set()
        pieces: dict[str, int] = {}
        for i, piece in enumerate(proto.pieces):
            text = piece.piece
            if piece.type == hf.BYTE and int(text[1:-1], 16) < 0x80:
                code = int(text[1:-1], 16)
                if self._character_ids[code] < 0:
                    self._character_ids[code] = i
            elif piece.type == hf.NORMAL:
                if len(text) == 1:
                    self._character_ids[ord(text)] = i
                elif len(text) == 2:
                    pieces[text] = i
                pairs.update(map("".join, itertools.pairwise(text)))
        self._seed = np.full((1 << _SLOT_BITS, 2), _EMPTY, dtype=np.uint64)
        if pairs:
            self._learn_pairs(sorted(pairs), pieces)

    def _learn_pairs(self, pairs: list[str], pieces: dict[str, int]) -> None:
        """Mark the pairs that occur in pieces; of each, alone, the ids are one piece or two."""
        codes = np.frombuffer("".join(pairs).encode("utf-32-le"), dtype="<u4").reshape(-1, 2)
        self._pairs[_pair_slot(codes[:, 0], codes[:, 1])] = True
        whole = np.array([pieces.get(pair, -1) for pair in pairs])
        ids = self._character_ids[codes]
        ids[whole >= 0, 0] = whole[whole >= 0]
        ids[whole >= 0, 1] = 0
        known = (ids >= 0).all(axis=1)
        wide, tokens = codes[known].astype(np.uint64), ids[known].astype(np.uint64)
        counts = np.where(whole[known] >= 0, 1, 2).astype(np.uint64)
        packed = tokens[:, 0] | tokens[:, 1] << np.uint64(_ID_BITS)
        packed |= counts << np.uint64(3 * _ID_BITS)
        _insert(self._seed, wide[:, 0] | wide[:, 1] << np.uint64(21), packed)

    @staticmethod
    def fits(proto: Any) -> bool:
        """Whether segments of this model are independent: plain BPE with bytes for the unknown."""
        kinds = {p.type for p in proto.pieces}
        plain = proto.trainer_spec.model_type == hf.BPE and proto.trainer_spec.byte_fallback
        # Symbols cut out beforehand, and pieces that fall apart again, follow other rules.
        special = kinds & {hf.USER_DEFINED, hf.UNUSED}
        return bool(plain and not special and len(proto.pieces) < 1 << _ID_BITS)

    def encode(self, parts: Sequence[str]) -> tuple[Ids, NDArray[np.int64]]:
        """Ids of all parts end to end, and how many each part has.

        Parts are separate texts, or one text cut where no merge crosses. Spaces are `▁` already.
        """
        ids: list[Ids] = []
        counts: list[NDArray[np.int64]] = []
        begin = characters = 0
        for i, part in enumerate(parts):
            characters += len(part)
            if characters >= _BLOCK or i + 1 == len(parts):
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
        joined = self._pairs[_pair_slot(codes[:-1], codes[1:])]
        edges = np.cumsum([len(p) for p in parts])
        joined[edges[(edges > 0) & (edges < codes.size)] - 1] = False
        newlines = np.flatnonzero(codes == _NEWLINE)
        joined[newlines[newlines < joined.size]] = False
        joined[newlines[newlines > 0] - 1] = False
        starts = np.concatenate([[0], np.flatnonzero(~joined) + 1])
        lengths = np.concatenate([starts[1:], [codes.size]]) - starts

        counts = np.ones(starts.size, dtype=np.int64)
        first = codes[starts]
        singles = self._character_ids[first]
        other = (lengths > 3) | ((lengths == 1) & (singles < 0))
        short = np.flatnonzero((lengths == 2) | (lengths == 3))
        values, known = self._short(codes, starts[short], lengths[short] == 3)
        other[short[~known]] = True
        short, values = short[known], values[known]
        counts[short] = values >> np.uint64(3 * _ID_BITS)
        others = np.flatnonzero(other)
        other_ids, other_counts = self._ask(codes, starts[others], lengths[others])
        counts[others] = other_counts

        ends = np.cumsum(counts)
        at = ends - counts
        out = np.empty(int(ends[-1]), dtype=np.int32)
        out[at] = singles  # right for single characters; the others are overwritten
        mask = np.uint64((1 << _ID_BITS) - 1)
        places = at[short]
        out[places] = values & mask
        for k in (1, 2):
            more = np.flatnonzero(counts[short] > k)
            out[places[more] + k] = (values[more] >> np.uint64(k * _ID_BITS)) & mask
        before = np.cumsum(other_counts) - other_counts
        place = np.repeat(at[others] - before, other_counts) + np.arange(other_ids.size)
        out[place] = other_ids
        token_ends = np.concatenate([[0], ends])
        part_ends = token_ends[np.searchsorted(starts, edges)]
        return out, np.diff(part_ends, prepend=0)

    def _short(
        self, codes: NDArray[np.uint32], starts: NDArray[np.int64], three: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """Packed ids of segments of two or three characters, and which of them are known."""
        table = self._table()
        wide = codes.astype(np.uint64)
        key = wide[starts] | (wide[starts + 1] << np.uint64(21))
        # The highest bit tells "ab" from "ab\0".
        at = starts[three] + 2
        key[three] |= (wide[at] << np.uint64(42)) | np.uint64(1 << 63)
        slot = _key_slot(key)
        rows = table.take(slot, axis=0)  # an index in brackets is ten times slower for rows
        known = rows[:, 0] == key
        new = np.flatnonzero(~known)
        if new.size:
            _, once = np.unique(key[new], return_index=True)
            new = new[once]
            ids, counts = self._ask(codes, starts[new], 2 + three[new])
            fits = counts <= 3
            new, begin, counts = new[fits], (np.cumsum(counts) - counts)[fits], counts[fits]
            packed = counts.astype(np.uint64) << np.uint64(3 * _ID_BITS)
            for k in range(3):
                token = ids[np.minimum(begin + k, ids.size - 1)].astype(np.uint64)
                packed |= np.where(counts > k, token, np.uint64(0)) << np.uint64(k * _ID_BITS)
            _insert(table, key[new], packed)
            rows = table.take(slot, axis=0)  # an index in brackets is ten times slower for rows
            known = rows[:, 0] == key
        return rows[:, 1], known

    def _ask(
        self, codes: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[Ids, NDArray[np.int64]]:
        """Ids of segments end to end, and their counts, from sentencepiece."""
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

    def _table(self) -> NDArray[np.uint64]:
        """[slots, 2] this thread's short segments: key and packed ids, side by side in memory."""
        mine = self._thread.__dict__
        if "table" not in mine:
            mine["table"] = self._seed.copy()
        table: NDArray[np.uint64] = mine["table"]
        return table


def _insert(
    table: NDArray[np.uint64], keys: NDArray[np.uint64], packed: NDArray[np.uint64]
) -> None:
    """Enter different keys; who came first stays, and of two that come at once, the last."""
    slots = _key_slot(keys)
    free = table[slots, 0] == _EMPTY
    slots, keys, packed = slots[free], keys[free], packed[free]
    table[slots, 0] = keys
    won = table[slots, 0] == keys
    table[slots[won], 1] = packed[won]


def _key_slot(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where in the table a key of two or three characters lies."""
    mixed = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _SLOT_BITS)
    slots: NDArray[np.int64] = mixed.astype(np.int64)
    return slots


def _pair_slot(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where in the bit table a pair of code points lies."""
    mixed: NDArray[np.uint32] = left * np.uint32(0x9E3779B1) + right * np.uint32(0x85EBCA77)
    mixed >>= np.uint32(32 - _PAIR_BITS)
    return mixed.astype(np.int64)
