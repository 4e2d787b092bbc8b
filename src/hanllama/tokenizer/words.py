"""Cut the training text at the borders of known words, so that no piece crosses one.

A vocabulary trained on plain Chinese joins the end of one word to the beginning of the next if the
two often meet, and so spells a word differently from place to place: `有一只小` and `狐狸` in a
story, `小狐狸` in the request for one. A model that must use the requested word then has to learn
that the two are the same. With known words (the names of a novel, the terms of a field, a
segmenter's dictionary), the text is cut before and after each of them.

Only training sees the words. The result is a plain model, which every back end reads as before; a
piece learnt elsewhere may still reach into a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hanllama.base.errors import InputError
from hanllama.reading import encoding


def read(path: Path) -> tuple[str, ...]:
    """The words of a file, one a line; the rest of a line is ignored (jieba's counts and tags).

    Raises InputError for a file that cannot be read or holds no word.
    """
    try:
        text = encoding.decode(path.read_bytes())[0]
    except OSError as error:
        raise InputError(f"words file {path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"words file {path}: {error}") from error
    words = tuple(dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip()))
    if not words:
        raise InputError(f"words file {path} holds no word; write one per line")
    return words


def cut(lines: Iterable[str], words: Sequence[str]) -> Iterator[str]:
    """Cut every line into words and the text between them; the longest word at a place wins.

    Without words, yield the lines unchanged.
    """
    if not words:
        yield from lines
        return
    known = set(words)
    lengths: dict[str, list[int]] = {}  # first character -> lengths of its words, longest first
    for word in known:
        lengths.setdefault(word[0], []).append(len(word))
    lengths = {first: sorted(set(found), reverse=True) for first, found in lengths.items()}
    for line in lines:
        begin = at = 0
        while at < len(line):
            found = lengths.get(line[at], ())
            length = next((n for n in found if line[at : at + n] in known), 0)
            if length:
                if begin < at:
                    yield line[begin:at]
                yield line[at : at + length]
                begin = at + length
            at += length or 1
        if begin < len(line):
            yield line[begin:]
