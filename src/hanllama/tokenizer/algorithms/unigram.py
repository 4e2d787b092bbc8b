"""The unigram language model: a text's most probable segmentation (Kudo 2018, by SentencePiece).

From many candidate pieces, those whose loss hurts the corpus's likelihood least are taken away
until `vocab_size` are left. A text has many segmentations with a probability each, so `hanllama
tokenizer view --sample` can draw others than the best, which some trainings use as noise.

The printable ASCII characters always have pieces: transformers' Unigram would otherwise take a
typed `<0x41>` or `<s>` for the token of that name. Scores are multiples of 1/64: SentencePiece adds
them in 32 bits and transformers in 64, and where both sums are exact, two ways of equal probability
(a piece three times, say) are equal in both, and the same one is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.tokenizer import hf
from hanllama.tokenizer.algorithms import Settings, _sentencepiece

BACK_ENDS = ("sentencepiece", "transformers")
REVERSIBLE = True

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_SCORES_IN_ONE = 64


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    """Write a unigram tokenizer."""
    required = "".join(c for c in _ASCII if c not in settings.user_symbols)
    data = _sentencepiece.train(lines, settings, "unigram", required=required)
    proto = hf.parse_model(data, "the trained model")
    for piece in proto.pieces:
        piece.score = round(piece.score * _SCORES_IN_ONE) / _SCORES_IN_ONE
    _sentencepiece.save(folder, proto)
