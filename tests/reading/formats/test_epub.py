"""A book in EPUB is one document in its reading order, and nothing in it can do harm."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from builders.documents import SENTENCE, read

CONTAINER = (
    '<?xml version="1.0"?><container version="1.0"'
    ' xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)
PACKAGE = (
    '<?xml version="1.0" encoding="utf-8"?><package xmlns="http://www.idpf.org/2007/opf">'
    "<metadata/><manifest>"
    '<item id="c2" href="Text/%E4%BA%8C.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="c1" href="Text/one.xhtml" media-type="application/xhtml+xml"/>'
    '<item id="toc" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    '<item id="pic" href="cover.jpg" media-type="image/jpeg"/>'
    '</manifest><spine><itemref idref="toc"/><itemref idref="c1"/><itemref idref="c2"/>'
    '<itemref idref="pic"/><itemref idref="absent"/></spine></package>'
)


def chapter(title: str, body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head>'
        f"<title>书名</title><style>p {{}}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )


def book(**changes: str | bytes) -> bytes:
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": PACKAGE,
        "OEBPS/nav.xhtml": chapter("目录", "<ol><li>第一章</li></ol>"),
        "OEBPS/Text/one.xhtml": chapter("第一章", f"<p>{SENTENCE}</p><p>甲&#8212;乙&nbsp;</p>"),
        "OEBPS/Text/二.xhtml": chapter("第二章", "<p>船又<br/>下了水。</p>"),
        "OEBPS/cover.jpg": b"\xff\xd8",
    }
    members |= {name.replace("__", "/").replace("_", "."): data for name, data in changes.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return out.getvalue()


TEXT = f"第一章\n{SENTENCE}\n甲—乙\xa0\n\n第二章\n船又\n下了水。\n"


def test_chapters_come_in_the_order_of_the_spine_without_titles_and_contents(
    tmp_path: Path,
) -> None:
    (tmp_path / "书.epub").write_bytes(book())
    (document,), rejects = read(tmp_path)
    assert not rejects
    assert document.text == TEXT
    assert document.id == document.source == f"{tmp_path.name}/书.epub"


def test_books_in_an_archive_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "books.zip", "w") as zipped:
        zipped.writestr("a.epub", book())
    (document,), rejects = read(tmp_path)
    assert document.text == TEXT and document.source.endswith("books.zip!a.epub") and not rejects


def test_a_damaged_chapter_costs_a_chapter(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(book(OEBPS__Text__one_xhtml=bytes(range(256)) * 20))
    (document,), (reject,) = read(tmp_path)
    assert document.text == "第二章\n船又\n下了水。\n"
    assert reject.file.endswith("a.epub!OEBPS/Text/one.xhtml") and reject.line == 1


def test_a_chapter_that_is_missing_is_named(tmp_path: Path) -> None:
    packed = book().replace(b"OEBPS/Text/one.xhtml", b"OEBPS/Text/eno.xhtml")
    (tmp_path / "a.epub").write_bytes(packed)
    (document,), (reject,) = read(tmp_path)
    assert "第二章" in document.text
    assert reject.file.endswith("one.xhtml") and "chapter cannot be read" in reject.reason


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    evil = PACKAGE.replace("<package", laughs + "<package")
    for number, codec in enumerate(("utf-8", "utf-16")):
        (tmp_path / f"{number}.epub").write_bytes(book(OEBPS__content_opf=evil.encode(codec)))
    documents, rejects = read(tmp_path)
    assert not documents
    assert all("declares entities" in r.reason for r in rejects) and len(rejects) == 2


def test_a_chapter_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(book(OEBPS__Text__one_xhtml=b" " * (40 * 2**20)))
    (document,), (reject,) = read(tmp_path)
    assert document.text.startswith("第二章") and "decompression bomb" in reject.reason


def test_what_is_no_book_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(b"no book")
    (tmp_path / "b.epub").write_bytes(book(**{"META-INF__container_xml": "<container/>"}))
    (tmp_path / "c.epub").write_bytes(book(OEBPS__content_opf="<package"))
    (tmp_path / "d.epub").write_bytes(book(OEBPS__content_opf="<package/>"))
    (tmp_path / "e.epub").write_bytes(book()[:300])
    documents, rejects = read(tmp_path)
    assert not documents
    assert [Path(r.file).name for r in rejects] == [f"{letter}.epub" for letter in "abcde"]
    assert "names no package document" in rejects[1].reason
    assert rejects[3].reason == "a book without text"
