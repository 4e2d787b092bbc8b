"""Recognize the headings of chapters and the numbers of sections.

第一章 风雪夜, 第3回, 卷二, 楔子, Chapter 5, （三）, 十二: short, alone on a line, without a mark
that ends a sentence. 第一章读完了。is a sentence.
"""

from __future__ import annotations

import re

NUMERAL = "〇零一二三四五六七八九十百千两廿卅0-9０-９"
_NUMBERED = (
    rf"[第弟]\s{{0,2}}(?P<number>[{NUMERAL}\s]{{1,9}}?)\s{{0,2}}[章回节節卷部集篇幕折话話辑輯编編]"
)
_VOLUME = rf"[卷篇]\s?[{NUMERAL}上中下甲乙丙丁]{{1,7}}"
_NAMED = (
    "楔子|序[章言幕曲]?|自序|代序|前言|引[子言]|绪论|导[读言]|尾声|终章|后记|後記"
    "|番外[篇一二三四五六七八九十0-9]{0,3}|附录[一二三四五六七八九十]?|结局|跋"
)
_LATIN = r"(?i:chapter|part|volume|prologue|epilogue)\b\.?\s{0,2}[0-9IVXLC]{0,6}\b"
_TITLE = r"(?:[\s:：、.．·—《【（(-][^。；;\n]{0,40}|[^\s。！？!?；;，,：:\n]{0,20})?"
_HEADING = re.compile(
    rf"\s*(?:正文\s{{0,2}})?[【\[]?(?:{_NUMBERED}{_TITLE}|{_VOLUME}(?:\s[^。！？!?；;\n]{{0,40}})?|"
    rf"(?:{_NAMED})(?:[\s:：·—（(《][^。！？!?；;，,\n]{{0,30}})?|{_LATIN}(?:\s*[:：.—-]?\s[^。！？\n]{{0,60}})?)\s*"
)
# A number alone, as books number their sections: 三, （三）, 3, (3), 三、
_SECTION = re.compile(rf"\s*[（(]?[{NUMERAL}]{{1,4}}[）)、.．]?\s*")
_LONGEST = 60
_FIRST = frozenset("第弟卷篇楔序自代前引绪导尾终后後番附结跋正【[cCpPvVeE")


def is_heading(line: str) -> bool:
    """Whether `line` is the heading of a chapter."""
    first = line.lstrip()[:1]
    return first in _FIRST and len(line) <= _LONGEST and bool(_HEADING.fullmatch(line))


def is_section_number(line: str) -> bool:
    """Whether `line` holds only the number of a section."""
    return len(line) <= _LONGEST and bool(_SECTION.fullmatch(line))
