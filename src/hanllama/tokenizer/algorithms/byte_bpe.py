"""Byte-level BPE (Radford et al. 2019, GPT-2; Qwen, Llama 3), by the tokenizers library.

It merges UTF-8 bytes: no text is unknown and no fallback is needed, but a cut may fall anywhere
inside a rare character. GPT-2's pattern separates words, numbers and punctuation; no merge crosses
their borders. transformers reads the folder as we do; llama.cpp's converter knows only a few
published patterns, and not this one. `character_coverage` is ignored.
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
