"""Byte pair encoding over characters, with bytes for what is rare (the default).

From single characters, the most frequent pair of neighbours becomes a piece, again and again
(Sennrich et al. 2016, by SentencePiece). With `char`, the one whose folder transformers,
sentencepiece and llama.cpp read alike for every string, hence what Llama itself uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.tokenizer.algorithms import Settings, _sentencepiece

BACK_ENDS = ("sentencepiece", "transformers", "llama.cpp")
REVERSIBLE = True


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    """Write a BPE tokenizer."""
    _sentencepiece.write(folder, lines, settings, "bpe")
