"""Join lines that were cut at a fixed width back into paragraphs.

Texts from terminals, e-mail and scanners break every line after 30 to 40 characters, in the middle
of words. A model trained on them does the same.

The widths of all lines decide whether a text is wrapped (a Han character is two columns wide). A
width is the text's margin when at least `full` of the lines end within a few columns before it,
almost none reach beyond it, and at least half of the lines at the margin break off in the middle of
a sentence. Lines of verse are short or end in a mark; paragraphs differ in length.

A line is joined to a line before it that reaches the margin, unless it begins a paragraph (deeper
indent, a blank line before it), speech after an ended sentence, a list item or a heading. A blank
line after every line is ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from hanllama.base.config import checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._headings import is_heading, is_section_number
from hanllama.corpus.rules._lines import ends_sentence

NARROWEST, WIDEST = 36, 160  # columns of a margin: 18 Han characters; nobody wraps beyond 80
_RAGGED = 6  # columns before the margin: room for a mark that may not begin a line, a Latin word
_BEYOND = 4  # columns of marks that hang over the margin
_FEWEST_LINES, _FEWEST_FULL = 6, 4
_ITEM = re.compile(
    r"\s*(?:[-*•·●○■□◆※]\s|[(（]?(?:\d{1,3}|[一二三四五六七八九十]{1,3})[)）、.．]|[①-⑳]|[>|#])"
)
_SPEECH = ("“", "「", "『", "——")
_LATIN = re.compile(r"[A-Za-z0-9,.;:!?)]$")


@checked
class Rule:
    full: float = option(0.4, gt=0, le=1, help="the share of lines that must reach the margin")

    def __call__(self, text: str) -> str | Drop:
        lines = text.split("\n")
        spaced = _without_spacing(lines)
        margin = _margin(spaced, self.full)
        return _join(spaced, margin) if margin else text


def _without_spacing(lines: list[str]) -> list[str]:
    """The lines, without blank lines where one follows nearly every line."""
    written = [line for line in lines if line.strip()]
    pairs = sum(1 for line, after in pairwise(lines) if line.strip() and not after.strip())
    return written if len(written) > _FEWEST_LINES and pairs > 0.9 * len(written) else lines


def _margin(lines: list[str], full: float) -> int | None:
    """The column at which the text was wrapped; None when it was not wrapped."""
    written = [stripped for line in lines if (stripped := line.rstrip())]
    if len(written) < _FEWEST_LINES:
        return None
    widths = [_columns(line) for line in written]
    counts = Counter(width for width in widths if NARROWEST <= width <= WIDEST)
    # Most texts are not wrapped and have no frequent width: leave early.
    if not counts or 2 * sum(counts.values()) < full * len(written):
        return None
    margin, _ = max(counts.items(), key=lambda item: (_reaching(counts, item[0]), item[0]))
    if _reaching(counts, margin) < full * len(written):
        return None
    if sum(1 for width in widths if width > margin + _BEYOND) > 0.02 * len(written):
        return None
    reach = [
        line
        for line, width in zip(written, widths, strict=True)
        if margin - _RAGGED <= width <= margin + _BEYOND
    ]
    cut = sum(1 for line in reach if not ends_sentence(line) and not line.endswith("，"))
    return margin if len(reach) >= _FEWEST_FULL and 2 * cut >= len(reach) else None


def _reaching(counts: Counter[int], margin: int) -> int:
    """How many lines end at `margin` or within the few columns before it."""
    return sum(counts[width] for width in range(margin - _RAGGED, margin + 1))


def _join(lines: list[str], margin: int) -> str:
    indents = Counter(_indent(line) for line in lines if line.strip())
    usual = indents.most_common(1)[0][0]
    indented = sum(times for indent, times in indents.items() if indent > usual)
    marks_paragraphs = indented >= 0.02 * len(lines)
    joined = [lines[0]]
    reaches = _columns(lines[0].rstrip()) >= margin - _RAGGED
    for line in lines[1:]:
        before = joined[-1]
        if reaches and _continues(before, line, usual, marks_paragraphs):
            space = " " if _LATIN.search(before) and _LATIN.search(line.strip()[:1]) else ""
            joined[-1] = before.rstrip() + space + line.strip()
        else:
            joined.append(line)
        reaches = _columns(line.rstrip()) >= margin - _RAGGED
    return "\n".join(joined)


def _continues(before: str, line: str, usual: int, marks_paragraphs: bool) -> bool:
    """Whether `line` continues the paragraph of the full line before it."""
    if not line.strip() or not before.strip() or _indent(line) > usual or is_heading(line):
        return False
    if _ITEM.match(line) or is_section_number(line) or is_heading(before):
        return False
    if ends_sentence(before) and not marks_paragraphs:
        return False
    return not (ends_sentence(before) and line.lstrip().startswith(_SPEECH))


def _indent(line: str) -> int:
    """Columns of white space at the beginning."""
    return _columns(line[: len(line) - len(line.lstrip())])


def _columns(line: str) -> int:
    """The line's width on a terminal: GBK has one byte for each column."""
    return len(line) if line.isascii() else len(line.encode("gb18030", "replace"))


_WRAPPED = """　　那一年冬天来得很早，河上的冰结了三尺厚，打鱼的人都收起了网，坐
在家里烤火。只有老周还每天到河边去，拿一根铁钎，在冰上凿一个窟窿，守
着它坐到天黑。
　　“你守着什么？”孩子们问他，他也不答，只把领子竖起来，望着对岸的
那一片林子，好像那里有什么人要来似的。
　　雪下得大的时候，林子就看不见了。老周还是望着，眉毛上都结了霜。有
人说他在等他的儿子，也有人说他早就没有儿子了，他等的是开河。"""

_JOINED = "\n　　".join(paragraph.replace("\n", "") for paragraph in _WRAPPED.split("\n　　"))

EXAMPLES = [
    (_WRAPPED, _JOINED),
    (_WRAPPED, {"full": 0.9}, _WRAPPED),
    ("\n".join(["河上的冰化了，船还没有来，", "岸上的人散了，灯还没有灭。"] * 6),) * 2,
    ("\n".join("“走吧。”" if n % 2 else "他站起来，把帽子戴上，推开门。" for n in range(12)),) * 2,
]
