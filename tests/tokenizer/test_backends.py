"""Promises of `tokenizer/backends.py`: both give the same ids, however long the text."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import pytest
import sentencepiece

from builders import folders
from hanllama.base.errors import InputError
from hanllama.tokenizer import backends, hf
from hanllama.tokenizer.backends import SentencePieceBackend, newline_stands_alone
from hanllama.tokenizer.load import load_tokenizer
from hanllama.tokenizer.segments import SegmentEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.tokenizer(tmp_path_factory.mktemp("backends") / "tokenizer")


def document(seed: int, lines: int) -> str:
    """Text with every hazard of cutting: blank lines, spaces at both ends, rare characters."""
    draw = random.Random(seed)
    ends = ["", " ", "\t", "𠮷😀", "小兔子 " * 5, "▁", "\r", "\u2028", "\x00"]
    parts = [*folders.text(seed, 4).split("\n"), "  def add(a): # 12345", *ends]
    return "\n".join("".join(draw.choices(parts, k=draw.randint(0, 4))) for _ in range(lines))


@pytest.mark.parametrize("segments", [True, False])
def test_a_long_text_cut_at_newlines_has_the_ids_of_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, segments: bool
) -> None:
    if segments:
        monkeypatch.setattr(backends, "BLOCK", 1000)
    else:
        monkeypatch.setattr(SegmentEncoder, "fits", lambda *model: False)
    whole = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    tokenizer = load_tokenizer(folder)
    texts = [document(seed, lines) for seed in range(40) for lines in (1, 3, 200)]
    assert max(map(len, texts)) > 3 * backends._CHUNK, "no text is long enough to be cut"
    for text, row in zip(texts, tokenizer.encode_documents(texts), strict=True):
        assert row.tolist() == [1, *whole.encode(text), 2]
        assert tokenizer.encode(text) == [1, *whole.encode(text)]


def test_a_model_whose_pieces_cross_newlines_is_encoded_whole(folder: Path) -> None:
    proto = hf.parse_model((folder / "tokenizer.model").read_bytes(), "test")
    assert newline_stands_alone(proto, hf.pieces_of(proto))
    piece = proto.pieces.add()
    piece.piece, piece.score, piece.type = "\n小", -1.0, hf.NORMAL
    assert not newline_stands_alone(proto, hf.pieces_of(proto))
    data = proto.SerializeToString()
    backend = SentencePieceBackend(proto, data, hf.pieces_of(proto))
    whole = sentencepiece.SentencePieceProcessor(model_proto=data)
    text = ("小兔子\n小兔子说" * 5 + "\n") * 60
    assert backend.encode_flat([text])[0].tolist() == whole.encode(text)


def test_both_back_ends_agree(folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / name)
    one, other = load_tokenizer(folder), load_tokenizer(tmp_path)
    assert (one.vocab_size, one.bos_id, one.eos_id, one.pad_id, one.adds_bos) == (
        other.vocab_size,
        other.bos_id,
        other.eos_id,
        other.pad_id,
        other.adds_bos,
    )
    for seed in range(100):
        text = document(seed, 3)
        ids = one.encode(text)
        assert other.encode(text) == ids
        assert other.decode(ids) == one.decode(ids)
    assert (one.token_bytes() == other.token_bytes()).all()
    assert (one.is_fallback() == other.is_fallback()).all()


def test_half_a_surrogate_pair_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(InputError, match="surrogate"):
        load_tokenizer(folder).encode("你好\ud800")


def test_a_unigram_model_with_normalization_is_opened_as_it_is(tmp_path: Path) -> None:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(folders.text(0, 200).split("\n")),
        model_writer=out,
        vocab_size=100,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(out.getvalue())
    whole = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    tokenizer = load_tokenizer(tmp_path)
    for text in (" ＡＢＣ  小兔子\n\n你好 ", "", "fox"):
        assert tokenizer.encode(text)[1:] == whole.encode(text)
