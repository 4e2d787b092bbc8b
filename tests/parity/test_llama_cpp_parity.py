"""llama.cpp and sentencepiece: equal ids, and every text comes back.

The strings and vocabularies are those of `test_tokenizer_parity.py`, where sentencepiece, our
loader and transformers are held to each other: together all four agree. llama.cpp is asked with
special tokens taken as text (`parse_special` false), which is `split_special_tokens=True`.

llama.cpp takes any Unicode text, NUL characters and the empty string included. What is no text (a
lone surrogate, malformed UTF-8) its server refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sentencepiece

from builders import folders, llama_server
from hanllama import cli
from hanllama.tokenizer import hf
from hanllama.tokenizer.fuzz import PARTS
from hanllama.tokenizer.load import load_tokenizer

pytest.importorskip("xllamacpp", reason="llama.cpp's wheel is a dev extra")
pytest.importorskip("gguf", reason="llama.cpp's file format is a dev extra")


def llama_cpp(folder: Path, beside: Path) -> llama_server.LlamaCpp:
    return llama_server.LlamaCpp(llama_server.write(folder, beside / "vocabulary.gguf"))


def differing(folder: Path, beside: Path, texts: Sequence[str]) -> list[str]:
    """The texts to which llama.cpp gives other ids than sentencepiece; the rest comes back."""
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    found = []
    server = llama_cpp(folder, beside)
    prefix = " " if oracle.encode("a", out_type=str)[0].startswith(hf.SPACE) else ""
    for text in texts:
        ids = server.tokenize(text)
        if ids != oracle.encode(text):
            found.append(text)
            continue
        # The space that the model puts before every text is still there.
        expected = prefix + text.replace(hf.SPACE, " ") if text else ""
        assert server.ask("/detokenize", {"tokens": ids})["content"] == expected, repr(text)
    return found


def test_a_trained_tokenizer(trained: Path, texts: list[str], tmp_path: Path) -> None:
    assert differing(trained, tmp_path, texts) == []


def test_an_extended_tokenizer(extended: Path, texts: list[str], tmp_path: Path) -> None:
    assert differing(extended, tmp_path, texts) == []


@pytest.mark.parametrize("name", ["llama2", "chatglm3"])
def test_published_tokenizers(
    name: str, published: Callable[[str], Path], texts: list[str], tmp_path: Path
) -> None:
    assert differing(published(name), tmp_path, texts) == []


def test_a_character_vocabulary(many_strings: list[str], tmp_path: Path) -> None:
    corpus = tmp_path / "a.txt"
    corpus.write_text("\n".join(PARTS) + folders.text(1, 200), encoding="utf-8")
    words = ["tokenizer", "train", str(corpus), "--output", str(tmp_path / "tok")]
    assert cli.main([*words, "--vocab-size", "600", "--algorithm", "char"]) == 0
    assert differing(tmp_path / "tok", tmp_path, many_strings[:2000]) == []


@pytest.mark.slow
@pytest.mark.parametrize("scores", ["safe", "zero"])
def test_llama_2_with_chinese_pieces(
    scores: str, chinese_llama: Callable[[str], Path], many_strings: list[str], tmp_path: Path
) -> None:
    """With scores 0 as well: there it is transformers that cannot follow."""
    assert differing(chinese_llama(scores), tmp_path, many_strings) == []


def test_a_rendered_chat_has_the_ids_of_transformers(trained: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")
    theirs = transformers.AutoTokenizer.from_pretrained(trained)
    chats = [
        "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n世界，𠮷野家<|im_end|>",
        "<s>  two spaces</s>世界 <pad>",
        "<|im_end|><|im_start|>",
    ]
    server = llama_cpp(trained, tmp_path)
    for chat in chats:
        ids = server.tokenize(chat, parse_special=True)
        assert ids == theirs(chat, add_special_tokens=False).input_ids, chat


def test_what_is_no_text_is_refused(trained: Path, tmp_path: Path) -> None:
    server = llama_cpp(trained, tmp_path)
    with pytest.raises(llama_server.Refused, match="surrogate"):
        server.tokenize("你好\ud840")
    assert server.tokenize("你好\x00世界") == load_tokenizer(trained).encode("你好\x00世界")[1:]


@pytest.mark.parametrize("algorithm", ["bpe", "char", "unigram"])
def test_user_symbols_divide_no_back_ends(
    algorithm: str, many_strings: list[str], tmp_path: Path
) -> None:
    """Symbols inside others, and beside their own characters; llama.cpp reads no unigram."""
    transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")
    corpus = tmp_path / "a.txt"
    corpus.write_text("\n".join(PARTS * 20) + folders.text(1, 200), encoding="utf-8")
    folder, symbols = tmp_path / "tok", ["世界", "界", "世界大", "。", "e", "<|tool|>", "\n"]
    words = ["tokenizer", "train", str(corpus), "--output", str(folder), "--vocab-size", "560"]
    assert cli.main([*words, "--algorithm", algorithm, "--user-symbols", *symbols]) == 0
    texts = many_strings[:2000]
    if algorithm != "unigram":
        assert differing(folder, tmp_path, texts) == []
    ours = load_tokenizer(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in texts:
        ids = ours.encode(text)
        assert ids == [1, *oracle.encode(text)], text
        assert ids == theirs(text, split_special_tokens=True).input_ids, text
        assert ours.decode(ids) == text.replace(hf.SPACE, " "), text


def test_a_piece_that_begins_like_a_special_token_makes_it_typable_in_llama_cpp(
    many_strings: list[str], tmp_path: Path
) -> None:
    """llama.cpp merges into any token of the vocabulary, sentencepiece only into pieces of text.

    Training makes no such piece (none crosses from signs to letters); an extension may.
    """
    pieces = tmp_path / "pieces.jsonl"
    pieces.write_text("".join(json.dumps({"piece": p}) + "\n" for p in ("<", "s", ">", "<s")))
    words = [
        "tokenizer",
        "extend",
        str(folders.tokenizer(tmp_path / "base")),
        "--pieces",
        str(pieces),
    ]
    assert cli.main([*words, "--output", str(tmp_path / "tok")]) == 0
    texts = many_strings[:1000]
    found = differing(tmp_path / "tok", tmp_path, texts)
    assert found == [text for text in texts if "<s>" in text]
    ours = load_tokenizer(tmp_path / "tok")
    assert ours.bos_id not in ours.encode_raw(["<s>"])[0]
    assert ours.bos_id in llama_cpp(tmp_path / "tok", tmp_path).tokenize("<s>")
