"""Markdown: the text as it is, without what no reader sees (front matter, HTML comments)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hanllama.reading.formats import Document, Fields, Piece, Reject, Source, _whole

SUFFIXES = (".md", ".markdown")

# Between two lines of `---` (YAML) or `+++` (TOML) at the very beginning, and only where every line
# looks like settings: a text may open with a rule, and must not be lost up to the next one.
_FRONT_MATTER = re.compile(
    r"\A\ufeff?(---|\+\+\+)[ \t]*\r?\n"
    r"(?:[ \t]*\r?\n|[\w\-. ]+[ \t]*[:=](?:[ \t].*)?\r?\n|[ \t]+\S.*\n|-[ \t].*\n|[#\[\]{}].*\n)*?"
    r"(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)"
)
# Where a comment begins, or code, in which it is text.
_OPENING = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})|(?P<code>`)|<!--", re.MULTILINE)


def cut(source: Source) -> Iterator[Piece]:
    """The file as one piece."""
    return _whole.whole_file(source, "markdown")


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The document without front matter and comments."""
    return _whole.parse_text(piece, visible)


def visible(text: str) -> str:
    """What a reader of the Markdown source is meant to see."""
    text = _FRONT_MATTER.sub("", text, count=1)
    parts, kept, at = [], 0, 0
    # A scan and no regular expression: what is never closed would make that one quadratic.
    while opening := _OPENING.search(text, at):
        if fence := opening["fence"]:
            end = text.find(f"\n{fence}", opening.end())
            if end < 0:
                break  # code to the end
            at = text.find("\n", end + 1)
            if at < 0:
                break
        elif opening["code"]:
            line_end = text.find("\n", opening.end())
            closing = text.find("`", opening.end(), line_end if line_end >= 0 else len(text))
            at = closing + 1 if closing >= 0 else opening.end()
        else:
            end = text.find("-->", opening.end())
            if end < 0:
                break  # no comment: a text must not be lost to its end
            parts.append(text[kept : opening.start()])
            kept = at = end + len("-->")
    return "".join([*parts, text[kept:]])
