"""Of a page the text stays, all of it; the site around it goes where that costs no prose."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from builders.documents import SENTENCE, read
from hanllama.base.errors import InputError
from hanllama.reading.formats import html

MENU = "<ul>" + "".join(f'<li><a href="/{i}">频道{i}号</a></li>' for i in range(30)) + "</ul>"
NOTICE = "<div class='footer'>版权所有 某某小说网</div>"


def site(body: str) -> str:
    """A page of a web site around `body`."""
    head = "<html><head><meta charset='utf-8'><title>渡口_某某小说网</title></head><body>"
    return f"{head}<div class='nav'>{MENU}</div>{body}<div class='side'>{MENU}</div>{NOTICE}</body>"


def paragraphs(count: int) -> list[str]:
    return [f"第{number}段。{SENTENCE}" for number in range(count)]


@pytest.fixture
def trafilatura() -> None:
    pytest.importorskip("trafilatura", exc_type=ImportError)


@pytest.mark.usefixtures("trafilatura")
@pytest.mark.parametrize(
    "body",
    [
        "<h1>渡口</h1><div id='content'>"
        + "<br/><br/>&nbsp;&nbsp;".join(paragraphs(40))
        + "</div>",
        "<article><h1>渡口</h1>" + "".join(f"<p>{p}</p>" for p in paragraphs(8)) + "</article>",
        "<table>" + "".join(f"<tr><td>{p}</td></tr>" for p in paragraphs(12)) + "</table>",
    ],
    ids=["novel", "article", "table"],
)
def test_of_a_site_only_the_text_stays(tmp_path: Path, body: str) -> None:
    (tmp_path / "a.html").write_text(site(body), encoding="utf-8")
    (document,), rejects = read(tmp_path)
    assert not rejects and "频道" not in document.text
    for paragraph in paragraphs(8):
        assert document.text.count(paragraph) == 1


@pytest.mark.usefixtures("trafilatura")
def test_prose_that_would_be_lost_is_kept_with_the_site_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = site("".join(f"<p>{p}</p>" for p in paragraphs(20)))
    monkeypatch.setattr(html, "_without_furniture", lambda page: "\n".join(paragraphs(17)))
    assert "频道" in html.main_text(page) and paragraphs(20)[-1] in html.main_text(page)
    monkeypatch.setattr(html, "_without_furniture", lambda page: "\n".join(paragraphs(19)))
    assert html.main_text(page) == "\n".join(paragraphs(19)) + "\n"


def test_a_bare_page_loses_nothing_and_needs_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    page = (
        "<html><head><title>红楼梦</title><style>p {color: red}</style></head><body>"
        "<script>alert('x')</script><h1>第一回</h1>\n　　此开卷<b>第一</b>回也。\n\n　　作者自云，"
        "\n因曾历过&lt;梦幻&gt;。<br>诗曰<p>a\nb</p><pre>\n甲\n乙</pre></body></html>"
    )
    (tmp_path / "a.html").write_bytes(page.encode("gbk"))
    (document,), rejects = read(tmp_path)
    assert not rejects and document.encoding == "gbk"
    assert [line for line in document.text.split("\n") if line] == [
        "红楼梦",
        "第一回",
        "　　此开卷第一回也。",
        "　　作者自云，因曾历过<梦幻>。",
        "诗曰",
        "a b",
        "甲",
        "乙",
    ]


def test_without_the_library_a_site_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    (tmp_path / "a.html").write_text(site(f"<p>{SENTENCE}</p>"), encoding="utf-8")
    with pytest.raises(InputError, match=r"pip install 'hanllama\[data\]'"):
        read(tmp_path)


def test_what_a_page_says_of_its_encoding_is_a_hint_and_no_more(tmp_path: Path) -> None:
    body = f"<p>{SENTENCE}</p>"
    cases = {
        "wrong": (f"<meta charset=big5>{body}".encode("gbk"), "gbk"),
        "unknown": (f"<meta charset=x-nonsense>{body}".encode("gbk"), "gbk"),
        "right": (f"<meta content='text/html; charset=GB2312'>{body}".encode("gbk"), "gbk"),
        "none": (body.encode("utf-16"), "utf-16-le"),
    }
    for name, (data, _) in cases.items():
        (tmp_path / f"{name}.html").write_bytes(data)
    documents, rejects = read(tmp_path)
    assert not rejects
    assert {Path(d.id).stem: d.encoding for d in documents} == {
        name: encoding for name, (_, encoding) in cases.items()
    }
    assert {d.text for d in documents} == {SENTENCE + "\n"}


def test_stated_encodings_are_understood() -> None:
    for page, encoding in (
        (b'<meta http-equiv="Content-Type" content="text/html; charset=gb2312" />', "gb2312"),
        (b"<META CHARSET=Big5>", "big5"),
        (b'<?xml version="1.0" encoding="UTF-8"?><html>', "utf-8"),
        (b"<p>charset=gbk</p>", ""),
    ):
        assert html.stated_encoding(page) == encoding


def test_a_novel_saved_as_one_page_is_whole(shared_data: Path) -> None:
    (document,), rejects = read(shared_data / "messy" / "honglou_eownen.html")
    assert not rejects
    page = (shared_data / "messy" / "honglou_eownen.html").read_text(encoding="utf-8")
    han = "[\u4e00-\u9fff]"
    body = page[page.index("<body>") :]
    assert len(re.findall(han, document.text)) == len(re.findall(han, body)) + len("红楼梦")
