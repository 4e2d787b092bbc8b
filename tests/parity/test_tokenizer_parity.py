"""Our loader, sentencepiece and transformers' AutoTokenizer: equal ids on generated strings.

The strings mix Han of all planes, emoji, full width, English, code, spaces in every place,
newlines, controls and look-alikes of special tokens. What is typed stays text on every side
(`split_special_tokens=True`). `test_llama_cpp_parity.py` holds llama.cpp to the same strings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sentencepiece

from hanllama.tokenizer.fuzz import contested, strings
from hanllama.tokenizer.load import load_tokenizer

transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")


def assert_agree(folder: Path, texts: Sequence[str]) -> None:
    ours = load_tokenizer(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
    assert theirs.pad_token_id == ours.pad_id and len(theirs) == ours.vocab_size
    pieces = [ours.piece(i) for i in range(ours.vocab_size)]
    newest = pieces[-len(pieces) // 3 :]  # of an extension, all of them new
    texts = [*texts, *contested(pieces, 2000, 1), *contested(newest, 2000, 2)]
    documents = ours.encode_documents(texts)
    for text, document in zip(texts, documents, strict=True):
        ids = ours.encode(text)
        assert ids == [1, *oracle.encode(text)], repr(text)
        assert ids == theirs(text, split_special_tokens=True).input_ids, repr(text)
        assert document.tolist() == [*ids, 2], repr(text)
        decoded = ours.decode(ids)
        assert decoded == text.replace("▁", " "), repr(text)
        assert decoded == theirs.decode(ids, skip_special_tokens=True), repr(text)


def test_a_trained_tokenizer(trained: Path, texts: list[str]) -> None:
    assert_agree(trained, texts)


def test_an_extended_tokenizer(extended: Path, texts: list[str]) -> None:
    assert_agree(extended, texts)


@pytest.mark.parametrize("name", ["llama2", "chatglm3"])
def test_published_tokenizers(
    name: str, published: Callable[[str], Path], texts: list[str]
) -> None:
    assert_agree(published(name), texts)


@pytest.mark.slow
def test_llama_2_with_chinese_pieces(
    chinese_llama: Callable[[str], Path], many_strings: list[str]
) -> None:
    folder = chinese_llama("safe")
    assert load_tokenizer(folder).vocab_size == 49_953
    assert_agree(folder, many_strings)


def test_a_byte_level_tokenizer_json(shared_data: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shared_data / "tokenizers" / f"minimind_{name}", tmp_path / name)
    ours = load_tokenizer(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in strings(1000, seed=3):
        ids = ours.encode(text)
        assert ids == theirs(text, split_special_tokens=True).input_ids, repr(text)
        assert ours.decode(ids) == text
