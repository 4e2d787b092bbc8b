"""llama.cpp and sentencepiece: equal ids, and every text comes back.

The strings and vocabularies are those of `test_tokenizer_parity.py`, where sentencepiece, our
loader and transformers are held to each other: together all four agree. llama.cpp is asked with
special tokens taken as text (`parse_special` false), which is `split_special_tokens=True`.

llama.cpp takes any Unicode text, NUL characters and the empty string included. What is no text (a
lone surrogate, malformed UTF-8) its server refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import sentencepiece

import gguf_vocab
import tiny
from hanllama import cli
from hanllama.tokenizer import hf
from hanllama.tokenizer.fuzz import PARTS
from hanllama.tokenizer.load import load_tokenizer

pytest.importorskip("xllamacpp", reason="llama.cpp's wheel is a dev extra")
pytest.importorskip("gguf", reason="llama.cpp's file format is a dev extra")


@contextmanager
def llama_cpp(folder: Path, beside: Path) -> Iterator[gguf_vocab.LlamaCpp]:
    server = gguf_vocab.LlamaCpp(gguf_vocab.write(folder, beside / "vocabulary.gguf"))
    try:
        yield server
    finally:
        server.close()


def differing(folder: Path, beside: Path, texts: Sequence[str]) -> list[str]:
    """The texts to which llama.cpp gives other ids than sentencepiece; the rest comes back."""
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    found = []
    with llama_cpp(folder, beside) as server:
        for text in texts:
            ids = server.tokenize(text)
            if ids != oracle.encode(text):
                found.append(text)
                continue
            # The space that the model puts before every text is still there.
            expected = " " + text.replace(hf.SPACE, " ") if text else ""
            assert server.detokenize(ids) == expected, repr(text)
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
    corpus.write_text("\n".join(PARTS) + tiny.text(1, 200), encoding="utf-8")
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
    with llama_cpp(trained, tmp_path) as server:
        for chat in chats:
            ids = server.tokenize(chat, parse_special=True)
            assert ids == theirs(chat, add_special_tokens=False).input_ids, chat


def test_what_is_no_text_is_refused(trained: Path, tmp_path: Path) -> None:
    with llama_cpp(trained, tmp_path) as server:
        with pytest.raises(gguf_vocab.Refused, match="surrogate"):
            server.tokenize("你好\ud840")
        assert server.tokenize("你好\x00世界") == load_tokenizer(trained).encode("你好\x00世界")[1:]


def test_user_symbols_divide_the_back_ends(many_strings: list[str], tmp_path: Path) -> None:
    """llama.cpp and transformers cut at each symbol and put the prefix space before every part.

    So a symbol that begins a text loses its space. sentencepiece, and we with it, put one space
    before the text, whatever it begins with. All texts without a symbol agree.
    """
    transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")
    corpus = tmp_path / "a.txt"
    corpus.write_text("\n".join(PARTS * 20) + tiny.text(1, 200), encoding="utf-8")
    folder, symbol = tmp_path / "tok", "世界"
    words = ["tokenizer", "train", str(corpus), "--output", str(folder)]
    assert cli.main([*words, "--vocab-size", "560", "--user-symbols", symbol]) == 0
    texts = many_strings[:2000]
    found = differing(folder, tmp_path, texts)
    assert all(symbol in text for text in found)
    assert len(found) > 0.8 * sum(symbol in text for text in texts) > 0
    ours = load_tokenizer(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    with llama_cpp(folder, tmp_path) as server:
        for text in found:
            assert ours.encode(text) == [1, *oracle.encode(text)], text
            by_transformers = theirs(text, split_special_tokens=True).input_ids
            assert by_transformers == [1, *server.tokenize(text)], text


def test_a_piece_that_begins_like_a_special_token_makes_it_typable_in_llama_cpp(
    many_strings: list[str], tmp_path: Path
) -> None:
    """llama.cpp merges into any token of the vocabulary, sentencepiece only into pieces of text.

    Training makes no such piece (none crosses from signs to letters); an extension may.
    """
    pieces = tmp_path / "pieces.jsonl"
    pieces.write_text("".join(json.dumps({"piece": p}) + "\n" for p in ("<", "s", ">", "<s")))
    words = ["tokenizer", "extend", str(tiny.tokenizer(tmp_path / "base")), "--pieces", str(pieces)]
    assert cli.main([*words, "--output", str(tmp_path / "tok")]) == 0
    texts = many_strings[:1000]
    found = differing(tmp_path / "tok", tmp_path, texts)
    assert found == [text for text in texts if "<s>" in text]
    ours = load_tokenizer(tmp_path / "tok")
    assert ours.bos_id not in ours.encode_raw(["<s>"])[0]
    with llama_cpp(tmp_path / "tok", tmp_path) as server:
        assert ours.bos_id in server.tokenize("<s>")
