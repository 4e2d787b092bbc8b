"""Promises of `tokenizer/segments.py`: the ids of sentencepiece, whatever the tables hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import sentencepiece

from hanllama.tokenizer import hf, segments
from hanllama.tokenizer.algorithms import _sentencepiece
from hanllama.tokenizer.segments import SegmentEncoder
from hanllama.tokenizer.train import TokenizerTrainConfig, settings_of

LINES = [
    "从前有一只小兔子，它住在森林里。",
    "小兔子说：“你好，世界！”",
    "def add(a, b): # 12345",
] * 20


@pytest.fixture(scope="module")
def proto() -> Any:
    """A BPE model in which 兔 and 森 occur inside pieces and are none themselves."""
    options = TokenizerTrainConfig(inputs=("-",), output="-", vocab_size=345, threads=1)
    made = hf.parse_model(_sentencepiece.train(LINES, settings_of(options), "bpe"), "test")
    made.normalizer_spec.add_dummy_prefix = False
    names = [p.piece for p in made.pieces]
    for lost, instead in (("兔", "甲"), ("森", "乙")):
        made.pieces[names.index(lost)].piece = instead
        assert any(lost in p.piece for p in made.pieces)
    return made


def texts() -> list[str]:
    draw = random.Random(0)
    alphabet = [*set("".join(LINES)), "𠮷", "齉", "é", "\n", "\n", "\t", "\0", "▁", "▁", "兔", "森"]
    runs = [*LINES[:3], "小兔", "兔子", "森林", "add", "123", "兔兔兔兔兔"]
    found = ["", "\n", "兔", "𠮷", "兔\n兔", "\n\n", "森森森森"]
    for _ in range(400):
        parts = [draw.choice(draw.choice((alphabet, runs))) for _ in range(draw.randint(1, 30))]
        found.append("".join(parts).replace(" ", "▁"))
    return found


@pytest.mark.parametrize("slot_bits", [2, 19])  # 2: four slots, so that nearly all collide
@pytest.mark.parametrize("pair_bits", [4, 20])  # 4: most pairs are false alarms
@pytest.mark.parametrize("block", [50, 1 << 17])
def test_ids_are_those_of_sentencepiece(
    proto: Any, monkeypatch: pytest.MonkeyPatch, slot_bits: int, pair_bits: int, block: int
) -> None:
    monkeypatch.setattr(segments, "_SLOT_BITS", slot_bits)
    monkeypatch.setattr(segments, "_PAIR_BITS", pair_bits)
    monkeypatch.setattr(segments, "BLOCK", block)
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    pieces = hf.pieces_of(proto)
    assert SegmentEncoder.fits(proto, pieces)
    encoder = SegmentEncoder(
        pieces, lambda many: [np.array(processor.encode(t), dtype=np.int32) for t in many]
    )
    given = texts()
    expected = [processor.encode(t) for t in given]
    for _ in range(2):  # the table is empty, then full
        ids, counts = encoder.encode(given)
        assert counts.tolist() == [len(e) for e in expected]
        assert ids.tolist() == [i for e in expected for i in e]


def test_common_text_never_reaches_sentencepiece_again(proto: Any) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    asked: list[str] = []

    def whole(many: list[str]) -> list[Any]:
        asked.extend(many)
        return [np.array(processor.encode(t), dtype=np.int32) for t in many]

    encoder = SegmentEncoder(hf.pieces_of(proto), whole)
    text = "你好，世界！齉𠮷\n" * 3
    first = encoder.encode([text])[0].tolist()
    seen = len(asked)
    assert encoder.encode([text])[0].tolist() == first == processor.encode(text)
    segments_asked = [s for t in asked[seen:] for s in t.split("\n") if s]
    assert all(len(s) > 4 for s in segments_asked)
    assert not any("齉" in s or "𠮷" in s for t in asked for s in t.split("\n"))


def test_a_model_without_all_bytes_or_with_symbols_of_its_own_does_not_fit(proto: Any) -> None:
    for place, kind in ((-1, hf.USER_DEFINED), (-1, hf.UNUSED), (10, hf.NORMAL)):
        changed = hf.parse_model(proto.SerializeToString(), "test")
        changed.pieces[place].type = kind
        assert not SegmentEncoder.fits(changed, hf.pieces_of(changed))
