"""Whole words, as spaces part them, the rare ones in bytes.

Of use only where the text was segmented before (Chinese has no spaces): there every word of the
segmenter is one token. Only sentencepiece and our loader read it. What is longer than 30 characters
is no word and is not trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.base import fs
from hanllama.base.errors import ConfigError
from hanllama.tokenizer.algorithms import Settings, _sentencepiece

BACK_ENDS = ("sentencepiece",)
REVERSIBLE = True


LONGEST = 30


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    """Write a word tokenizer: `tokenizer.model` alone."""
    parted = (" ".join(w for w in line.split(" ") if len(w) <= LONGEST) for line in lines)
    words = [line for line in parted if line.strip()]
    if not words:
        raise ConfigError(
            f"the algorithm `word` found no word: nothing of at most {LONGEST} characters stands"
            " between spaces; segment the text first, or take bpe"
        )
    data = _sentencepiece.train(words, settings, "word", dummy_prefix=False)
    fs.write_bytes(folder / "tokenizer.model", data)
