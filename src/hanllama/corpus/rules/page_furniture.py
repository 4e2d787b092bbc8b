"""Remove the parts of a page that are not text: page numbers, rules, menus, imprints.

“第 12 页”, “- 12 -”, “上一章 目录 下一章”, lines of dashes, “Copyright …”: only lines that hold
nothing else. In a menu of one entry a line, two different entries must follow each other. A line of
dashes becomes a blank line, since it separates two scenes; `***` and a line of …… stay, since
authors write them. A bare number may be a section's number, as in many novels. It counts as a page
number where numbers rise through the text and mostly stand inside sentences; the blank lines around
it are removed too, so that `hard_wraps` can join the two parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._lines import ends_sentence

_LONGEST = 100
_LONGEST_ENTRY = 12
_RULE = re.compile(
    r"(?=(?:\s*\S){6})[\s\-=_*~#+─━═－＝＿＊～—]*[\-=_*~#+─━═－＝＿＊～][\s\-=_*~#+─━═－＝＿＊～—]*"
)
_RULE_SIGNS = tuple("-=_*~#+─━═－＝＿＊～—")
_NUMBER = "[0-9０-９〇零一二三四五六七八九十百]{1,5}"
_PAGE = re.compile(
    rf"[-—－·\s]*第\s*{_NUMBER}\s*页(?:\s*[/，,]?\s*共\s*{_NUMBER}\s*页)?[-—－·\s]*"
    r"|[-—－·•]{1,3}\s*\d{1,4}\s*[-—－·•]{1,3}|\d{1,4}\s*/\s*\d{1,4}"
    r"|(?i:page|p\.)\s*\d{1,4}(?:\s*(?:of|/)\s*\d{1,4})?"
)
_STEP = (
    r"[上下]一?[章页回节篇]|[前后]一[章页回节篇]|(?:返回|回到?)(?:目录|首页|书页|书目|列表|顶部|上页)"
    "|章节目录|目录|目錄|首页"
)
_ITEM = (
    rf"{_STEP}|(?:加入|放入|添加|我的)(?:书签|书架|收藏)|(?:投|推荐票|投推荐票|推荐本书|打赏|打印|关闭|书签|章节列表|全屏|夜间|设置)"
    r"|(?:收藏|关于)本站|设为首页|联系我们|字[体号]\s*[:：]?\s*大\s*中\s*小|繁體|简体|TXT下载|txt下载|手机阅读|错误举报|章节报错|发表评论|查看评论|回复|顶部|←|→|<<|>>|«|»"
)
_MENU = re.compile(
    rf"(?:[\s\[\]【】|｜·:：<>()（）/-]*(?:{_ITEM})(?![一-鿿])?){{2,}}[\s\[\]【】|｜·:：<>()（）/-]*"
)
_ENTRY = re.compile(rf"[\s\[\]【】<>()（）]*(?:{_STEP})[\s\[\]【】<>()（）]*")
_BAR = re.compile(r"(?:[^|｜。，！？；\n]{1,10}[|｜]){4,}[^|｜。，！？；\n]{0,10}")
_IMPRINT = re.compile(
    r"(?:(?i:copyright)|©|\(C\)\s*\d{4}|版权所有).{0,80}|.{0,60}[A-Za-z一-鿿]ICP[备证]\s*[\d-]{6,}号?.{0,20}"
)
_PATH = re.compile(r"(?:首页|您?(?:的|现在的)?(?:当前)?位置[:：]).{0,6}[>＞»/].{0,60}")
_RECORD = re.compile(
    r"(?:.{0,40}\s)?(?:更新时间|发布时间|本章字数|字数|点击数?|推荐数)[:：]\s*\d[\d\s:：/-]*.{0,40}"
)
_TEMPLATE = re.compile(r"[-=—－＝]{3,}\s*(?:章节|正文)?(?:内容)?(?:开始|结束)\s*[-=—－＝]{3,}")
_BARE = re.compile(r"\s*(\d{1,4})\s*")


@dataclass(frozen=True)
class Rule:
    def __call__(self, text: str) -> str | Drop:
        lines = text.split("\n")
        kept = [line for line in map(_line, _without_page_numbers(lines)) if line is not None]
        return "\n".join(_without_entries(kept))


def _line(line: str) -> str | None:
    stripped = line.strip()
    if stripped.startswith(_RULE_SIGNS) and _RULE.fullmatch(stripped):
        return ""
    if len(stripped) > _LONGEST:  # a bar of links may be wide with white space
        stripped = " ".join(stripped.split())
    if not stripped or len(stripped) > _LONGEST:
        return line
    furniture = (
        _PAGE.fullmatch(stripped)
        or _MENU.fullmatch(stripped)
        or _BAR.fullmatch(stripped)
        or _IMPRINT.fullmatch(stripped)
        or _PATH.fullmatch(stripped)
        or _RECORD.fullmatch(stripped)
        or _TEMPLATE.fullmatch(stripped)
    )
    return None if furniture else line


def _without_entries(lines: list[str]) -> list[str]:
    """The lines without menus of one entry a line; blank lines may separate the entries."""
    taken: list[int] = []
    run: dict[int, str] = {}
    for index, line in enumerate([*map(str.strip, lines), "end"]):
        if line and len(line) <= _LONGEST_ENTRY and _ENTRY.fullmatch(line):
            run[index] = line
        elif line and run:
            taken += run if len(set(run.values())) > 1 else ()
            run = {}
    gone = set(taken)
    return [line for index, line in enumerate(lines) if index not in gone] if gone else lines


def _without_page_numbers(lines: list[str]) -> list[str]:
    """The lines without bare page numbers and the blank lines around them."""
    bare = [(index, int(line)) for index, line in enumerate(lines) if _BARE.fullmatch(line)]
    rising = [
        (index, number)
        for place, (index, number) in enumerate(bare)
        if _near(number, bare, place - 1) or _near(number, bare, place + 1)
    ]
    inside = [index for index, _ in rising if _interrupts(lines, index)]
    if len(rising) < 3 or 2 * len(inside) < len(rising):
        return lines
    taken: set[int] = set()
    for index, _ in rising:
        taken.add(index)
        if index in inside:
            taken.update(_blanks(lines, index, -1) + _blanks(lines, index, 1))
    return [line for index, line in enumerate(lines) if index not in taken]


def _near(number: int, bare: list[tuple[int, int]], place: int) -> bool:
    """Whether the neighbour at `place` is the number of a page nearby."""
    return 0 <= place < len(bare) and 0 < abs(bare[place][1] - number) <= 3


def _interrupts(lines: list[str], index: int) -> bool:
    """Whether the number at `index` stands in the middle of a sentence."""
    before = index - 1 - len(_blanks(lines, index, -1))
    after = index + 1 + len(_blanks(lines, index, 1))
    if before < 0 or after >= len(lines):
        return False
    return len(lines[before].strip()) >= 8 and not ends_sentence(lines[before])


def _blanks(lines: list[str], index: int, step: int) -> list[int]:
    """The blank lines next to `index` on one side."""
    found = []
    index += step
    while 0 <= index < len(lines) and not lines[index].strip():
        found.append(index)
        index += step
    return found


EXAMPLES = [
    ("他走了。\n第 12 页 共 300 页\n天黑了。", "他走了。\n天黑了。"),
    ("他走了。\n- 12 -\n--------------------\n天黑了。", "他走了。\n\n天黑了。"),
    ("上一章 | 返回目录 | 下一章\n天黑了。\n[上一页] [下一页]", "天黑了。"),
    ("首页 > 玄幻小说 > 某书\n作者：某某　更新时间：2019-08-04 10:20\n天黑了。", "天黑了。"),
    ("首页|原创|现代|言情|武侠|论坛\nCopyright © 某某网 版权所有", ""),
    ("他走了。\n[前一页]\n\n后一页\n回目录\n\n天黑了。", "他走了。\n\n\n天黑了。"),
    ("------正文内容开始------\n天黑了。\n-----结束-----", "天黑了。"),
    (
        "他慢慢地走到门口的时候\n7\n忽然停住了，回头看着\n\n8\n\n那一盏灯，想了很久\n9\n才走。",
        "他慢慢地走到门口的时候\n忽然停住了，回头看着\n那一盏灯，想了很久\n才走。",
    ),
    ("1\n他走了。\n2\n天黑了。\n3\n雪停了。",) * 2,
    ("***\n……\n“大小？”\n第一章\n——\n目录\n目录",) * 2,
]
