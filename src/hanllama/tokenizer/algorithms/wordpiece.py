"""WordPiece as BERT has it (Schuster and Nakajima 2012; Devlin et al. 2019), tokenizers library.

Every Han character stands alone, other words are cut greedily into their longest known pieces, and
a word with an unknown character is <unk> as a whole. Spaces are not kept, so texts do not come
back: for comparison and for encoder models, not for a model that writes. `split_digits` applies,
`character_coverage` does not. `vocab_size` is an upper limit: Chinese alone gives two pieces a
character at most.
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
        # A character may stand first in a word and inside one: two pieces.
        limit_alphabet=(settings.vocab_size - len(_library.specials(settings))) // 2,
        show_progress=False,
    )
    _library.train(tokenizer, trainer, lines, settings)
    _library.write(folder, tokenizer)
