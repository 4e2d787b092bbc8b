"""Markdown stays as it is, but for what no reader sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.documents import read
from hanllama.reading.formats.markdown import visible


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("---\ntitle: 题\ntags:\n  - 甲\n- 乙\ndraft:\n\n---\n# 题\n", "# 题\n"),
        ("\ufeff---\r\ntitle: 题\r\n---\r\n正文\r\n", "正文\r\n"),
        ('+++\ntitle = "题"\n[extra]\nx = 1\n+++\n正文', "正文"),
        ("---\n一段文字，不是设置。\n---\n后文", "---\n一段文字，不是设置。\n---\n后文"),
        ("---\ntitle: 没有结尾\n\n正文", "---\ntitle: 没有结尾\n\n正文"),
        ("正文\n---\ntitle: 题\n---\n", "正文\n---\ntitle: 题\n---\n"),
        ("甲<!-- 注 -->乙<!-- 多\n行 -->丙", "甲乙丙"),
        ("甲<!-- 没有结尾\n乙", "甲<!-- 没有结尾\n乙"),
        ("`<!-- 码 -->`甲<!-- 注 -->", "`<!-- 码 -->`甲"),
        ("```html\n<!-- 码 -->\n```\n<!-- 注 -->", "```html\n<!-- 码 -->\n```\n"),
        ("~~~\n<!-- 码 -->\n~~~\n甲", "~~~\n<!-- 码 -->\n~~~\n甲"),
        ("<b>甲</b> [乙](http://x) > * _丙_", "<b>甲</b> [乙](http://x) > * _丙_"),
    ],
)
def test_front_matter_and_comments_go_and_the_rest_stays(source: str, text: str) -> None:
    assert visible(source) == text


@pytest.mark.parametrize(
    "source", ["---\n" + "a: b\n" * 50_000, "```\n" * 20_001 + "<!--" * 20_000]
)
def test_hostile_files_take_no_time(source: str) -> None:
    visible(source)


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.markdown").write_bytes("---\ntitle: x\n---\n正文很长的一句话。".encode("gbk"))
    (document,), rejects = read(tmp_path)
    assert (document.text, document.encoding, rejects) == ("正文很长的一句话。", "gbk", [])
