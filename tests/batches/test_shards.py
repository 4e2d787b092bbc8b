"""Promises of `batches/shards.py`: what was written is what is read, by any span, across files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.batches.shards import ShardWriter, open_shards, token_dtype, write_manifest

VOCAB = 30_000


def make(folder: Path, documents: list[np.ndarray], vocab: int = VOCAB, shard: int = 1000) -> Path:
    with fs.publish(folder) as made:
        writer = ShardWriter(made, "train", vocab, shard_tokens=shard)
        for ids in documents:
            writer.add(ids, text_bytes=3 * ids.size)
        write_manifest(
            made,
            {"train": writer},
            vocab_size=vocab,
            tokenizer_hash="0",
            token_bytes=np.full(vocab, 3, dtype=np.int32),
            facts={},
        )
    return folder


def documents(count: int, seed: int = 0, longest: int = 400) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, VOCAB, draw.integers(1, longest)) for _ in range(count)]


def test_documents_come_back_across_files(tmp_path: Path) -> None:
    written = documents(100)
    split = open_shards(make(tmp_path / "s", written)).split("train")
    assert len(list((tmp_path / "s").glob("*.bin"))) > 5
    assert split.n_documents == 100
    assert split.n_tokens == sum(d.size for d in written)
    assert split.n_bytes == 3 * split.n_tokens
    starts = split.document_starts()
    assert starts.shape == (101,) and starts.dtype == np.int64
    for i, document in enumerate(written):
        read = split.read(int(starts[i]), int(starts[i + 1] - starts[i]))
        assert read.dtype == np.int64 and (read == document).all()
    assert (split.read(0, split.n_tokens) == np.concatenate(written)).all()


@pytest.mark.parametrize(("mean", "spans"), [(3, 4000), (40, 3000), (900, 50), (5, 7)])
def test_copying_many_spans_equals_reading_each(tmp_path: Path, mean: int, spans: int) -> None:
    split = open_shards(make(tmp_path / "s", documents(400), shard=9000)).split("train")
    everything = split.read(0, split.n_tokens)
    draw = np.random.default_rng(mean)
    lengths = draw.integers(0, 2 * mean, spans)  # empty spans among them
    starts = draw.integers(0, split.n_tokens - lengths + 1)
    for gap in (0, 2):
        positions = np.cumsum(lengths) - lengths + gap * np.arange(spans)
        out = np.full(int(lengths.sum()) + gap * spans, -1, dtype=np.int64)
        expected = out.copy()
        split.copy_into(out, positions, starts, lengths)
        for at, start, length in zip(positions, starts, lengths, strict=True):
            expected[at : at + length] = everything[start : start + length]
        assert (out == expected).all()


def test_a_span_outside_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    split = open_shards(make(tmp_path / "s", documents(5))).split("train")
    out = np.zeros(10, dtype=np.int64)
    for position, start, length in [(0, -1, 3), (0, split.n_tokens - 2, 3), (8, 0, 3), (-1, 0, 3)]:
        with pytest.raises(IndexError):
            split.copy_into(out, np.array([position]), np.array([start]), np.array([length]))
    assert not out.any()


def test_sixteen_bits_up_to_65536_ids_and_no_further(tmp_path: Path) -> None:
    assert token_dtype(65_536).itemsize == 2 and token_dtype(65_537).itemsize == 4
    for vocab in (65_536, 70_000):
        highest = np.array([0, vocab - 1])
        split = open_shards(make(tmp_path / str(vocab), [highest], vocab)).split("train")
        assert split.read(0, 2).tolist() == [0, vocab - 1]


def test_extending_by_many_documents_writes_the_same_files(tmp_path: Path) -> None:
    written = documents(60)
    make(tmp_path / "one", written)
    with fs.publish(tmp_path / "many") as made:
        writer = ShardWriter(made, "train", VOCAB, shard_tokens=1000)
        sizes = np.array([d.size for d in written])
        writer.extend(np.concatenate(written), sizes, text_bytes=3 * int(sizes.sum()))
        ones = np.full(VOCAB, 3, dtype=np.int32)
        write_manifest(
            made,
            {"train": writer},
            vocab_size=VOCAB,
            tokenizer_hash="0",
            token_bytes=ones,
            facts={},
        )
    sums = [(tmp_path / name / "SHA256SUMS").read_bytes() for name in ("one", "many")]
    assert sums[0] == sums[1]


def test_a_missing_split_names_what_there_is(tmp_path: Path) -> None:
    shards = open_shards(make(tmp_path / "s", documents(3)))
    with pytest.raises(InputError, match=r"no split .*only: train"):
        shards.split("heldout")


def test_the_fingerprint_follows_the_tokens(tmp_path: Path) -> None:
    written = documents(5)
    first = open_shards(make(tmp_path / "a", written)).fingerprint
    assert open_shards(make(tmp_path / "b", written)).fingerprint == first
    written[3][0] ^= 1
    assert open_shards(make(tmp_path / "c", written)).fingerprint != first


@pytest.mark.slow
def test_packing_rows_is_fed_fifty_million_tokens_a_second(tmp_path: Path) -> None:
    split = open_shards(make(tmp_path / "s", documents(30_000), shard=2**28)).split("train")
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 400, 4000)
    starts = draw.integers(0, split.n_tokens - lengths)
    positions = np.cumsum(lengths) - lengths
    out = np.zeros(int(lengths.sum()), dtype=np.int64)
    seconds = []
    for _ in range(7):
        began = time.process_time()
        split.copy_into(out, positions, starts, lengths)
        seconds.append(time.process_time() - began)
    assert out.size / min(seconds) > 50e6


@pytest.mark.parametrize("shard_tokens", [7, 1 << 20])
def test_a_mask_comes_back_bit_for_bit_across_files(tmp_path: Path, shard_tokens: int) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 12, 40)
    ids, mask = rng.integers(0, 50, lengths.sum()), rng.random(lengths.sum()) < 0.4
    folder = tmp_path / "masked"
    with fs.publish(folder) as beside:
        writer = ShardWriter(beside, "train", 50, shard_tokens, masked=True)
        half = int(lengths[:9].sum())
        writer.extend(ids[:half], lengths[:9], mask=mask[:half])
        writer.extend(ids[half:], lengths[9:], mask=mask[half:])
        write_manifest(
            beside,
            {"train": writer},
            vocab_size=50,
            tokenizer_hash="t",
            token_bytes=np.ones(50, np.int32),
            facts={},
        )
    split = open_shards(folder).split("train")
    assert split.masked
    assert (split.read_mask(0, mask.size) == mask).all()
    assert (split.read_mask(13, 40) == mask[13:53]).all()
    assert (split.read(0, ids.size) == ids).all()

    path = next(folder.glob("*.mask"))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(CorruptError, match="mask"):
        open_shards(folder)
