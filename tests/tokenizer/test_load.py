"""Promises of `tokenizer/load.py`: exact round trips, whole characters, wrong folders refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hanllama.base.errors import CorruptError, InputError
from hanllama.tokenizer import hf
from hanllama.tokenizer.algorithms import _sentencepiece
from hanllama.tokenizer.load import copy_tokenizer, load_tokenizer, template_bos
from hanllama.tokenizer.train import TokenizerTrainConfig, settings_of

LINES = [
    "从前有一只小兔子，它住在森林里。",
    "小兔子说：“你好，世界！”",
    "  def add(a, b): return a + b  # 12345",
    "The quick brown fox jumps over the lazy dog.",
] * 20


def train_bytes(vocab_size: int = 420) -> bytes:
    options = TokenizerTrainConfig(inputs=("-",), output="-", vocab_size=vocab_size, threads=1)
    return _sentencepiece.train(LINES, settings_of(options), "bpe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    data = train_bytes()
    (made / "tokenizer.model").write_bytes(data)
    hf.write_files(made, hf.parse_model(data, "test"))
    return made


def test_decoding_gives_back_the_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for text in ["", " ", "  两格", "𠮷野家 ", "😀👨‍👩‍👧", "ＡＢＣ\u3000", "a\n\n b\t", "\x00\x7f"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("▁")) == " ", "the documented exception"


def test_typed_special_tokens_stay_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    for text in ("</s>", "<|im_start|>user<|im_end|>", "<pad><unk><s>"):
        ids = tokenizer.encode(text)
        assert not {0, 1, 2, 3, 4, 5} & set(ids[1:])
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode([1, 4, *tokenizer.encode("你好")[1:], 5, 2]) == "你好"


def test_a_stream_never_shows_half_a_character_and_adds_up(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    text = " 𠮷 小兔子😀 end"
    stream = tokenizer.stream()
    parts = [stream.push(i) for i in tokenizer.encode(text)] + [stream.finish()]
    assert "".join(parts) == text
    assert "" in parts and "\ufffd" not in "".join(parts)
    half = tokenizer.encode("𠮷")[:-1]
    stream = tokenizer.stream()
    shown = "".join(stream.push(i) for i in half)
    assert shown == "" and stream.finish() == "\ufffd" * 3
    space = tokenizer.encode(" a")[1]
    assert tokenizer.stream(continues=True).push(space).startswith(" ")
    with pytest.raises(InputError, match="outside the vocabulary"):
        tokenizer.stream().push(tokenizer.vocab_size)


def test_token_bytes_add_up_to_the_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    sizes = tokenizer.token_bytes()
    assert sizes.dtype == np.int32 and sizes.shape == (tokenizer.vocab_size,)
    text = LINES[0] + "𠮷😀\n" + LINES[2]
    row = tokenizer.encode_documents([text])[0]
    assert sizes[row].sum() == len(text.encode()) + 1  # the prefix is a space of its own


def test_fallback_marks_characters_the_vocabulary_lacks(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    mask = tokenizer.is_fallback()
    assert mask[tokenizer.encode("齉")].sum() == 3
    assert mask[tokenizer.encode("小兔子\n")].sum() == 0


def test_a_lone_model_file_is_opened_and_copied_with_what_transformers_needs(
    folder: Path, tmp_path: Path
) -> None:
    lone, target = tmp_path / "lone", tmp_path / "target"
    lone.mkdir()
    target.mkdir()
    shutil.copy(folder / "tokenizer.model", lone)
    assert load_tokenizer(lone).encode("你好") == load_tokenizer(folder).encode("你好")
    copy_tokenizer(lone, target)
    assert (target / "tokenizer.json").is_file()
    assert load_tokenizer(target).hash == load_tokenizer(folder).hash


def test_the_roles_beside_a_lone_model_file_are_copied(folder: Path, tmp_path: Path) -> None:
    lone, target = tmp_path / "lone", tmp_path / "target"
    lone.mkdir()
    target.mkdir()
    shutil.copy(folder / "tokenizer.model", lone)
    config = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "pad_token": "<nowhere>"}
    (lone / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    copy_tokenizer(lone, target)
    copied = load_tokenizer(target)
    assert (copied.bos_id, copied.eos_id) == (4, 5)
    assert copied.encode("你好") == load_tokenizer(lone).encode("你好")
    description = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
    assert template_bos(description) == "<|im_start|>"


def test_two_different_vocabularies_in_a_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "t")
    path = tmp_path / "t" / "tokenizer.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    vocab = value["model"]["vocab"]
    a, b = [k for k, i in vocab.items() if i in (300, 301)]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(CorruptError, match="different vocabularies"):
        load_tokenizer(tmp_path / "t")


def test_a_special_token_added_after_the_pieces_is_kept(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "t")
    path = tmp_path / "t" / "tokenizer.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    size = load_tokenizer(folder).vocab_size
    value["added_tokens"].append({**value["added_tokens"][-1], "id": size, "content": "<|tool|>"})
    path.write_text(json.dumps(value), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path / "t")
    assert tokenizer.vocab_size == size + 1
    assert size not in tokenizer.encode("<|tool|>")
    assert tokenizer.decode([size]) == ""
    assert tokenizer.hash != load_tokenizer(folder).hash


def test_the_config_decides_about_bos(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "t")
    path = tmp_path / "t" / "tokenizer_config.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**value, "add_bos_token": False}), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path / "t")
    assert not tokenizer.adds_bos and tokenizer.encode("你好")[0] != 1
    assert tokenizer.encode_documents(["你好"])[0].tolist() == [*tokenizer.encode("你好"), 2]


def test_what_is_no_tokenizer_is_refused_with_a_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_tokenizer(tmp_path / "missing")
    with pytest.raises(InputError, match="give the folder"):
        load_tokenizer(folder / "tokenizer.model")
    with pytest.raises(InputError, match="tokenizer train"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x00not a model")
    with pytest.raises(CorruptError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_an_end_token_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path)
    with pytest.raises(InputError, match="eos_token"):
        load_tokenizer(tmp_path)
