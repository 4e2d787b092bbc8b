"""Our loader, sentencepiece and transformers' AutoTokenizer: equal ids on generated strings.

The strings mix Han of all planes, emoji, full width, English, code, spaces in every place,
newlines, controls and look-alikes of special tokens. What is typed stays text on every side
(`split_special_tokens=True`).
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import sentencepiece

from hanllama import cli
from hanllama.tokenizer.fuzz import PARTS, strings
from hanllama.tokenizer.load import copy_tokenizer, load_tokenizer

transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")


def assert_agree(folder: Path, count: int) -> None:
    ours = load_tokenizer(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
    assert theirs.pad_token_id == ours.pad_id and len(theirs) == ours.vocab_size
    texts = strings(count, seed=len(folder.name))
    documents = ours.encode_documents(texts)
    for text, document in zip(texts, documents, strict=True):
        ids = ours.encode(text)
        assert ids == [1, *oracle.encode(text)], repr(text)
        assert ids == theirs(text, split_special_tokens=True).input_ids, repr(text)
        assert document.tolist() == [*ids, 2], repr(text)
        decoded = ours.decode(ids)
        assert decoded == text.replace("▁", " "), repr(text)
        assert decoded == theirs.decode(ids, skip_special_tokens=True), repr(text)


def test_a_trained_tokenizer(tmp_path: Path) -> None:
    draw = random.Random(0)
    lines = [json.dumps({"text": "".join(draw.choices(PARTS, k=8))}) for _ in range(2000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["tokenizer", "train", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "t")]
    assert cli.main([*words, "--vocab-size", "900"]) == 0
    assert_agree(tmp_path / "t", 3000)


@pytest.mark.parametrize("name", ["llama2", "chatglm3"])
def test_published_tokenizers(name: str, shared_data: Path, tmp_path: Path) -> None:
    lone, folder = tmp_path / "lone", tmp_path / name
    lone.mkdir()
    folder.mkdir()
    shutil.copy(shared_data / "tokenizers" / f"{name}_tokenizer.model", lone / "tokenizer.model")
    copy_tokenizer(lone, folder)
    assert_agree(folder, 2000)


def test_a_byte_level_tokenizer_json(shared_data: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shared_data / "tokenizers" / f"minimind_{name}", tmp_path / name)
    ours = load_tokenizer(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in strings(1000, seed=3):
        ids = ours.encode(text)
        assert ids == theirs(text, split_special_tokens=True).input_ids, repr(text)
        assert ours.decode(ids) == text
