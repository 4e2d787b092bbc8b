"""Every character is a piece, rare ones are bytes: no merges, the longest sequences.

It is a baseline, and suits tasks about single characters. `vocab_size` is an upper limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.tokenizer.algorithms import Settings, _sentencepiece

BACK_ENDS = ("sentencepiece", "transformers", "llama.cpp")
REVERSIBLE = True


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    _sentencepiece.write(folder, lines, settings, "char")
