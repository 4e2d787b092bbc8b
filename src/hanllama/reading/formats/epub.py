"""EPUB: a book is one document, its chapters in the order of the spine.

An EPUB is a zip archive with an index in XML (the package document, OPF) and a page of XHTML for
each chapter. The index is read with Python's own parser after refusing what makes XML dangerous:
a document that declares entities. Sizes are bounded as for any archive.
"""

from __future__ import annotations

import io
import posixpath
import urllib.parse
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree

from hanllama.base.errors import InputError
from hanllama.reading.encoding import decode
from hanllama.reading.formats import Document, Fields, Piece, Reject, Source, _source, _whole
from hanllama.reading.formats.html import page_text, stated_encoding

SUFFIXES = (".epub",)
_CONTAINER = "META-INF/container.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def cut(source: Source) -> Iterator[Piece]:
    """The book as one piece."""
    return _whole.whole_file(source, "epub")


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The book; a chapter that cannot be read is a Reject, and the others stay."""
    data, why = piece.source.whole()
    if why:
        yield Reject(piece.path, 1, why)
        return
    chapters: list[str] = []
    left = _source.MAX_DOCUMENT_BYTES
    encoding = ""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            for number, name in enumerate(_spine(book), 1):
                try:
                    page = _member(book, name, left)
                    left -= len(page)
                    text, found = decode(page, stated_encoding(page))
                except _UNREADABLE as error:
                    yield Reject(f"{piece.path}!{name}", number, f"chapter cannot be read: {error}")
                    continue
                encoding = encoding or found
                chapters.append(page_text(text, head=False).strip("\n"))
    except _UNREADABLE as error:
        yield Reject(piece.path, 1, f"not an EPUB that can be read: {error}")
        return
    text = "\n\n".join(chapter for chapter in chapters if chapter)
    if not text:
        yield Reject(piece.path, 1, "a book without text")
        return
    place = piece.source.place
    yield Document(text + "\n", id=place, source=place, encoding=encoding)


_UNREADABLE = (
    *_source.DAMAGE, InputError, zipfile.BadZipFile, ElementTree.ParseError,
    NotImplementedError, RuntimeError, KeyError,
)  # fmt: skip


def _spine(book: zipfile.ZipFile) -> list[str]:
    """The members that are the book's pages, in reading order, without its table of contents."""
    container = _xml(book, _CONTAINER)
    rootfile = container.find(".//{*}rootfile")
    if rootfile is None:
        raise InputError(f"{_CONTAINER} names no package document")
    package_name = urllib.parse.unquote(rootfile.get("full-path", ""))
    package = _xml(book, package_name)
    folder = posixpath.dirname(package_name)
    pages: dict[str, str] = {}
    for item in package.iterfind(".//{*}manifest/{*}item"):
        contents = "nav" in item.get("properties", "").split()
        if item.get("media-type") in _PAGES and not contents:
            href = urllib.parse.unquote(item.get("href", "").partition("#")[0])
            pages[item.get("id", "")] = posixpath.normpath(posixpath.join(folder, href))
    order = [item.get("idref", "") for item in package.iterfind(".//{*}spine/{*}itemref")]
    return list(dict.fromkeys(pages[name] for name in order if name in pages))


def _xml(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    text, _ = decode(_member(book, name, _source.RATIO_FROM_BYTES))
    if "<!ENTITY" in text:
        raise InputError(f"{name} declares entities, which no book needs")
    return ElementTree.fromstring(text)


def _member(book: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """The bytes of a member; InputError when they are more than `limit` or a bomb."""
    info = book.getinfo(name)
    if _source.is_bomb(info.file_size, info.compress_size):
        raise InputError(f"{name} is a decompression bomb")
    if info.file_size > limit:
        raise InputError(f"the book is longer than {_source.MAX_DOCUMENT_BYTES // 2**20} MiB")
    return book.read(info)
