"""BERT's WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019), by the tokenizers library.

Every Han character stands alone, other words are cut greedily into their longest known pieces, and
a word with an unknown character is one <unk>. Spaces are lost, so `decode` does not return the
text: use it to compare and for encoder models, not for a model that writes. `character_coverage`
is ignored. `vocab_size` is an upper limit: Chinese alone gives at most two pieces a character.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hanllama.tokenizer.algorithms import Settings, _library

BACK_ENDS = ("transformers",)
REVERSIBLE = False


def train(folder: Path, lines: Iterable[str], settings: Settings) -> None:
    """Write a WordPiece tokenizer: `tokenizer.json` without a SentencePiece model."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=_library.ROLES["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    digits = [pre_tokenizers.Digits(individual_digits=True)] if settings.split_digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), *digits])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size - len(settings.user_symbols),
        special_tokens=_library.specials(settings),
        continuing_subword_prefix="##",
        # A character has two pieces: one at the start of a word and one inside it.
        limit_alphabet=(settings.vocab_size - len(_library.specials(settings))) // 2,
        show_progress=False,
    )
    _library.train(tokenizer, trainer, lines, settings)
    _library.write(folder, tokenizer)
