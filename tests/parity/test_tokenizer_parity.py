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
from hanllama.tokenizer.load import copy_tokenizer, load_tokenizer

transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")

PARTS = [
    *["你好", "世界", "小兔子", "森林", "的的的", "，", "。", "“", "”！", "——", "……", "　　"],
    *["𠮷野家", "𪜀", "𫝀", "𬺰", "𰀀", "鿿", "㐀", "龜", "体", "ﾊﾝｶｸ", "ＡＢＣ１２", "Ⅷ", "㍿"],
    *["😀", "👨‍👩‍👧", "🇨🇳", "❤️", "e\u0301", "é", "ﷺ", "ไทย", "한국", "اب"],
    *["hello", " world", "The", "def f(x):\n    return x", "a", "aa", "aaa", "1234", "3.14"],
    *[" ", "  ", "   ", "        ", "\n", "\n\n", "\t", "\r\n", "\u2028", "\u00a0", "\u200b"],
    *["\x00", "\x07", "\x7f", "\ufeff", "\ufffd", "▁", "▁▁", " ▁", "<", ">", "|", "<0x41>"],
    *["<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\n"],
]


def strings(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    found = ["", *PARTS, *(f" {p}" for p in PARTS), *(f"{p} " for p in PARTS)]
    found += [" " * n for n in range(1, 40)] + ["a" + " " * n + "b" for n in range(20)]
    for _ in range(count):
        found.append("".join(draw.choices(PARTS, k=draw.randint(1, 15))))
    for _ in range(count // 4):
        planes = [(0x20, 0x250), (0x4E00, 0x9FFF), (0x3000, 0x30FF), (0x20000, 0x2A6DF)]
        planes += [(0x1F300, 0x1FAFF), (0x0, 0x1F)]
        found.append("".join(chr(draw.randint(*draw.choice(planes))) for _ in range(12)))
    return found


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
