"""The vocabulary algorithms, one file each; the file name is the name in `--algorithm`.

An algorithm file holds
- a docstring: the method, its source, and its use for Chinese;
- `BACK_ENDS`: the libraries that give the same ids for every string (parity tests check it);
- `REVERSIBLE`: whether `decode` returns every text unchanged;
- `train(folder, lines, settings)`: writes the tokenizer's files into a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Settings:
    """The settings every algorithm gets; its docstring names the settings it ignores.

    Attributes:
        vocab_size: all pieces, special tokens and bytes included.
        character_coverage: share of the text's characters that get a piece of their own.
        split_digits: every digit is a piece of its own.
        control_tokens: special tokens after <unk>, <s>, </s>, <pad>; no typed text produces them.
        user_symbols: texts that are always one piece.
        threads: they do not change the result.
    """

    vocab_size: int
    character_coverage: float = 0.9995
    split_digits: bool = True
    control_tokens: tuple[str, ...] = ()
    user_symbols: tuple[str, ...] = ()
    threads: int = 1


class Algorithm(Protocol):
    """The interface of an algorithm file."""

    BACK_ENDS: tuple[str, ...]
    REVERSIBLE: bool

    def train(self, folder: Path, lines: Iterable[str], settings: Settings) -> None: ...
