"""Cut off the last sentence of a document when it is incomplete.

Crawls and context windows cut texts at a length; a model that reads them stops in the middle of a
sentence. The rule cuts the last line after its last whole sentence. Verse, lists, headings,
signatures and dates need no final mark. So the rule applies only to a last line of at least
`minimum` characters that holds a whole sentence, in a text whose other long lines end in a mark.
"""

from __future__ import annotations

import re

from hanllama.base.config import Count, checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._headings import is_heading
from hanllama.corpus.rules._lines import ends_sentence

_LAST_END = re.compile(r".*[。！？!?…][”’」』）)]*", re.DOTALL)
_SIGNED = re.compile(r"[）)》】\d年月日]\s*$|[^\s，。！？]\s+[^\s，。！？]{1,8}$")
_OTHERS = 50  # lines before the last that show whether this text's lines end in a mark


@checked
class Rule:
    minimum: Count = option(20, help="the fewest characters of a last line that may be cut")

    def __call__(self, text: str) -> str | Drop:
        body = text.rstrip()
        start = body.rfind("\n") + 1
        last = body[start:]
        if len(last) < self.minimum or ends_sentence(last) or _ends_by_right(last):
            return text
        others = [line for line in body[:start].split("\n")[-_OTHERS:] if len(line) >= self.minimum]
        if 10 * sum(map(ends_sentence, others)) < 9 * len(others):
            return text
        whole = _LAST_END.match(last)
        return body[:start] + whole[0] if whole else text


def _ends_by_right(line: str) -> bool:
    return bool(_SIGNED.search(line)) or is_heading(line)


EXAMPLES = [
    (
        "他走了很久，才看见村里的灯。\n雪停了。他推开门，看见炉子边上坐着一个不认识的老人，正",
        "他走了很久，才看见村里的灯。\n雪停了。",
    ),
    ("第一条 为了方便大家，定下这一个办法。\n第二条 本办法自二〇一九年七月一日起施行",) * 2,
    ("他走了很久，才看见村里的灯。\n（一九三六年冬，写于北平城外的一间小屋里）",) * 2,
    ("春风又绿了河边的柳树，燕子还没有回来\n去年的雪落在今年的山上，没有人去扫",) * 2,
    ("没有标点的一行字不论有多长都不能说它是断在句子中间的",) * 2,
]
