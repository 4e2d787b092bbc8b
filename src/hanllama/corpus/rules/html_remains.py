"""Take out the tags, entities and forum codes that a careless extraction left in the text.

`&nbsp;&nbsp;他走了。<br/>` is what many crawls hold. Entities become their characters; tags that
begin a new line in a browser become a line end, all others nothing; scripts and styles go with
what they hold. Only names that HTML or forums (UBB: `[b]`, `[img]…[/img]`) really have count as
tags, so 若a<b且b>c and [附记] stay. Code between ``` fences is left alone.

Source: the block and inline elements of HTML 4.01 and 5; the codes of Discuz! forums.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from hanllama.corpus.rules import Drop

_BLOCK = "address|article|blockquote|body|br|center|dd|div|dl|dt|footer|form|h[1-6]|head|header|hr"
_BLOCK += "|html|li|main|nav|ol|option|p|pre|section|select|table|tbody|td|th|thead|title|tr|ul"
_INLINE = "a|abbr|acronym|b|big|cite|code|del|em|font|i|iframe|img|input|ins|label|link|meta|nobr"
_INLINE += "|object|param|ref|s|script|small|span|strike|strong|style|sub|sup|tt|u|wbr"
_ATTRIBUTES = r"(?:\s[^<>]{0,500})?"  # longer ones are a lost `>`, not a tag

_WITH_CONTENT = re.compile(
    rf"<(script|style|iframe){_ATTRIBUTES}>.*?</\1\s*>|<!--.*?-->|\[img[^\]]{{0,30}}\].*?\[/img\]",
    re.IGNORECASE | re.DOTALL,
)
_BLOCK_TAG = re.compile(rf"\n?</?(?:{_BLOCK}){_ATTRIBUTES}/?>\n?", re.IGNORECASE)
_INLINE_TAG = re.compile(
    rf"</?(?:{_INLINE}){_ATTRIBUTES}/?>|<!doctype[^<>]{{0,300}}>", re.IGNORECASE
)
_FORUM_CODE = re.compile(
    r"\[/?(?:b|i|u|s|url|size|color|font|quote|code|align|img|email|list|hide)(?:=[^\]\n]{0,200})?\]",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{2,7}|#[xX][0-9a-fA-F]{2,6}|[a-zA-Z]{2,8}\d{0,2});")


@dataclass(frozen=True)
class Rule:
    def __call__(self, text: str) -> str | Drop:
        if not ("&" in text or "<" in text or "[" in text):
            return text
        parts = text.split("```")
        parts[::2] = [_clean(part) for part in parts[::2]]
        return "```".join(parts)


def _clean(text: str) -> str:
    while True:  # &amp;lt;p&amp;gt; is a tag that was escaped twice
        before = text
        if "&" in text:
            text = _ENTITY.sub(_character, text)
        if "<" in text:
            text = _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", _WITH_CONTENT.sub("", text)))
        if "[" in text:
            text = _FORUM_CODE.sub("", _WITH_CONTENT.sub("", text))
        if text == before:
            return text


def _character(entity: re.Match[str]) -> str:
    character = html.unescape(entity[0])
    return " " if character == "\xa0" else character


EXAMPLES = [
    ("&nbsp;&nbsp;他走了。<br/>天黑了。", "  他走了。\n天黑了。"),
    ('<p class="a">“谁？”</p>\n<p>“我。”</p>', "\n“谁？”\n\n“我。”\n"),
    ("小<font color=red>桃</font>笑了&hellip;&hellip;", "小桃笑了……"),
    ("&amp;lt;b&amp;gt;粗&amp;lt;/b&amp;gt;", "粗"),
    ("前<script>var a = 1;</script>后<!-- 广告 -->", "前后"),
    ("[b]第一章[/b][img]http://a.example/1.jpg[/img]", "第一章"),
    ("若a<b且b>c，则R&D。[附记]", "若a<b且b>c，则R&D。[附记]"),
    ("写成：\n```\n<p>一&amp;二</p>\n```\n即可。", "写成：\n```\n<p>一&amp;二</p>\n```\n即可。"),
]
