"""Shared by the algorithms of the tokenizers library: special tokens, BOS, the config files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.tokenizer import hf
from hanllama.tokenizer.algorithms import Settings

ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def specials(settings: Settings) -> list[str]:
    """The special tokens in the order of their ids."""
    return [*ROLES.values(), *settings.control_tokens]


def train(tokenizer: Any, trainer: Any, lines: Iterable[str], settings: Settings) -> None:
    """Run the trainer and add the user's symbols."""
    from tokenizers import AddedToken

    tokenizer.train_from_iterator(iter(lines), trainer)
    tokenizer.add_tokens([AddedToken(s, normalized=False) for s in settings.user_symbols])


def write(folder: Path, tokenizer: Any) -> None:
    """Write `tokenizer.json` with BOS before every text, and the two config files."""
    from tokenizers import processors

    bos = ROLES["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    fs.write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    hf.write_roles(folder, ROLES)
