"""Remove a table of contents: a run of headings that also stand above chapters.

A model that has read tables of contents writes chapter headings without text. A run of headings is
not enough, since a crawl may have lost the texts between them. It is a table when 目录 stands above
it, when its lines end in page numbers after dots, or when at least half of its entries occur
elsewhere in the text. The first chapter's heading after the table stays.
"""

from __future__ import annotations

import re

from hanllama.base.config import checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._headings import is_heading

_TITLE = re.compile(
    r"\s*[【\[]?\s*(?:目\s*[录錄次]|章节目录|全书目录|(?i:contents))\s*[】\]]?[:：]?\s*"
)
_LEADER = re.compile(
    r"\s*(\S[^\n]{0,60}?)\s*(?:[.．·]{3,}|…{1,}|[-—_]{4,}|\t+)\s*[(（]?\d{1,4}[)）]?\s*"
)
_NUMBERED = re.compile(r"\s*(\d{1,3}[.．、]\s*\S[^\n。，]{0,30}?)\s+\d{1,4}\s*")  # 3. 风雪 41
_PAGE = re.compile(r"\s+\d{1,4}\s*$")
_ANNOUNCED = 3  # entries that make a table under the word 目录


@checked
class Rule:
    minimum: int = option(5, ge=2, help="the fewest entries of a table that no title announces")

    def __call__(self, text: str) -> str | Drop:
        lines = text.split("\n")
        entries = {i: entry for i, line in enumerate(lines) if (entry := _entry(line))}
        if len(entries) < _ANNOUNCED:
            return text
        taken: set[int] = set()
        for run in _runs(lines, entries):
            table = _until_the_first_chapter(run, entries)
            above = _title_above(lines, table[0])
            if self._is_table(table, above, lines, entries):
                taken.update(range(table[0] if above is None else above, table[-1] + 1))
        return "\n".join(line for index, line in enumerate(lines) if index not in taken)

    def _is_table(
        self, table: list[int], above: int | None, lines: list[str], entries: dict[int, str]
    ) -> bool:
        if above is not None:
            return len(table) >= _ANNOUNCED
        if len(table) < self.minimum:
            return False
        leaders = sum(1 for index in table if _LEADER.fullmatch(lines[index]))
        inside = set(table)
        elsewhere = {entry for index, entry in entries.items() if index not in inside}
        again = sum(1 for index in table if entries[index] in elsewhere)
        return 2 * leaders >= len(table) or 2 * again >= len(table)


def _entry(line: str) -> str:
    """The title in `line`, without spaces and page number; "" when the line is no entry."""
    if len(line) > 100:
        return ""
    leader = _LEADER.fullmatch(line) or _NUMBERED.fullmatch(line)
    title = leader[1] if leader else _PAGE.sub("", line)
    return "".join(title.split()) if leader or is_heading(title) else ""


def _runs(lines: list[str], entries: dict[int, str]) -> list[list[int]]:
    """Runs of three or more entries with only blank lines between them."""
    runs: list[list[int]] = [[]]
    for index, line in enumerate(lines):
        if index in entries:
            runs[-1].append(index)
        elif line.strip() and runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) >= _ANNOUNCED]


def _until_the_first_chapter(run: list[int], entries: dict[int, str]) -> list[int]:
    """The run up to the first entry that occurs a second time: there the text begins."""
    seen: set[str] = set()
    for place, index in enumerate(run):
        entry = entries[index]
        if entry in seen or (place and entry.startswith(entries[run[0]])):
            return run[:place]
        seen.add(entry)
    return run


def _title_above(lines: list[str], index: int) -> int | None:
    """The line 目录 right above `index`, past blank lines; None when there is none."""
    index -= 1
    while index >= 0 and not lines[index].strip():
        index -= 1
    return index if index >= 0 and _TITLE.fullmatch(lines[index]) else None


EXAMPLES = [
    (
        "书名\n目录\n第一章 风\n第二章 雪\n第三章 夜\n\n第一章 风\n风起了。\n第二章 雪\n雪来了。",
        "书名\n\n第一章 风\n风起了。\n第二章 雪\n雪来了。",
    ),
    (
        "第一章 总则……1\n第二章 权利……5\n第三章 义务……9\n第四章 责任……12\n第五章 附则……20\n正文。",
        "正文。",
    ),
    (
        "第1章\n第2章\n第3章\n第1章\n一。\n第2章\n二。\n第3章\n三。",
        {"minimum": 3},
        "第1章\n一。\n第2章\n二。\n第3章\n三。",
    ),
    ("第一章\n\n第二章\n\n第三章\n\n第四章\n\n第五章\n风起了。",) * 2,
    ("卷一\n第一章 风\n风起了。\n第二章 雪\n雪来了。",) * 2,
]
