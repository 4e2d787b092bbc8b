"""Remove the tags, entities and forum codes that a careless extraction left in the text.

Many crawls hold `&nbsp;&nbsp;他走了。<br/>`. Entities become their characters; tags that begin a
new line in a browser become a line end, other tags are removed, scripts and styles with their
content. Programs and mathematics use the same signs. So a tag counts only when:

- its name is a tag of HTML or of forums (UBB: `[b]`, `[img]…[/img]`): 若a<y>b and [附记] stay;
- its attributes are attributes: 若 a<b 且 b>c stays;
- it is closed, if it is a forum code or follows an identifier: `a[i]` and `List<Object>` stay;
- the text does not speak about it: “<br>” and <b> 标签 stay.

Code between ``` fences or in `backticks` on one line is left alone; an unclosed fence is no fence.
A document whose markup is wrapped in markup more than a few times is dropped: nobody wrote it.

Source: the block and inline elements of HTML 4.01 and 5; the codes of Discuz! forums.
"""

from __future__ import annotations

import html
import re
import string
from dataclasses import dataclass

from hanllama.corpus.rules import Drop

_BLOCK = "address|article|blockquote|body|br|center|dd|div|dl|dt|footer|form|h[1-6]|head|header|hr"
_BLOCK += "|html|li|main|nav|ol|option|p|pre|section|select|table|tbody|td|th|thead|title|tr|ul"
_INLINE = "a|abbr|acronym|b|big|cite|code|del|em|font|i|iframe|img|input|ins|label|link|meta|nobr"
_INLINE += "|object|param|ref|s|script|small|span|strike|strong|style|sub|sup|tt|u|wbr"
_FORUM = "b|i|u|s|url|size|color|font|quote|code|align|img|email|list|hide"
_REST = r"(?:\s[^<>]{0,500})?"  # anything longer is a lost `>`, not a tag
_TAG = re.compile(
    rf"<(?P<ends>/?)(?:(?P<block>{_BLOCK})|(?P<inline>{_INLINE}))(?P<rest>{_REST})/?>"
    rf"|\[(?P<code_ends>/?)(?P<code>{_FORUM})(?P<value>(?:=[^\[\]\n]{{0,200}})?)\]"
    r"|<!doctype[^<>]{0,300}>",
    re.IGNORECASE,
)
_NO_VALUES = re.compile(
    r"(?:\s+(?:checked|compact|defer|disabled|hidden|multiple|noshade|nowrap|readonly|selected))*"
    r"[\s/]*",
    re.IGNORECASE,
)
_VALUE = re.compile(r"\s[a-z][\w:-]*\s*=", re.IGNORECASE | re.ASCII)
_KNOWN_VALUE = re.compile(  # for names of one letter, which are also variables
    r"\s(?:href|name|id|class|style|title|target|align|rel|lang|dir|on[a-z]+|data-\w+)\s*=",
    re.IGNORECASE,
)
_IDENTIFIER = frozenset(string.ascii_letters + string.digits + "_)]")
# No program has types of these names, so they are always tags.
_LAYOUT = re.compile(
    "br|center|dd|div|dt|font|h[1-6]|hr|img|li|nobr|span|td|th|tr|wbr", re.IGNORECASE
)
_QUOTES = {"“": "”", "‘": "’", "「": "」", "『": "』"}
_LABEL = re.compile(r" ?标签(?![:：云])")
_SPOKEN_OF = frozenset([*_QUOTES.values(), " ", "标"])

_WITH_CONTENT = re.compile(  # plain signs first, which the engine searches for quickly
    rf"<(?:(?P<name>script|style|iframe){_REST}>|(?P<comment>!--))"
    r"|\[(?P<image>img)[^\]]{0,30}\]",
    re.IGNORECASE,
)
_CLOSING = {
    kind: re.compile(closing, re.IGNORECASE)
    for kind, closing in {
        "script": r"</script\s*+>",
        "style": r"</style\s*+>",
        "iframe": r"</iframe\s*+>",
        "comment": "-->",
        "image": r"\[/img\]",
    }.items()
}
_AMPERSAND = re.compile("&(?:amp;|#38;|#x26;)++", re.IGNORECASE)  # escaped up to twenty times
_ENTITY = re.compile(r"&(?:#\d{2,7}|#[xX][0-9a-fA-F]{2,6}|[a-zA-Z]{2,8}\d{0,2});")

# Backticks, with the rest of the line when they are its last.
_BACKTICKS = re.compile(r"(?m)(`+)([^`\n]*$)?")
_HIDDEN = re.compile("\0(\\d*)\0")
_MOST_PASSES = 5


@dataclass(frozen=True)
class Rule:
    def __call__(self, text: str) -> str | Drop:
        for _ in range(_MOST_PASSES):
            before, text = text, _clean(text)
            if text == before:
                return text
        return Drop("markup wrapped in markup without end")


def _clean(text: str) -> str:
    """One pass over the text; marks replace the code during the pass."""
    if not ("&" in text or "<" in text or "[" in text):
        return text
    if "`" not in text:
        return _without_markup(text)
    hidden: list[str] = []
    text = _without_markup(_hide(text.replace("\0", "\0\0"), hidden))
    text = _HIDDEN.sub(lambda mark: hidden[int(mark[1])] if mark[1] else mark[0], text)
    return text.replace("\0\0", "\0")


def _without_markup(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(_character, _AMPERSAND.sub("&", text))
    if "<" in text or "[" in text:
        text = _without_tags(_without_contents(text))
    return text


def _character(entity: re.Match[str]) -> str:
    character = html.unescape(entity[0])
    return " " if character == "\xa0" else character


# Code ---------------------------------------------------------------------------------------


def _hide(text: str, hidden: list[str]) -> str:
    """`text` with a mark in place of each piece of code; the code is added to `hidden`."""
    runs = list(_BACKTICKS.finditer(text))
    closing: dict[int, int] = {}
    on_line: dict[int, int] = {}
    fences: dict[int, int] = {}
    for number in range(len(runs) - 1, -1, -1):  # backwards: the next run is known already
        ticks, rest = runs[number].groups()
        size, start = len(ticks), runs[number].start()
        is_fence = False
        if rest is not None:  # the last run of its line
            on_line.clear()
            if size > 2 and rest.isascii():
                is_fence = not text[text.rfind("\n", 0, start) + 1 : start].strip(" \t>")
        behind = fences if is_fence else on_line
        if size in behind:
            closing[number] = behind[size]
        on_line[size] = number
        if is_fence and not rest.strip():
            fences[size] = number
    kept, done, number = [], 0, 0
    while number < len(runs):
        if number in closing:
            start, end = runs[number].start(), runs[closing[number]].end(1)
            kept.append(text[done:start] + f"\0{len(hidden)}\0")
            hidden.append(text[start:end])
            done, number = end, closing[number]
        number += 1
    return "".join([*kept, text[done:]])


# Markup -------------------------------------------------------------------------------------


def _without_contents(text: str) -> str:
    """`text` without comments, scripts, styles and images that a forum shows."""
    kept, done, at = [], 0, 0
    never_closed = set()  # searching again for each opening would take hours
    while opening := _WITH_CONTENT.search(text, at):
        kind = (opening["name"] or str(opening.lastgroup)).lower()
        at = opening.end()
        if kind not in never_closed:
            closing = _CLOSING[kind].search(text, at)
            if closing is None:
                never_closed.add(kind)
            else:
                kept.append(text[done : opening.start()])
                done = at = closing.end()
    return "".join([*kept, text[done:]])


def _without_tags(text: str) -> str:
    tags = list(_TAG.finditer(text))
    closed: set[int] | None = None  # asked for last: most tags are known without
    kept, done = [], 0
    for number, tag in enumerate(tags):
        known = _is_markup(text, tag)
        if known is None:
            closed = _closed(text, tags) if closed is None else closed
            known = number in closed
        if known:
            start, end = tag.span()
            if tag["block"]:  # one line end for the tag and those around it
                start -= start > done and text[start - 1] == "\n"
                end += text.startswith("\n", end)
            kept += [text[done:start], "\n" if tag["block"] else ""]
            done = end
    return "".join([*kept, text[done:]])


def _closed(text: str, tags: list[re.Match[str]]) -> set[int]:
    """The numbers of the closed tags: a closing tag closes the nearest open tag of its name.

    An open tag behind an identifier is closed only when there is no other.
    """
    free: dict[str, list[int]] = {}
    glued: dict[str, list[int]] = {}
    closed = set()
    for number, tag in enumerate(tags):
        ends, block, inline, _, code_ends, code, _ = tag.groups()
        name = f"[{code}".lower() if code else (block or inline or "").lower()
        if ends or code_ends:
            if waiting := free.get(name) or glued.get(name):
                closed.add(waiting.pop())
        else:
            (glued if _is_glued(text, tag.start()) else free).setdefault(name, []).append(number)
    return closed


def _is_glued(text: str, start: int) -> bool:
    """Whether an identifier or a bracket stands right before `start`, as before an index."""
    return text[max(start - 1, 0) : start] in _IDENTIFIER


def _is_markup(text: str, tag: re.Match[str]) -> bool | None:
    """Whether a match of the tag pattern is markup, not code or prose; None: if it is closed."""
    ends, block, inline, rest, code_ends, code, value = tag.groups()
    start, end = tag.span()
    after = text[end : end + 1]
    if after in _SPOKEN_OF and (
        _QUOTES.get(text[max(start - 1, 0) : start]) == after or _LABEL.match(text, end)
    ):
        return False
    if code:
        return bool(code_ends) or (bool(value) and not _is_glued(text, start)) or None
    name = block or inline
    if name is None or ends:  # <!doctype> or a closing tag
        return True
    if rest and _NO_VALUES.fullmatch(rest) is None:
        return (_VALUE if len(name) > 1 else _KNOWN_VALUE).search(rest) is not None
    if len(name) > 1 or name in "pP":
        return not _is_glued(text, start) or _LAYOUT.fullmatch(name) is not None or None
    before = text[max(start - 8, 0) : start].rstrip(" \t")  # x <b> y
    return not _is_glued(before, len(before)) or None


EXAMPLES = [
    ("&nbsp;&nbsp;他走了。<br/>天黑了。", "  他走了。\n天黑了。"),
    ('<p class="a">“谁？”</p>\n<p>“我。”</p>', "\n“谁？”\n\n“我。”\n"),
    ("小<font color=red>桃</font>笑了&hellip;&hellip;", "小桃笑了……"),
    ("&amp;lt;b&amp;gt;粗&amp;lt;/b&amp;gt;", "粗"),
    (f"a?b&{'amp;' * 99}c", "a?b&c"),
    ("前<script>var a = 1;</script>后<!-- 广告 -->", "前后"),
    ("[b]第一章[/b][img]http://a.example/1.jpg[/img]", "第一章"),
    ("若a<b且b>c，则R&D。[附记]",) * 2,
    ("若 a<b 且 b>c；x<s and s>t；p<0.05。",) * 2,
    ("比较 a[i] 和 a[i+1]，再看 dp[i][s] 与 x[b]。",) * 2,
    ("x[i] 是[i]斜体[/i]，H<sub>2</sub>O<br>是水。", "x[i] 是斜体，H2O\n是水。"),
    ("List<Object> 与 vector<a> v; if(a<b&&c>d)，<T>，<a@b.example>。",) * 2,
    (
        "“<br>”换行，<b> 标签加粗，`<p>` 分段。<center>完",
        "“<br>”换行，<b> 标签加粗，`<p>` 分段。\n完",
    ),
    ("写成：\n```\n<p>一&amp;二</p>\n```\n即可。",) * 2,
    ("他说：“走吧```”\n天黑了。<br/>", "他说：“走吧```”\n天黑了。\n"),
]
