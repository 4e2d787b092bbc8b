"""Act on terms from the user's list: drop the document, drop the line, or mask the term.

Projects and countries differ in the terms that a corpus must not hold, so hanllama ships no list.
`file` holds one term a line, `#` begins a comment; `terms` takes a few without a file. The longest
term at a place counts; ASCII letters match in either case. Below `minimum` or `share` nothing is
done, so one quotation does not cost a book.

Method: one search for the set of first characters, and at each find a comparison with the terms
that begin with it, longest first; the cost hardly grows with the length of the list.
Source: the "bad words" filter of C4 (Raffel et al. 2020). It drops a page for one word and so lost
much harmless text; hence the two thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from hanllama.base.config import Count, Share, checked, option
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import Drop


@checked
class Rule:
    file: str = option("", help="a UTF-8 file of terms, one a line, # begins a comment")
    terms: tuple[str, ...] = option((), help="terms, in addition to the file")
    action: Literal["document", "line", "mask"] = option(
        "document", help="drop the document, drop each line with a term, or mask the terms"
    )
    minimum: Count = option(1, help="finds in a document below which nothing is done")
    share: Share = option(0.0, help="share of characters in finds below which nothing is done")
    mask: str = option("*", help="the character that replaces each one of a masked term")

    def __post_init__(self) -> None:
        if len(self.mask) != 1 or self.mask.isspace():
            raise ConfigError(f"sensitive_terms: mask must be one character, not {self.mask!r}")
        if not self.file and not self.terms:
            raise ConfigError(
                "sensitive_terms needs a list: `sensitive_terms: {file: PATH}` or `{terms: [..]}`"
            )
        terms = [*self.terms, *(_read(Path(self.file)) if self.file else ())]
        object.__setattr__(self, "_finder", _Finder(terms, f"sensitive_terms {self.file}"))

    def __call__(self, text: str) -> str | Drop:
        finder: _Finder = self._finder  # type: ignore[attr-defined]
        while True:  # masking may form another term, if a term contains the mask
            spans = finder(text)
            inside = sum(end - start for start, end in spans)
            if len(spans) < self.minimum or inside < self.share * len(text):
                return text
            if self.action == "document":
                return Drop("sensitive terms")
            shorter = (
                _without_lines(text, spans) if self.action == "line" else self._mask(text, spans)
            )
            if shorter == text:  # a term that consists of the mask
                return text
            text = shorter

    def _mask(self, text: str, spans: list[tuple[int, int]]) -> str:
        pieces, at = [], 0
        for start, end in spans:
            pieces += [text[at:start], self.mask * (end - start)]
            at = end
        return "".join([*pieces, text[at:]])


def _without_lines(text: str, spans: list[tuple[int, int]]) -> str:
    pieces, at = [], 0
    for start, _ in spans:
        if start < at:
            continue  # a second term in the same line
        pieces.append(text[at : text.rfind("\n", 0, start) + 1])
        end = text.find("\n", start)
        at = len(text) if end < 0 else end + 1
    return "".join([*pieces, text[at:]])


class _Finder:
    """Finds terms, leftmost and longest first, none overlapping."""

    def __init__(self, terms: Iterable[str], where: str) -> None:
        by_first: dict[str, set[str]] = {}
        for term in terms:
            if not term.strip() or "\n" in term:
                raise ConfigError(f"{where}: {term!r} is no term; give one a line, not empty")
            lower = _lower(term)
            for first in {lower[0], lower[0].upper() if lower[0].isascii() else lower[0]}:
                by_first.setdefault(first, set()).add(lower)
        if not by_first:
            raise ConfigError(f"{where}: the list holds no term")
        self._by_first = {f: sorted(t, key=len, reverse=True) for f, t in by_first.items()}
        self._first = re.compile("[" + "".join(map(re.escape, sorted(by_first))) + "]")

    def __call__(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        reached = 0
        for match in self._first.finditer(text):
            start = match.start()
            if start < reached:
                continue
            for term in self._by_first[match[0]]:
                if _lower(text[start : start + len(term)]) == term:
                    reached = start + len(term)
                    spans.append((start, reached))
                    break
        return spans


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _lower(text: str) -> str:
    """`text` with ASCII letters in lower case; unlike str.lower this keeps the length."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _read(path: Path) -> list[str]:
    """The terms of a file; ConfigError when it cannot be read."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"sensitive_terms: file {path} cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"sensitive_terms: file {path} is not UTF-8: {error.reason}") from error
    lines = (line.partition("#")[0].strip() for line in content.splitlines())
    return [line for line in lines if line]


EXAMPLES = [
    ("茶馆里人很多。", {"terms": ["赌局"]}, "茶馆里人很多。"),
    ("茶馆后面有个赌局。", {"terms": ["赌局"]}, Drop("sensitive terms")),
    (
        "甲：来赌局。\n乙：不去。\n丙：赌局，赌局！",
        {"terms": ["赌局"], "action": "line"},
        "乙：不去。\n",
    ),
    ("去Casino或赌局吧", {"terms": ["casino", "赌", "赌局"], "action": "mask"}, "去******或**吧"),
    ("只提了一次赌局。", {"terms": ["赌局"], "minimum": 2}, "只提了一次赌局。"),
    ("只提了一次赌局。", {"terms": ["赌局"], "share": 0.5}, "只提了一次赌局。"),
]
