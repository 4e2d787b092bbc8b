"""Byte pair encoding over characters, with bytes for rare characters (the default).

It starts from single characters and turns the most frequent pair of neighbours into a piece, again
and again (Sennrich et al. 2016, by SentencePiece). Llama uses it: for `bpe` and `char` alone,
transformers, sentencepiece and llama.cpp give the same ids for every string.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.tokenizer.algorithms import Settings, _sentencepiece

BACK_ENDS = ("sentencepiece", "transformers", "llama.cpp")
REVERSIBLE = True


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    _sentencepiece.write(folder, lines, settings, "bpe")
