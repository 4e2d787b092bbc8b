"""Plain text: one file is one document, as it stands."""

from __future__ import annotations

from collections.abc import Iterator

from hanllama.reading.formats import Document, Fields, Piece, Reject, Source, _whole

SUFFIXES = (".txt", ".text")


def cut(source: Source) -> Iterator[Piece]:
    """The file as one piece."""
    return _whole.whole_file(source, "text")


def parse(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    """The document, in whichever encoding it was."""
    return _whole.parse_text(piece, lambda text: text)
