"""Byte-level BPE (Radford et al. 2019, GPT-2; Qwen, Llama 3), by the tokenizers library.

Merges over UTF-8 bytes: nothing is ever unknown and no fallback is needed, but a rare character is
cut anywhere inside. GPT-2's pattern keeps words, numbers and punctuation apart; no merge crosses
them. transformers reads it as we do; llama.cpp's converter knows byte-level BPE only with a few
published patterns, of which this is none. `character_coverage` does not apply.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.base.errors import ConfigError
from hanllama.tokenizer.algorithms import Settings, _library

BACK_ENDS = ("transformers",)
REVERSIBLE = True


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    """Write a byte-level BPE tokenizer: `tokenizer.json` without a SentencePiece model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if settings.split_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size - len(settings.user_symbols),
        special_tokens=_library.specials(settings),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    _library.train(tokenizer, trainer, lines, settings)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size < settings.vocab_size:
        raise ConfigError(
            f"vocab_size {settings.vocab_size} is larger than this corpus supports; the largest"
            f" that works is {size} (or give more text)"
        )
    _library.write(folder, tokenizer)
