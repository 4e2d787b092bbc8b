"""How a vocabulary is found: one file an algorithm, its name in `--algorithm` is its file name.

An algorithm file holds
- a docstring: the method, its source, and what it is good for in Chinese;
- `BACK_ENDS`: who gives the same ids for every string (the parity tests hold them to it);
- `REVERSIBLE`: whether `decode` returns every text as it was;
- `train(folder, lines, settings)`: writes the tokenizer's files into a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Settings:
    """What every algorithm is told; one that has no use for a setting says so in its docstring.

    Attributes:
        vocab_size: pieces in all, special tokens and bytes included.
        character_coverage: share of the text's characters that get a piece of their own.
        split_digits: every digit is a piece of its own.
        control_tokens: special tokens after <unk>, <s>, </s>, <pad>; no typed text produces them.
        user_symbols: texts that are always one piece.
        threads: without influence on the result.
    """

    vocab_size: int
    character_coverage: float = 0.9995
    split_digits: bool = True
    control_tokens: tuple[str, ...] = ()
    user_symbols: tuple[str, ...] = ()
    threads: int = 1


class Algorithm(Protocol):
    """What an algorithm file offers."""

    BACK_ENDS: tuple[str, ...]
    REVERSIBLE: bool

    def train(self, folder: Path, lines: Iterable[str], settings: Settings) -> None: ...
