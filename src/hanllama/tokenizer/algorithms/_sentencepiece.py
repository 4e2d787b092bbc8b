"""The call of the SentencePiece trainer for its four model types.

There is no normalization, and rare characters fall back to bytes, so `decode` returns any text that
`encode` got. The ids have one layout: <unk> 0, <s> 1, </s> 2, <pad> 3, the control tokens, the
user's symbols, 256 bytes, then the pieces. Control tokens are CONTROL pieces, which no typed text
can produce: the chat stages insert them as ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.base.errors import ConfigError
from hanllama.tokenizer import hf
from hanllama.tokenizer.algorithms import Settings


class UnfitSize(ConfigError):
    """The corpus does not allow a vocabulary of this size.

    Attributes:
        limit: the largest size that works; the smallest if the requested size is below it.
    """

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message, limit)  # pickle passes `args` to __init__, so it needs both
        self.limit = limit

    def __str__(self) -> str:
        return str(self.args[0])


def write(folder: Path, lines: Iterable[str], settings: Settings, kind: str) -> None:
    """Train a model of type `kind` and write its files into `folder`."""
    save(folder, hf.parse_model(train(lines, settings, kind), "the trained model"))


def save(folder: Path, proto: Any) -> None:
    """Write a model's files into `folder`."""
    fs.write_bytes(folder / "tokenizer.model", proto.SerializeToString(deterministic=True))
    hf.write_files(folder, proto)


def train(
    lines: Iterable[str],
    settings: Settings,
    kind: str,
    *,
    required: str = "",
    dummy_prefix: bool = True,
) -> bytes:
    """Train a SentencePiece model on `lines`; its bytes do not depend on the number of threads.

    Args:
        kind: SentencePiece's model_type: bpe, unigram, char or word.
        required: characters that get a piece even if the text lacks them.
        dummy_prefix: encode a text as if a space stood before it; ignored with user symbols.

    Raises UnfitSize for a vocabulary that is too small for the text's characters or larger than
    the text supports.
    """
    import sentencepiece

    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type=kind,
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
            split_digits=settings.split_digits,
            # The caller left out and counted the long lines; the trainer must not drop any.
            max_sentence_length=2**30,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            # Documents are encoded whole, so only a first line follows a prefix. A prefix before
            # every training line would teach pieces like "▁“" that are hardly ever used.
            add_dummy_prefix=False,
            # A text without any space would leave "▁" out of the vocabulary, and `encode` would
            # then spell the prefix in bytes.
            required_chars=hf.SPACE + required,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3,
            control_symbols=list(settings.control_tokens),
            user_defined_symbols=[s.replace(" ", hf.SPACE) for s in settings.user_symbols],
            shuffle_input_sentence=False,
            input_sentence_size=0,
            num_threads=settings.threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _explained(error, settings) from error
    proto = hf.parse_model(out.getvalue(), "the trained model")
    proto.trainer_spec.num_threads = 1  # the one field that depends on the number of threads
    # Other libraries cut a text at its user symbols and would put the prefix before every part.
    proto.normalizer_spec.add_dummy_prefix = dummy_prefix and not settings.user_symbols
    return bytes(proto.SerializeToString(deterministic=True))


def _explained(error: RuntimeError, settings: Settings) -> Exception:
    """sentencepiece's error as one that names the remedy."""
    size = settings.vocab_size
    if found := re.search(r"Vocabulary size too high .* value <= (\d+)", str(error)):
        return UnfitSize(
            f"vocab_size {size} is larger than this corpus supports; the largest that works is"
            f" {found[1]} (or give more text)",
            int(found[1]),
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
        return UnfitSize(
            f"vocab_size {size} is too small: special tokens, 256 bytes and the characters of this"
            f" corpus at coverage {settings.character_coverage} take {found[1]}; raise it, or"
            " lower character_coverage",
            int(found[1]),
        )
    return error
