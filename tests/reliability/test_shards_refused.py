"""Promise 15: a truncated, altered or over-vocabulary shard is refused before step 0."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hanllama import cli
from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.batches.shards import ShardWriter, open_shards


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shards folder made by the real commands."""
    base = tmp_path_factory.mktemp("shards")
    for book in range(6):
        lines = [f"第{i}天，小兔子去{'东西南北上下'[book]}边找蘑菇{i * book}。" for i in range(80)]
        (base / f"{book}.txt").write_text("\n".join(lines), encoding="utf-8")
    books, tokenizer, out = f"{base}/*.txt", str(base / "t"), str(base / "shards")
    words = ["tokenizer", "train", books, "--output", tokenizer, "--vocab-size", "310"]
    assert cli.main(words) == 0
    words = ["tokenize", books, "--tokenizer", tokenizer, "--output", out, "--holdout", "0.1"]
    assert cli.main(words) == 0
    return base / "shards"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "shards"
    shutil.copytree(made, copy)
    open_shards(copy)
    return copy


def resign(folder: Path, name: str) -> None:
    """Make every checksum agree with an altered shard, as a careless tool would."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest["splits"].values():
        for shard in entry["shards"]:
            if shard["file"] == name:
                shard["sha256"] = fs.sha256(folder / name)
    fs.write_json(folder / "manifest.json", manifest)
    fs.write_sums(folder)


@pytest.mark.parametrize("name", ["train-00000.bin", "heldout-00000.bin", "train-00000.idx"])
@pytest.mark.parametrize("verify", [True, False])
def test_shards_truncated(folder: Path, name: str, verify: bool) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-2])
    with pytest.raises(CorruptError, match=name):
        open_shards(folder, verify=verify)


@pytest.mark.parametrize(
    "name",
    [
        "train-00000.bin",
        "heldout-00000.bin",
        "heldout-00000.idx",
        "token_bytes.npy",
        "manifest.json",
        "tokenizer/tokenizer.model",
        "tokenizer/tokenizer.json",
    ],
)
def test_shards_one_flipped_bit(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CorruptError, match=r"corrupt|valid JSON"):
        open_shards(folder)


def test_shards_over_vocabulary_though_every_checksum_agrees(folder: Path) -> None:
    name = "train-00000.bin"
    tokens = np.fromfile(folder / name, dtype="<u2")
    tokens[tokens.size // 3] = 310
    tokens.tofile(folder / name)
    resign(folder, name)
    with pytest.raises(CorruptError, match="token 310, outside the vocabulary of 310"):
        open_shards(folder)
    tokens[tokens.size // 3] = 309
    tokens.tofile(folder / name)
    resign(folder, name)
    assert open_shards(folder).split("train").n_tokens == tokens.size


@pytest.mark.parametrize(
    "name", ["SHA256SUMS", "manifest.json", "train-00000.bin", "heldout-00000.idx"]
)
def test_shards_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises((CorruptError, InputError), match=name):
        open_shards(folder)


def test_shards_never_wrap_an_id(tmp_path: Path) -> None:
    for vocab, bad in ((65_536, 65_536), (65_536, 65_537), (300, 300), (70_000, 70_000), (300, -1)):
        writer = ShardWriter(tmp_path, "train", vocab)
        with pytest.raises(InputError, match=f"token id {bad} is outside"):
            writer.add(np.array([5, bad], dtype=np.int64))
        assert writer.n_tokens == 0 and writer.close() == []


def test_shards_index_that_falls_is_refused(folder: Path) -> None:
    path = folder / "train-00000.idx"
    offsets = np.fromfile(path, dtype="<i8")
    offsets[1], offsets[2] = offsets[2], offsets[1]
    offsets.tofile(path)
    with pytest.raises(CorruptError, match="idx"):
        open_shards(folder, verify=False)


def test_shards_checksum_is_the_one_of_the_file(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest["splits"].values():
        for shard in entry["shards"]:
            data = (made / shard["file"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == shard["sha256"]
