"""Promise 18, chat: what is said comes back, typed special tokens stay text, one BOS, exact mask.

The oracle for messages with look-alikes is put together by hand: the template's own tokens as ids,
and every stretch between them by AutoTokenizer with `split_special_tokens=True`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from builders import folders
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.fuzz import strings
from hanllama.tokenizer.load import load_tokenizer

transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")


def test_chat_ids_and_mask_with_typed_special_tokens(tmp_path: Path) -> None:
    folder = folders.tokenizer(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    template = ChatTemplate(tokenizer, "chatml")
    start, end = (tokenizer.special_tokens[t] for t in ("<|im_start|>", "<|im_end|>"))

    def plain(text: str) -> list[int]:
        ids: list[int] = theirs(text, split_special_tokens=True, add_special_tokens=False).input_ids
        return ids

    draw = random.Random(18)
    texts = strings(1500, seed=18)
    for _ in range(500):
        question, answer = draw.choice(texts), draw.choice(texts)
        ids = [tokenizer.bos_id, start, *plain(f"user\n{question}"), end, *plain("\n")]
        ids += [start]
        said = plain(f"assistant\n{answer}")
        header = plain("assistant\n")
        shared = next(
            (i for i, (a, b) in enumerate(zip(header, said, strict=False)) if a != b), len(header)
        )
        mask = [False] * (len(ids) + shared) + [True] * (len(said) - shared + 1)
        ids += [*said, end, *plain("\n")]
        mask += [False] * (len(ids) - len(mask))
        talk = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        encoded = template.encode(talk)
        assert encoded.ids.tolist() == ids, (question, answer)
        assert encoded.mask.tolist() == mask, (question, answer)
        assert encoded.ids.tolist().count(tokenizer.bos_id) == 1


def test_chat_says_what_was_written(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folders.tokenizer(tmp_path / "tokenizer"))
    template = ChatTemplate(tokenizer, "chatml")
    words = [
        "汉字与漢字",
        "𠮷野家𬺰",
        "👨\u200d👩\u200d👧🇨🇳",
        "ＡＢＣ１２，．",
        "  前后 空格  ",
        "</s><pad>",
    ]
    for word in words:
        talk = [{"role": "user", "content": "说"}, {"role": "assistant", "content": word}]
        encoded = template.encode(talk)
        stream = tokenizer.stream(continues=True)
        said = "".join(stream.push(int(i)) for i in encoded.ids[encoded.mask])
        assert said + stream.finish() == word
