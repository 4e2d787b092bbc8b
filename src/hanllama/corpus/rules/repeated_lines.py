"""Reduce `run` or more equal lines in a row to one; drop a document of repeats.

Scrapers write the same advert or heading again and again, and comments repeat a slogan for pages.
A run of equal lines, with or without blank lines between them, is reduced to its first line; two
equal lines stay, since verse and dialogue say things twice. A document in which too many lines or
paragraphs (separated by blank lines) equal earlier ones is a menu, a log, a form: it is dropped.

Source: Gopher, Rae et al. 2021, table A1 (duplicate lines 0.30 and 0.20 of the characters,
duplicate paragraphs the same). Thresholds re-derived on clean Chinese corpora: 1.2 times the
highest 99.9th percentile of any of them, rounded up to 0.05; see docs/rules.md. Code in technical
articles repeats lines, hence the high first one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from hanllama.base.config import Count, Share, checked, option
from hanllama.corpus.rules import Drop

PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")


@checked
class Rule:
    run: int = option(3, ge=2, help="this many equal lines in a row, or more, become one")
    lines: Share = option(0.6, help="the largest share of lines that equal an earlier line")
    line_characters: Share = option(0.3, help="the largest share of characters in such lines")
    paragraphs: Share = option(0.25, help="the largest share of paragraphs that equal an earlier")
    paragraph_characters: Share = option(0.15, help="the largest share of their characters")
    fewest: Count = option(10, help="documents of fewer lines or paragraphs are not judged by them")

    def __call__(self, text: str) -> str | Drop:
        lines = text.split("\n")
        seen = filled(lines)
        share, characters = repeated(seen)
        if len(seen) >= self.fewest:
            if share > self.lines:
                return Drop("repeated lines")
            if characters > self.line_characters:
                return Drop("characters in repeated lines")
        if share:  # a paragraph repeats only where its lines do
            paragraphs = filled(PARAGRAPH_END.split(text))
            if len(paragraphs) >= self.fewest:
                share, characters = repeated(paragraphs)
                if share > self.paragraphs:
                    return Drop("repeated paragraphs")
                if characters > self.paragraph_characters:
                    return Drop("characters in repeated paragraphs")
            return _collapse(lines, self.run)
        return text


def filled(parts: Iterable[str]) -> list[str]:
    """The parts that are not blank, stripped of white space."""
    return [stripped for part in parts if (stripped := part.strip())]


def repeated(parts: Iterable[str]) -> tuple[float, float]:
    """(share of the parts that equal an earlier one, share of the characters in those)."""
    counts = Counter(parts)
    total = sum(counts.values())
    if total == len(counts):
        return 0.0, 0.0
    characters = sum(len(part) * n for part, n in counts.items())
    again = sum(len(part) * (n - 1) for part, n in counts.items())
    return (total - len(counts)) / total, again / characters


def _collapse(lines: list[str], run: int) -> str:
    """The text without the repeats of runs and the blank lines between them."""
    kept: list[str] = []
    held: list[str] = []  # the run so far: equal lines, and blank ones between and after
    current, times = "", 0
    for line in lines:
        stripped = line.strip()
        if not stripped:
            held.append(line)
            continue
        if stripped != current:
            kept += _reduced(held, times, run)
            held, current, times = [], stripped, 0
        held.append(line)
        times += 1
    return "\n".join(kept + _reduced(held, times, run))


def _reduced(held: list[str], times: int, run: int) -> list[str]:
    """A run of `times` equal lines, or its first line and the blank lines after the last."""
    if times < run:
        return held
    after = next(i for i, line in enumerate(reversed(held)) if line.strip())
    return held[:1] + held[len(held) - after :]


_TEN = "一\n二\n三\n四\n五\n六\n七\n八\n九\n十\n"

EXAMPLES = [
    ("他敲门。\n他敲门。\n没有人应。", "他敲门。\n他敲门。\n没有人应。"),
    ("快来投票\n快来投票\n\n快来投票\n\n他走了。", "快来投票\n\n他走了。"),
    ("　　走。\n走。\n走。", "　　走。"),
    ("走。\n走。", {"run": 2}, "走。"),
    ("", ""),
    ("首页\n小说\n" * 10, Drop("repeated lines")),
    (_TEN + "点击这里下载本书的全部内容\n中\n" * 3, Drop("characters in repeated lines")),
    ("\n\n".join([*_TEN.split(), *"一二三四"]), Drop("repeated paragraphs")),
]
