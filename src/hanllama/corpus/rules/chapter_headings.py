"""Give chapter headings one form, or remove them.

Kept, for novels: 　　第 一 回　风雪 becomes 第一回 风雪, without indent, after a blank line.
Removed (`keep: false`), where each chapter is a document and the heading only numbers it.
`_headings.py` defines a heading.
"""

from __future__ import annotations

import re

from hanllama.base.config import checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._headings import NUMERAL, is_heading

_INNER_SPACE = re.compile(
    rf"(?<=[第弟])\s+|(?<=[{NUMERAL}])\s+(?=[{NUMERAL}\s]*[章回节節卷部集篇幕])"
)
_SPACES = re.compile(r"\s+")


@checked
class Rule:
    keep: bool = option(True, help="keep headings, in one form; false removes them")

    def __call__(self, text: str) -> str | Drop:
        lines: list[str] = []
        for line in text.split("\n"):
            if not is_heading(line):
                lines.append(line)
            elif self.keep:
                if lines and lines[-1].strip():
                    lines.append("")
                lines.append(_SPACES.sub(" ", _INNER_SPACE.sub("", line.strip())))
        return "\n".join(lines)


EXAMPLES = [
    ("他走了。\n　　第 一 回　　风　雪夜\n天黑了。", "他走了。\n\n第一回 风 雪夜\n天黑了。"),
    ("楔子\n他走了。\n\nChapter 1\n天黑了。", {"keep": False}, "他走了。\n\n天黑了。"),
    ("第一章读完了。\n第二天，他走了。",) * 2,
    ("第一章读完了。\n序幕拉开，他走了。", {"keep": False}, "第一章读完了。\n序幕拉开，他走了。"),
]
