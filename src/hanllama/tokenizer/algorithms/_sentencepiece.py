"""The SentencePiece trainer, as all its four model types are called here.

No normalization at all and byte fallback, so that what comes out of `decode` is what went into
`encode`, for any text. The ids are laid out alike: <unk> 0, <s> 1, </s> 2, <pad> 3, the control
tokens, the user's symbols, 256 bytes, then the pieces. Control tokens are CONTROL pieces, which no
typed text can produce: chat stages put them in as ids.
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
    """No vocabulary of this size can be made of the corpus.

    Attributes:
        limit: the largest size that works, or the smallest where the one asked for is below it.
    """

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message, limit)  # both, or pickle could not make it again
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
    """The bytes of a SentencePiece model trained on `lines`; the same for any number of threads.

    Args:
        kind: SentencePiece's model_type: bpe, unigram, char or word.
        required: characters that get a piece whether or not the text has them.
        dummy_prefix: whether a text is encoded as if a space stood before it; never with user
            symbols.

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
            # Long lines were left out, and counted, before: none may vanish in here.
            max_sentence_length=2**30,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            # Documents are encoded whole, so only their first line will ever follow a prefix;
            # with one before every line, pieces like "▁“" would be learned and hardly ever used.
            add_dummy_prefix=False,
            # Chinese without a single space would leave the model without its prefix, which would
            # then come out of `decode` as a "▁" spelt in bytes.
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
    proto.trainer_spec.num_threads = 1  # the only trace of how it was made
    # Others cut a text at its user symbols and would put the prefix before every part.
    proto.normalizer_spec.add_dummy_prefix = dummy_prefix and not settings.user_symbols
    return bytes(proto.SerializeToString(deterministic=True))


def _explained(error: RuntimeError, settings: Settings) -> Exception:
    """sentencepiece's own complaint, as what to do about it."""
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
