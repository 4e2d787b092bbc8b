"""The unigram language model: a text's most probable segmentation (Kudo 2018, by SentencePiece).

It starts from many candidate pieces and removes the ones that the corpus's likelihood needs least,
until `vocab_size` are left. A text has many segmentations, each with a probability, so `hanllama
tokenizer view --sample` can draw others than the best; some trainings use them as noise.

Printable ASCII characters always have pieces: transformers' Unigram would otherwise take a typed
`<0x41>` or `<s>` for the token of that name. Scores are multiples of 1/64: SentencePiece adds them
in 32 bits and transformers in 64. Sums of such scores are exact in both, so both find the same
segmentations equally probable (one piece three times, say) and choose the same one.
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
    required = "".join(c for c in _ASCII if c not in settings.user_symbols)
    data = _sentencepiece.train(lines, settings, "unigram", required=required)
    proto = hf.parse_model(data, "the trained model")
    for piece in proto.pieces:
        piece.score = round(piece.score * _SCORES_IN_ONE) / _SCORES_IN_ONE
    _sentencepiece.save(folder, proto)
