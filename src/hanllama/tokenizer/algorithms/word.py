"""Words between spaces, rare ones in bytes.

Chinese has no spaces, so this needs a text that was segmented before: every word of the segmenter
is then one token. Only sentencepiece and our loader read it. Training skips words of more than 30
characters.
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
            f"the algorithm `word` found no word of at most {LONGEST} characters between spaces;"
            " segment the text first, or use bpe"
        )
    data = _sentencepiece.train(words, settings, "word", dummy_prefix=False)
    fs.write_bytes(folder / "tokenizer.model", data)
