"""Text of any kind and encoding -> one stream of documents; what cannot be used -> quarantine.

A file is first cut into pieces that can be parsed anywhere (`pieces`), then each piece is parsed
(`parse`): a book is one piece, JSON lines are runs of lines, Parquet its row groups. The cut is
cheap and the parsing is not, so a cleaner hands the pieces to its worker processes and still gets
the documents in order; `read` simply does both. What a kind of file needs is one module of
`hanllama.reading.formats`, found by the file's suffix; here is only what all of them share.

A record that cannot be used never stops the work and is never lost in silence: it becomes a
`Reject` with file, line and reason, is counted, and lands in `quarantine.jsonl`. So does a file or
a folder that may not be read.
"""

from __future__ import annotations

import functools
import glob as globbing
import io
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import orjson

from hanllama.base import fs, plugins
from hanllama.base.errors import InputError
from hanllama.reading.encoding import decode, decode_name
from hanllama.reading.formats import (
    Document,
    Fields,
    Format,
    Piece,
    RecordFormat,
    Reject,
    Source,
    Value,
    _records,
)
from hanllama.reading.formats import _archives as archive
from hanllama.reading.formats import _source as bytes_of
from hanllama.reading.quarantine import Quarantine, counted, json_line, reject_line

__all__ = [
    "Document",
    "Fields",
    "Piece",
    "Quarantine",
    "Reject",
    "Survey",
    "counted",
    "decode",
    "document_line",
    "files",
    "parse",
    "pieces",
    "read",
    "reject_line",
    "shown",
    "stamp",
    "standard_input",
    "survey",
    "write_jsonl",
]

FORMATS = "hanllama.reading.formats"
# What stands in a corpus folder and is not corpus.
_NOT_CORPUS = re.compile(
    r"(.*\.)?quarantine\.jsonl|(clusters|dropped|leaks)\.jsonl|report\.[^.]+|SHA256SUMS|manifest\.json"
)
_STANDARD = Fields()


# --- the stream --------------------------------------------------------------------------------


def read(
    inputs: Sequence[str], quarantine: Quarantine, fields: Fields | str = _STANDARD
) -> Iterator[Document]:
    """Every document of the inputs, in the order of `files`; `-` is standard input.

    Args:
        inputs: files, folders and globs.
        quarantine: takes what cannot be used.
        fields: which field of a record is what; a bare name is that of the text's field.

    Raises InputError (before the first document) when an input is missing or nothing is found.
    """
    return _parsed(survey(inputs).pieces(), quarantine, fields)


def _parsed(
    parts: Iterable[Piece], quarantine: Quarantine, fields: Fields | str
) -> Iterator[Document]:
    for piece in parts:
        for item in parse(piece, fields):
            if isinstance(item, Reject):
                quarantine.put(item)
            else:
                yield item


def pieces(path: Path, default: str = "") -> Iterator[Piece]:
    """Cut a file into pieces, reading no more of it than the cut needs.

    Args:
        default: the format of a file that is no archive and whose name ends like none of records.
    """
    file = source(path)
    name = file.name
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.listdir(path)  # `survey` lists a folder only when this fails
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe that nobody writes to would wait for ever.
            yield _rejected(file, "cannot be read: not a regular file")
            return
        if archive.is_archive(name):
            for member in archive.members(name, str(path)):
                if isinstance(member, Reject):
                    yield Piece(file, lines=(member,))
                elif archive.is_nested(member.name):
                    yield _rejected(member, "an archive inside of an archive: unpack it first")
                elif is_member(member.name[len(name) + 1 :]):
                    yield from cut(member)
        else:
            yield from cut(replace(file, size=status.st_size), default)
    except OSError as error:
        yield _rejected(file, f"cannot be read: {error.strerror or error}")


def source(path: Path, name: str = "") -> Source:
    """The bytes of a file that is no archive, called `name` where they are shown."""
    name = name or shown(path)
    return Source(name, str(path), compression=bytes_of.compression_of(name))


def cut(source: Source, default: str = "") -> Iterator[Piece]:
    """Bytes as pieces, by the format that the name says; `default` as in `pieces`."""
    name = _formats().get(source.suffix, default)
    if default and not hasattr(_format(name), "values"):
        name = default
    return _format(name).cut(source)


def _rejected(source: Source, reason: str) -> Piece:
    return Piece(source, lines=(Reject(source.name, 1, reason),))


def standard_input() -> Iterator[Piece]:
    """Standard input as pieces, compressed or not, told by its first bytes.

    `{` begins JSON lines and `[{` a JSON array; anything else is one document of text.
    """
    stream: IO[bytes] = sys.stdin.buffer
    head = stream.read(bytes_of.MAGIC_BYTES)
    if head.startswith((b"PK\x03\x04", b"PAR1")):
        reason = "an archive or a Parquet file cannot be read from a pipe: write it to a file first"
        yield _rejected(Source("-"), reason)
        return
    joined = io.BufferedReader(bytes_of.Joined(head, stream), bytes_of.CHUNK_BYTES)
    chunks = bytes_of.decompress(joined, bytes_of.compression_of_bytes(head))
    start, chunks = bytes_of.peek(chunks, 4096)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        name = "jsonl"
    elif re.match(rb"\s*\[\s*\{", start.removeprefix(b"\xef\xbb\xbf")):
        name = "json"
    else:
        name = "text"
    yield from _format(name).cut(Source("-", stream=chunks))


def parse(piece: Piece, fields: Fields | str = _STANDARD) -> Iterator[Document | Reject]:
    """The documents and rejects of a piece, in order; a bare name is that of the text's field."""
    if isinstance(fields, str):
        fields = Fields(text=fields)
    if piece.format:
        yield from _format(piece.format).parse(piece, fields)
    else:
        yield from (line for line in piece.lines if isinstance(line, Reject))


def holds_rows(piece: Piece) -> bool:
    """Whether a piece holds records (or rejects alone), and no text."""
    return not piece.format or hasattr(_format(piece.format), "values")


def values(piece: Piece, fields: Fields = _STANDARD) -> Iterator[Value | Reject]:
    """The records and rejects of a piece, in order, whatever their fields; see `reading.rows`."""
    if piece.format:
        yield from cast(RecordFormat, _format(piece.format)).values(piece, fields)
    else:
        yield from (line for line in piece.lines if isinstance(line, Reject))


def texts(piece: Piece, fields: Fields) -> Iterator[str | Reject]:
    """The texts of the documents that `parse` gives; of JSON nothing but the text is looked at."""
    if not piece.format or _format(piece.format).parse is not _records.parse:
        for item in parse(piece, fields):
            yield item if isinstance(item, Reject) else item.text
        return
    for value in _records.values(piece, fields):
        if isinstance(value, Reject):
            yield value
            continue
        _, record, _, is_unicode = value
        text = record.get(fields.text) if is_unicode and isinstance(record, dict) else None
        if isinstance(text, str):
            yield text
        else:
            for item in _records.documents(piece, fields, [value]):
                yield item if isinstance(item, Reject) else item.text


def write_jsonl(path: Path, documents: Iterable[Document]) -> int:
    """Write documents as JSON lines in one step, compressed by suffix; returns how many."""
    count = 0
    with fs.replacing(path) as beside, bytes_of.compressed(beside, path.suffix.lower()) as out:
        for document in documents:
            out.write(document_line(document))
            count += 1
    return count


def document_line(document: Document) -> bytes:
    """A document as one line of a corpus: `text`; `id`, `source`, `category`, `licence` if set."""
    try:  # the bytes of `json_line`, in a fifth of its time
        parts = [b'{"text": ', orjson.dumps(document.text)]
        for name in _LABELS:
            if value := getattr(document, name):
                parts += _LABELS[name], orjson.dumps(value)
        return b"".join((*parts, b"}\n"))
    except orjson.JSONEncodeError:  # half a surrogate pair
        entry = {name: getattr(document, name) for name in ("text", *_LABELS)}
        return json_line({name: value for name, value in entry.items() if value or name == "text"})


_LABELS = {name: f', "{name}": '.encode() for name in ("id", "source", "category", "licence")}


# --- which files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """The files that will be read, and what in the given folders is not read.

    `ignored` are files of no known kind, and links back to a folder that is read already.

    A folder that may not be listed stands among the files: to read it gives its reject. What
    `ignored` says of an archive's members is `archive.zip!member`.
    """

    files: tuple[Path, ...]
    ignored: tuple[Path, ...]
    is_standard_input: bool = False

    def pieces(self) -> Iterator[Piece]:
        """All that is read, cut into pieces."""
        if self.is_standard_input:
            yield from standard_input()
        for path in self.files:
            yield from pieces(path)

    @property
    def size(self) -> int:
        """The bytes on disk of the files that can be seen."""
        return sum(_size(path) for path in self.files)


def files(inputs: Sequence[str]) -> list[Path]:
    """The corpus files of folders (recursively), globs and files.

    Each input's files are sorted; the inputs keep the order they were given in, and a file that is
    reached twice comes once. Hidden files and what accompanies a corpus (quarantine, report,
    manifest, checksums) are no corpus files. Loops of symbolic links are walked once.

    Raises InputError when an input is missing or of no known kind, or when nothing is found.
    """
    found = survey(inputs)
    if found.is_standard_input:
        raise InputError("standard input (-) cannot be read twice; give a file, a folder or a glob")
    return list(found.files)


def survey(inputs: Sequence[str]) -> Survey:
    """Like `files`, with what is not read; `-` alone is standard input."""
    if "-" in inputs:
        if len(inputs) > 1:
            raise InputError("standard input (-) cannot be mixed with files; give one or the other")
        return Survey((), (), is_standard_input=True)
    found: dict[str, Path] = {}
    ignored: list[Path] = []
    for name in inputs:
        for path in _expand(str(name), ignored):
            explicit = str(path) == str(Path(name))
            if _is_corpus_name(path.name) or os.path.isdir(path):
                found.setdefault(os.path.realpath(path), path)
            elif explicit:
                raise InputError(f"{shown(path)}: cannot read files of this kind; {_understood()}")
            elif not _NOT_CORPUS.fullmatch(path.name):
                ignored.append(path)
    if not found:
        where = ", ".join(map(shown, inputs)) or "no input"
        raise InputError(f"{where}: no file to read; {_understood()}")
    for path in found.values():
        if archive.is_archive(path.name):
            names = archive.member_names(str(path))
            ignored += [Path(f"{path}!{name}") for name in names if _is_unknown(name)]
    return Survey(tuple(found.values()), tuple(ignored))


def _expand(name: str, again: list[Path]) -> list[Path]:
    path = Path(name)
    if os.path.isdir(path):
        return _walk(path, again)
    if os.path.lexists(path):
        return [path]
    if globbing.has_magic(name):
        matches = sorted(globbing.glob(name, recursive=True))
        if matches:
            folders = {m for m in matches if os.path.isdir(m)}
            walked = ([Path(m)] if m not in folders else _walk(Path(m), again) for m in matches)
            return [file for found in walked for file in found]
        raise InputError(f"{shown(name)}: no file matches")
    raise InputError(f"{shown(name)} does not exist; give a file, a folder or a glob")


def _walk(folder: Path, again: list[Path]) -> list[Path]:
    """Every visible file below a folder, sorted, and every folder that may not be listed.

    Each real folder is entered once, however many links lead to it; the other ways to it are added
    to `again`.
    """
    seen: set[str] = set()
    found: list[Path] = []

    def closed(error: OSError) -> None:
        found.append(Path(error.filename))

    for here, folders, names in os.walk(folder, onerror=closed, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            again.append(Path(here))
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _is_corpus_name(name: str) -> bool:
    """Whether a file of this name is read."""
    if _NOT_CORPUS.fullmatch(name):
        return False
    return archive.is_archive(name) or bytes_of.format_suffix(name) in _formats()


def is_member(name: str) -> bool:
    """Whether an archive's member of this name is read: by the rules for the files of a folder."""
    return not _is_hidden(name) and _is_corpus_name(name.rpartition("/")[2])


def _is_unknown(name: str) -> bool:
    """Whether an archive's member is neither read, nor refused, nor what accompanies a corpus."""
    file = name.rpartition("/")[2]
    aside = _is_hidden(name) or archive.is_nested(name) or _NOT_CORPUS.fullmatch(file)
    return not aside and not _is_corpus_name(file)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


@functools.cache
def _formats() -> dict[str, str]:
    """{suffix: the module of `hanllama.reading.formats` that reads it}."""
    return {suffix: n for n in plugins.names(FORMATS) for suffix in _format(n).SUFFIXES}


@functools.cache
def _format(name: str) -> Format:
    return cast(Format, plugins.load(FORMATS, name))


def _understood() -> str:
    compressions = " ".join(bytes_of.COMPRESSIONS)
    return (
        f"understood are {' '.join(sorted(_formats()))}, each also with {compressions}"
        " or inside of a .zip"
    )


def stamp(path: Path) -> tuple[int, int]:
    """(bytes, nanoseconds of the last change): what tells whether a file is still the one read.

    (0, 0) of a link to nowhere and whatever else cannot be seen: `pieces` names it.
    """
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:  # `pieces` names it
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def shown(path: str | Path) -> str:
    """A path to print and to keep; a file's name need not be UTF-8 on disk."""
    path = str(path)
    return path if path.isascii() else decode_name(os.fsencode(path))
