"""Markdown: the text as it is, without what no reader sees (front matter, HTML comments)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hanllama.formats import Document, Fields, Piece, Reject, Source, _whole

SUFFIXES = (".md", ".markdown")

# Between two lines of `---` (YAML) or `+++` (TOML) at the very beginning, and only where every line
# looks like settings: a text may open with a rule, and must not be lost up to the next one.
_FRONT_MATTER = re.compile(
    r"\A\ufeff?(---|\+\+\+)[ \t]*\r?\n"
    r"(?:[ \t]*\r?\n|[\w\-. ]+[ \t]*[:=](?:[ \t].*)?\r?\n|[ \t]+\S.*\n|-[ \t].*\n|[#\[\]{}].*\n)*?"
    r"(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)"
)
# What stands in a block of code is text, comments too.
_CODE_OR_COMMENT = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*\n)*?(?P=fence)[`~]*[ \t]*$|`[^`\n]+`)"
    r"|<!--(?:(?!-->)[\s\S])*-->(?P<line>(?<=^-->)\n)?",
    re.MULTILINE,
)


def cut(source: Source) -> Iterator[Piece]:
    """The file as one piece."""
    return _whole.whole_file(source, "markdown")


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The document without front matter and comments."""
    return _whole.parse_text(piece, visible)


def visible(text: str) -> str:
    """What a reader of the Markdown source is meant to see."""
    text = _FRONT_MATTER.sub("", text, count=1)
    if "<!--" not in text:
        return text
    return _CODE_OR_COMMENT.sub(lambda match: match["code"] or "", text)
