"""HTML pages: the text of the page, without the site around it where there is one.

A page with a site's furniture (menus, recommendations, footers) goes through trafilatura. A page
that is nothing but its text (a novel saved as one page) does not: trafilatura would change some
paragraphs, and there is nothing to take away. The sign of furniture is links. And where trafilatura
keeps less than nearly all of what looks like prose, the whole page is taken: an advertising line is
the cleaning rules' business, a lost paragraph is lost.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from hanllama.base.errors import InputError
from hanllama.reading.formats import Document, Fields, Piece, Reject, Source, _whole

SUFFIXES = (".html", ".htm", ".xhtml")
MAX_LINK_SHARE = 0.05  # of a page's characters; menus and recommendations make 20 % and more
MIN_PROSE_KEPT = 0.9
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w-]{2,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"""\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w-]{2,40})""")
_PROSE = re.compile(r"[^\n]{15,}")
_SENTENCE_END = re.compile(r"[。！？…；!?;.]")


def cut(source: Source) -> Iterator[Piece]:
    """The page as one piece."""
    return _whole.whole_file(source, "html")


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The page's text."""
    return _whole.parse_text(piece, main_text, stated_encoding)


def main_text(page: str) -> str:
    """The text of a page, without a site's furniture where that costs no prose.

    Raises InputError when the page needs trafilatura and it is not installed.
    """
    whole, link_characters = _all_text(page, True)
    if link_characters <= MAX_LINK_SHARE * len(whole):
        return whole
    main = _without_furniture(page)
    prose = [re.sub(r"\s", "", line) for line in _PROSE.findall(whole)]
    prose = [line for line in prose if _SENTENCE_END.search(line)]
    squeezed = re.sub(r"\s", "", main)
    kept = sum(len(line) for line in prose if line in squeezed)
    if not main or kept < MIN_PROSE_KEPT * sum(map(len, prose)):
        return whole
    return main + "\n"


def _without_furniture(page: str) -> str:
    try:
        import trafilatura
    except ImportError as error:
        raise InputError(
            f"to find the text in pages of web sites trafilatura is needed ({error}):"
            " pip install 'hanllama[data]'"
        ) from error
    # Comments are text too: of a forum they are all of it.
    return trafilatura.extract(page, include_comments=True) or ""


def stated_encoding(page: bytes) -> str:
    """The encoding that a page says it is in, or ""; a hint, since many are wrong."""
    head = page[:4096]
    match = _XML_ENCODING.search(head) or _CHARSET.search(head)
    if match is None:
        return ""
    try:
        return codecs.lookup(match[1].decode("ascii")).name
    except LookupError:
        return ""


def page_text(page: str, *, head: bool = True) -> str:
    """All the text of a page: a line for each block, without scripts, styles and markup.

    Args:
        page: HTML or XHTML.
        head: include the title.
    """
    return _all_text(page, head)[0]


def _all_text(page: str, head: bool) -> tuple[str, int]:
    """(the text, how many of its characters are links)."""
    parser = _TextOfPage(head)
    parser.feed(page)
    parser.close()
    lines = (line.strip(" ") for line in "".join(parser.parts).split("\n"))
    return "\n".join(lines).strip("\n") + "\n", parser.link_characters


class _TextOfPage(HTMLParser):
    _SILENT = frozenset({"script", "style", "noscript", "template", "svg"})
    _INLINE = frozenset(
        {"a", "abbr", "b", "big", "cite", "code", "del", "em", "font", "i", "ins", "kbd", "mark"}
        | {"q", "rp", "rt", "ruby", "s", "small", "span", "strong", "sub", "sup", "u", "wbr"}
    )

    def __init__(self, head: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.link_characters = 0
        self._silent_tags = self._SILENT if head else self._SILENT | {"title"}
        self._silent = self._preformatted = self._links = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._preformatted += tag == "pre"
        self._links += tag == "a"
        if tag in self._silent_tags:
            self._silent += 1
        elif tag not in self._INLINE:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        self._preformatted = max(self._preformatted - (tag == "pre"), 0)
        self._links = max(self._links - (tag == "a"), 0)
        if tag in self._silent_tags:
            self._silent = max(self._silent - 1, 0)
        elif tag not in self._INLINE:
            self._break()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data if self._preformatted else _flow(data))
            self.link_characters += len(data.strip()) if self._links else 0

    def _break(self) -> None:
        if self.parts and self.parts[-1] != "\n":
            self.parts.append("\n")


_WIDE = "[\u2e80-\u9fff\uff00-\uffef]"
_PARAGRAPH = re.compile(r"[ \t]*\n(?:[ \t]*\n[ \t\n]*|[ \t]*(?=\u3000))")
_BETWEEN_HAN = re.compile(rf"(?<={_WIDE})[ \t]*\n[ \t]*(?={_WIDE})")


def _flow(text: str) -> str:
    """White space in a page's source: a line break is a space, and none between Han characters.

    Pages of novels often mark paragraphs by nothing but an empty line or an indent of U+3000 in
    the source, which a browser would run together; here these stay line breaks.
    """
    paragraphs = _PARAGRAPH.split(text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(re.sub(r"[ \t\n\f]+", " ", _BETWEEN_HAN.sub("", p)) for p in paragraphs)
