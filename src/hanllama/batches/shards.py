"""Token shards: a corpus as flat arrays on disk, which training reads by memory map.

A folder holds one or two splits (`train`, `heldout`), each a series of files. `train-00000.bin`
holds only token ids, little-endian uint16 (uint32 above 65,536 ids), documents end to end;
`train-00000.idx` the int64 offsets of its documents and the end of the last one;
`train-00000.mask`, in the shards of conversations, one bit per token: 1 if it is trained. There is
no loader, no worker and no state: a batch is a list of (start, length) spans of a split, copied
straight from the page cache, and any span can be read again at any time.

`manifest.json` describes the arrays, with a sha256 per file. `open_shards` checks all of it before
step 0, since a wrong byte would otherwise appear as a strange loss days later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs
from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.batches.spans import copy_spans

MANIFEST = "manifest.json"
TOKEN_BYTES = "token_bytes.npy"
TOKENIZER = "tokenizer"
FORMAT = 1
# 2**28 uint16 tokens are 512 MiB: large enough for few files, small enough to copy or re-fetch.
SHARD_TOKENS = 2**28
_BLOCK_BYTES = 1 << 24

Ids = NDArray[Any]
Mask = NDArray[np.bool_]


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest on-disk type that holds every id of a vocabulary without wrapping."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class ShardWriter:
    """Appends documents to the shard files of one split.

    A document never crosses files: a file is closed when it has reached `shard_tokens`, and a
    longer document makes a longer file. A `masked` split also stores which tokens are trained.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        vocab_size: int,
        shard_tokens: int = SHARD_TOKENS,
        *,
        masked: bool = False,
    ) -> None:
        if shard_tokens < 1:
            raise ConfigError(f"shard_tokens must be at least 1, not {shard_tokens}")
        self.folder, self.split, self.vocab_size = folder, split, vocab_size
        self.shard_tokens = shard_tokens
        self.dtype = token_dtype(vocab_size)
        self.masked = masked
        self._mask = _MaskBits()
        self.n_tokens = self.n_documents = self.n_bytes = 0
        self._shards: list[dict[str, Any]] = []
        self._file: Any = None
        self._hash = hashlib.sha256()
        self._offsets: list[int] = [0]

    def add(self, ids: Ids, text_bytes: int = 0, *, mask: Mask | None = None) -> None:
        """Append one document: [tokens] ids, BOS and EOS included. See `extend`."""
        self.extend(ids, np.array([ids.size]), text_bytes, mask=mask)

    def extend(
        self, ids: Ids, lengths: Ids, text_bytes: int = 0, *, mask: Mask | None = None
    ) -> None:
        """Append documents that lie end to end.

        Args:
            ids: [tokens] integers of any type, each document with its BOS and EOS.
            lengths: [documents] tokens of each.
            text_bytes: the UTF-8 bytes of all their texts, for bits per byte later.
            mask: bool [tokens], true on each token that is trained as a label; for a masked split
                only.

        Raises InputError when an id does not fit the vocabulary: a wrapped id is a silent lie.
        """
        if lengths.size == 0:
            return
        if lengths.min() < 1:
            raise InputError(f"an empty document cannot be written to split {self.split!r}")
        ends = np.cumsum(lengths, dtype=np.int64)
        assert int(ends[-1]) == ids.size, "the lengths must add up to the ids"
        assert (mask is not None) == self.masked, "a mask belongs to a masked split"
        assert mask is None or mask.size == ids.size, "a mask has a bit for each token"
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.vocab_size:
            bad = low if low < 0 else high
            raise InputError(
                f"token id {bad} is outside the vocabulary of {self.vocab_size} (split"
                f" {self.split!r}, after document {self.n_documents}); is this the right tokenizer?"
            )
        ids = ids.astype(self.dtype, copy=False)
        begin = first = 0
        while first < lengths.size:
            # The last document is the one that fills the file.
            room = self.shard_tokens - self._offsets[-1]
            last = min(int(np.searchsorted(ends, begin + room)) + 1, lengths.size)
            end = int(ends[last - 1])
            if mask is not None:
                self._mask.add(mask[begin:end])
            self._write(ids[begin:end], ends[first:last] - begin)
            begin, first = end, last
        self.n_tokens += int(ids.size)
        self.n_documents += int(lengths.size)
        self.n_bytes += text_bytes

    def _write(self, ids: Ids, ends: NDArray[np.int64]) -> None:
        data = np.ascontiguousarray(ids).data
        path = self.folder / self._name(".bin")
        with fs.storage(path):
            if self._file is None:
                self._file = open(path, "wb")  # noqa: SIM115 (it spans calls)
            self._file.write(data)
        self._hash.update(data)
        self._offsets.extend((ends + self._offsets[-1]).tolist())
        if self._offsets[-1] >= self.shard_tokens:
            self._finish_file()

    def close(self) -> list[dict[str, Any]]:
        """Finish the last file; return the manifest's entry of each file of this split."""
        if self._file is not None:
            self._finish_file()
        return self._shards

    def summary(self) -> dict[str, Any]:
        """This split's entry of the manifest; call it after `close`."""
        return {
            "tokens": self.n_tokens,
            "documents": self.n_documents,
            "bytes": self.n_bytes,
            "shards": self._shards,
        }

    def sums(self) -> dict[str, str]:
        """The sha256 of each file, by its name; call it after `close`."""
        files = ("file", "sha256"), ("index", "index_sha256"), ("mask", "mask_sha256")
        return {s[what]: s[sha256] for s in self._shards for what, sha256 in files if what in s}

    def _name(self, suffix: str) -> str:
        return f"{self.split}-{len(self._shards):05d}{suffix}"

    def _finish_file(self) -> None:
        path = self.folder / self._name(".bin")
        with fs.storage(path):
            self._file.close()
        self._file = None
        index = np.asarray(self._offsets, dtype="<i8").tobytes()
        entry = {
            "file": path.name,
            "tokens": self._offsets[-1],
            "documents": len(self._offsets) - 1,
            "sha256": self._hash.hexdigest(),
            **self._beside("index", ".idx", index),
        }
        if self.masked:
            entry |= self._beside("mask", ".mask", self._mask.take())
        self._shards.append(entry)
        self._hash = hashlib.sha256()
        self._offsets = [0]

    def _beside(self, what: str, suffix: str, data: bytes) -> dict[str, str]:
        """Write a file beside the tokens; return its entries in the manifest."""
        path = self.folder / self._name(suffix)
        with fs.storage(path), open(path, "wb") as out:
            out.write(data)
        return {what: path.name, f"{what}_sha256": hashlib.sha256(data).hexdigest()}


class _MaskBits:
    """Bits collected eight to a byte, the first one highest (NumPy's `packbits`)."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._left: Mask = np.zeros(0, np.bool_)

    def add(self, mask: Mask) -> None:
        bits = np.concatenate([self._left, mask])
        whole = bits.size // 8 * 8
        self._bytes += np.packbits(bits[:whole]).tobytes()
        self._left = bits[whole:]

    def take(self) -> bytes:
        """All bits added since the last call, the last byte filled with 0."""
        data = bytes(self._bytes) + np.packbits(self._left).tobytes()
        self._bytes, self._left = bytearray(), np.zeros(0, np.bool_)
        return data


def write_manifest(
    folder: Path,
    writers: Mapping[str, ShardWriter],
    *,
    vocab_size: int,
    tokenizer_hash: str,
    token_bytes: NDArray[np.int32],
    facts: Mapping[str, Any],
) -> None:
    """Close the writers and write `manifest.json` and `token_bytes.npy` beside their files.

    Args:
        folder: the unpublished folder that holds the shard files.
        writers: by split name.
        token_bytes: [vocab] number of UTF-8 bytes of each token.
        facts: further entries of the manifest: the origin of the data, special ids.
    """
    splits = {}
    for name, writer in writers.items():
        writer.close()
        splits[name] = writer.summary()
    with fs.storage(folder / TOKEN_BYTES):
        np.save(folder / TOKEN_BYTES, token_bytes.astype("<i4"))
    fs.write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "dtype": "uint16" if token_dtype(vocab_size).itemsize == 2 else "uint32",
            "vocab_size": vocab_size,
            "tokenizer_hash": tokenizer_hash,
            **facts,
            "splits": splits,
        },
    )


@dataclass
class Split:
    """One split of a shards folder, as a single token space over its files.

    Offsets below are tokens from the start of the split; documents lie end to end.
    """

    name: str
    n_tokens: int
    n_documents: int
    n_bytes: int
    _arrays: list[Ids] = field(repr=False)
    _indexes: list[NDArray[np.int64]] = field(repr=False)
    _masks: list[NDArray[np.uint8]] = field(repr=False, default_factory=list)

    @property
    def masked(self) -> bool:
        """Whether only some tokens are trained."""
        return bool(self._masks)

    def __post_init__(self) -> None:
        sizes = [a.size for a in self._arrays]
        self._file_starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    def document_starts(self) -> NDArray[np.int64]:
        """[documents + 1] int64: where each document starts, and the end of the last one."""
        parts = [
            index[:-1] + start
            for index, start in zip(self._indexes, self._file_starts[:-1], strict=True)
        ]
        return np.concatenate([*parts, self._file_starts[-1:]]).astype(np.int64)

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        """[length] int64 tokens from `start`; the span may cross files.

        Raises IndexError when the span leaves the split.
        """
        out = np.empty(length, dtype=np.int64)
        one = np.array([start], dtype=np.int64)
        self.copy_into(out, np.zeros(1, np.int64), one, np.array([length], dtype=np.int64))
        return out

    def trained_at(self, tokens: NDArray[np.int64]) -> Mask:
        """bool, of the shape of `tokens` (offsets in the split): whether each is trained."""
        if not self.masked:
            return np.ones(tokens.shape, np.bool_)
        trained = np.empty(tokens.shape, np.bool_)
        file = np.searchsorted(self._file_starts, tokens, side="right") - 1
        for number, bits in enumerate(self._masks):
            here = file == number
            local = tokens[here] - self._file_starts[number]
            trained[here] = bits[local >> 3] >> (7 - (local & 7)) & 1
        return trained

    def read_mask(self, start: int, length: int) -> Mask:
        """bool [length]: which of the tokens from `start` are trained."""
        return self.trained_at(np.arange(start, start + length, dtype=np.int64))

    def copy_into(
        self,
        out_flat: NDArray[np.int64],
        out_positions: NDArray[np.int64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        """Copy many spans of the split into a flat buffer; rows are packed with it.

        Args:
            out_flat: [anything] int64, contiguous (a view of a [B, T] batch is). Span i is written
                at `out_positions[i]`; the rest does not change.
            out_positions, starts, lengths: [spans] int64. Spans may cross files.

        Raises IndexError when a span leaves the split or the buffer.
        """
        positions, starts, lengths = (
            np.asarray(a, dtype=np.int64) for a in (out_positions, starts, lengths)
        )
        ends = starts + lengths
        if starts.size == 0:
            return
        if starts.min() < 0 or lengths.min() < 0 or ends.max() > self.n_tokens:
            raise IndexError(f"a span leaves split {self.name!r} of {self.n_tokens} tokens")
        if positions.min() < 0 or (positions + lengths).max() > out_flat.size:
            raise IndexError(f"a span leaves the buffer of {out_flat.size} tokens")
        copy_spans(self._arrays, self._file_starts, out_flat, positions, starts, lengths)


@dataclass(frozen=True)
class Shards:
    """An opened shards folder."""

    folder: Path
    manifest: dict[str, Any]
    splits: dict[str, Split]
    token_bytes: NDArray[np.int32]

    def split(self, name: str) -> Split:
        """A split by name; InputError lists the names."""
        if name not in self.splits:
            there = ", ".join(self.splits)
            raise InputError(f"{self.folder} has no split {name!r}, only: {there}")
        return self.splits[name]

    @property
    def vocab_size(self) -> int:
        return int(self.manifest["vocab_size"])

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder / TOKENIZER

    @property
    def fingerprint(self) -> str:
        """sha256 over the checksums of all shard files; a resume requires the same."""
        digest = hashlib.sha256(f"{self.manifest['tokenizer_hash']}\n".encode())
        for name, entry in sorted(self.manifest["splits"].items()):
            for shard in entry["shards"]:
                sums = [shard[k] for k in ("sha256", "index_sha256", "mask_sha256") if k in shard]
                digest.update(f"{name} {' '.join(sums)}\n".encode())
        return digest.hexdigest()


def open_shards(folder: str | Path, verify: bool = True) -> Shards:
    """Open a shards folder by memory map.

    Args:
        folder: the output of `hanllama tokenize`.
        verify: also read every byte, to check each file's sha256 and that every token is inside
            the vocabulary. Sizes and indexes are always checked.

    Raises InputError when the folder is missing, CorruptError when a file is missing, truncated or
    altered, or holds a token outside the vocabulary.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"shards folder {folder} does not exist; make one with: hanllama tokenize")
    if not (folder / MANIFEST).is_file() and not any(folder.glob("*.bin")):
        raise InputError(
            f"{folder} holds no token shards; make them from a corpus with: hanllama tokenize"
        )
    for name in (fs.SUMS, MANIFEST):
        if not (folder / name).is_file():
            raise CorruptError(f"{folder} has no {name}: it is not a finished shards folder")
    manifest = fs.read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CorruptError(
            f"{folder / MANIFEST} has format {manifest.get('format')!r}, this version reads"
            f" {FORMAT}; run hanllama tokenize again"
        )
    vocab_size = int(manifest["vocab_size"])
    if verify:
        # The token files are read below, by `_check_tokens`.
        entries = [shard for split in manifest["splits"].values() for shard in split["shards"]]
        fs.verify_sums(folder, without={shard["file"] for shard in entries})
    splits = {
        name: _open_split(folder, name, entry, vocab_size, verify)
        for name, entry in manifest["splits"].items()
    }
    token_bytes = np.load(folder / TOKEN_BYTES, allow_pickle=False)
    if token_bytes.shape != (vocab_size,):
        raise CorruptError(f"{folder / TOKEN_BYTES} must have {vocab_size} entries, one per id")
    return Shards(folder, manifest, splits, token_bytes)


def _open_split(
    folder: Path, name: str, entry: dict[str, Any], vocab_size: int, verify: bool
) -> Split:
    dtype = token_dtype(vocab_size)
    arrays: list[Ids] = []
    indexes: list[NDArray[np.int64]] = []
    masks: list[NDArray[np.uint8]] = []
    for shard in entry["shards"]:
        path, index_path = folder / shard["file"], folder / shard["index"]
        _check_size(path, shard["tokens"] * dtype.itemsize)
        _check_size(index_path, (shard["documents"] + 1) * 8)
        array = np.memmap(path, dtype=dtype, mode="r")
        index = np.fromfile(index_path, dtype="<i8")
        if verify:
            _check_tokens(path, array, shard["sha256"], vocab_size)
        if index[0] != 0 or index[-1] != shard["tokens"] or (np.diff(index) <= 0).any():
            raise CorruptError(f"{index_path} is corrupt: its offsets do not rise; tokenize again")
        arrays.append(array.view(np.ndarray))  # indexing a memmap object costs more
        indexes.append(index)
        if "mask" in shard:
            _check_size(folder / shard["mask"], -(-shard["tokens"] // 8))
            bits = np.memmap(folder / shard["mask"], dtype=np.uint8, mode="r")
            masks.append(bits.view(np.ndarray))
    return Split(name, entry["tokens"], entry["documents"], entry["bytes"], arrays, indexes, masks)


def _check_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise CorruptError(f"{path.parent} is incomplete: {path.name} is missing; tokenize again")
    if path.stat().st_size != expected:
        raise CorruptError(
            f"{path} is corrupt: {path.stat().st_size} bytes instead of {expected}; restore it"
            " from another copy or run hanllama tokenize again"
        )


def _check_tokens(path: Path, array: Ids, sha256: str, vocab_size: int) -> None:
    """Check a file's tokens and its checksum in one pass."""
    digest, largest = hashlib.sha256(), 0
    step = _BLOCK_BYTES // array.itemsize
    for at in range(0, array.size, step):
        block = np.ascontiguousarray(array[at : at + step])
        digest.update(block.data)
        largest = max(largest, int(block.max()))
    if largest >= vocab_size:
        raise CorruptError(
            f"{path} holds token {largest}, outside the vocabulary of {vocab_size}; it was made"
            " with another tokenizer or altered: run hanllama tokenize again"
        )
    if digest.hexdigest() != sha256:
        raise CorruptError(
            f"{path} is corrupt: its sha256 is not the recorded one; restore it from another copy"
            " or run hanllama tokenize again"
        )
