"""Count the scripts of a text, and tell simplified from traditional Chinese.

Most Han characters serve both ways of writing; a few thousand occur in one only
(`han_variants.txt`). All characters are counted, so the counts of pieces
add up to those of the corpus.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.text.letters import code_points

VARIANTS = Path(__file__).parent / "han_variants.txt"

SCRIPTS = (
    "Han, both",
    "Han, simplified only",
    "Han, traditional only",
    "Kana",
    "Latin",
    "digits",
    "punctuation",
    "white space",
    "other",
)
_BOTH, _SIMPLIFIED, _TRADITIONAL, _KANA, _LATIN, _DIGITS, _PUNCTUATION, _SPACE, _OTHER = range(9)

# A text may quote a few characters of the other form; with a tenth of them it is mixed.
MIXED_SHARE = 0.1
# A Chinese text may quote much English, which has many letters to a word.
CHINESE_SHARE = 1 / 3


@dataclass
class Scripts:
    """Characters by script, and documents by language: sums, so pieces add up."""

    characters: NDArray[np.int64] = field(default_factory=lambda: np.zeros(9, np.int64))
    languages: Counter[str] = field(default_factory=Counter)

    def count(self, text: str) -> None:
        """Add one document."""
        counts = counts_of(text)
        self.characters += counts
        self.languages[language(counts)] += 1

    def add(self, other: Scripts) -> None:
        """Add the counts of other documents."""
        self.characters += other.characters
        self.languages += other.languages

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "characters": dict(zip(SCRIPTS, self.characters.tolist(), strict=True)),
            "documents": dict(sorted(self.languages.items())),
        }


def counts_of(text: str) -> NDArray[np.int64]:
    """[9] how many characters of each of SCRIPTS a text has; millions a second."""
    # A document cannot hold half a surrogate pair, but a caller's string may.
    points = code_points(text)
    return np.bincount(_table().take(points), minlength=len(SCRIPTS)).astype(np.int64)


def language(counts: NDArray[np.int64]) -> str:
    """The language of a document with these counts, judged by shares, for a report."""
    simplified, traditional = int(counts[_SIMPLIFIED]), int(counts[_TRADITIONAL])
    han = int(counts[_BOTH]) + simplified + traditional
    kana, latin, other = int(counts[_KANA]), int(counts[_LATIN]), int(counts[_OTHER])
    letters = han + kana + latin + other
    if kana > han / 10 and kana + han > CHINESE_SHARE * letters:
        return "Japanese"
    if han > 0 and han >= CHINESE_SHARE * letters:
        told = simplified + traditional
        if not told:
            return "Chinese, either form"
        if traditional < MIXED_SHARE * told:
            return "Chinese, simplified (简体)"
        if simplified < MIXED_SHARE * told:
            return "Chinese, traditional (繁体)"
        return "Chinese, mixed (混合)"
    if latin > letters / 2:
        return "Latin script (English …)"
    return "other"


@functools.cache
def _table() -> NDArray[np.uint8]:
    """The script of every code point."""
    table = np.full(0x110000, _OTHER, np.uint8)
    for point in range(0x10000):  # beyond, only Han is recognized
        table[point] = _script(chr(point))
    table[0x20000:0x33480] = _BOTH  # extensions B to J and the compatibility supplement
    simplified, traditional = variants()
    table[[ord(c) for c in simplified]] = _SIMPLIFIED
    table[[ord(c) for c in traditional]] = _TRADITIONAL
    return table


def _script(character: str) -> int:
    category = unicodedata.category(character)
    if category == "Lo" and _is_han(ord(character)):
        return _BOTH
    if category[0] == "P" or category in ("Sm", "Sc", "Sk"):
        return _PUNCTUATION
    if category[0] == "Z" or character in "\t\n\r":
        return _SPACE
    if category == "Nd":
        return _DIGITS
    if category[0] == "L":
        name = unicodedata.name(character, "")
        if "HIRAGANA" in name or "KATAKANA" in name:
            return _KANA
        if "LATIN" in name:
            return _LATIN
    return _OTHER


def _is_han(point: int) -> bool:
    return 0x3400 <= point <= 0x4DBF or 0x4E00 <= point <= 0x9FFF or 0xF900 <= point <= 0xFAFF


def variants() -> tuple[str, str]:
    """(characters of simplified writing only, characters of traditional writing only)."""
    lines = VARIANTS.read_text(encoding="utf-8").split("\n")
    rows: dict[str, str] = {"simplified": "", "traditional": ""}
    name = ""
    for line in lines:
        if line.startswith("["):
            name = line.strip("[]")
        elif name:
            rows[name] += line
    return rows["simplified"], rows["traditional"]
