"""Text of any kind and encoding -> one stream of documents; what cannot be used -> quarantine.

A file is first cut into pieces that can be parsed anywhere (`pieces`), then each piece is parsed
(`parse`): a book is one piece, JSON lines are runs of lines, Parquet its row groups. The cut is
cheap and the parsing is not, so a cleaner hands the pieces to its worker processes and still gets
the documents in order; `read` simply does both.

A record that cannot be used never stops the work and is never lost in silence: it becomes a
`Reject` with file, line and reason, is counted, and lands in `quarantine.jsonl`.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import functools
import glob as globbing
import gzip
import json
import os
import re
import stat
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from hanllama import fs
from hanllama.encoding import decode, decode_lines
from hanllama.errors import InputError

__all__ = [
    "Document",
    "Fields",
    "Piece",
    "Quarantine",
    "Reject",
    "Survey",
    "decode",
    "document_line",
    "files",
    "parse",
    "pieces",
    "read",
    "read_file",
    "reject_line",
    "standard_input",
    "survey",
    "write_jsonl",
]

TEXT_SUFFIXES = (".txt", ".md", ".html", ".htm")  # one file is one document
LINE_SUFFIXES = (".jsonl", ".ndjson")
COMPRESSIONS = (".gz", ".zst")
SUFFIXES = (*TEXT_SUFFIXES, *LINE_SUFFIXES, ".json", ".parquet")

# What stands in a corpus folder and is not corpus.
_NOT_CORPUS = re.compile(
    r"(.*\.)?quarantine\.jsonl|(clusters|dropped)\.jsonl|report\.[^.]+|SHA256SUMS|manifest\.json"
)

MAX_RECORD_BYTES = 32 * 2**20  # a line longer than any book is a damaged file, not a document
MAX_FILE_BYTES = 256 * 2**20  # a file that is one document is held in memory whole
CHUNK_BYTES = 2**20
MAX_RAW_CHARACTERS = 2000  # of a reject, kept to look at


@dataclass(slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        text: the text itself, any Unicode, lines ended by `\\n` or as they were.
        id: unique where the data has ids; else `source`, with `:line` for a record of many.
        source: where it came from; `folder/file` unless the record says otherwise.
        category: a label of the record, if it has one.
        encoding: of the file it was read from.
        licence: as the record states it.
    """

    text: str
    id: str = ""
    source: str = ""
    category: str = ""
    encoding: str = "utf-8"
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field of a JSON, CSV or Parquet record is what; a licence may be spelt `license`."""

    text: str = "text"
    id: str = "id"
    source: str = "source"
    category: str = "category"
    licence: str = "licence"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used: `line` counts from 1 (array elements and Parquet rows too)."""

    file: str
    line: int
    reason: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that can be parsed on its own, in any process.

    Attributes:
        path: the file; `-` for standard input.
        kind: `text` (the whole file is one document), `lines` or `rows` (a Parquet row group).
        first: the number of the first line or row.
        lines: for `lines`, their bytes; a line that is already known to be unusable is a Reject.
            For `text` from standard input, its bytes.
        group: for `rows`, the number of the row group.
        size: its share of the file's bytes on disk, for a progress display.
    """

    path: str
    kind: str
    first: int = 1
    lines: tuple[bytes | Reject, ...] = ()
    group: int = 0
    size: int = 0


class Quarantine:
    """Where unusable records go: JSON lines with `file`, `line`, `reason`, `raw`.

    `raw` holds the first 2,000 characters. Without a path the records are counted and not kept.

        with Quarantine(folder / "quarantine.jsonl") as quarantine:
            for document in read(inputs, quarantine): ...
        print(quarantine.count, quarantine.reasons.most_common())
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.count = 0
        self.reasons: Counter[str] = Counter()
        self.first: Reject | None = None
        self._out: IO[bytes] | None = None

    def __enter__(self) -> Quarantine:
        if self.path is not None:
            with fs.storage(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._out = open(self.path, "wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._out is not None and self.path is not None:
            with fs.storage(self.path):
                self._out.close()
            self._out = None

    def add(self, file: str | Path, line: int, reason: str, raw: str | bytes = "") -> None:
        """Keep one record. Bytes that are no UTF-8 are shown as `\\xNN`."""
        if isinstance(raw, bytes):
            raw = _show(raw)
        self.put(Reject(str(file), line, reason, raw[:MAX_RAW_CHARACTERS]))

    def put(self, reject: Reject) -> None:
        """Keep one record that `parse` gave."""
        self.count += 1
        self.reasons[reject.reason] += 1
        self.first = self.first or reject
        if self._out is not None and self.path is not None:
            with fs.storage(self.path):
                self._out.write(reject_line(reject))

    def flush(self) -> None:
        """Hand what was added to the system, so that the file can be read."""
        if self._out is not None and self.path is not None:
            with fs.storage(self.path):
                self._out.flush()

    def summary(self) -> str:
        """`3 x invalid JSON, 1 x line is not valid UTF-8; first a.jsonl, line 7`."""
        if self.first is None:
            return "nothing"
        reasons = ", ".join(f"{n} x {reason}" for reason, n in self.reasons.most_common(3))
        return f"{reasons}; first: {self.first.file}, line {self.first.line}"


# --- which files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """The files that will be read, and those in the given folders that are of no known kind."""

    files: tuple[Path, ...]
    ignored: tuple[Path, ...]


def files(inputs: Sequence[str]) -> list[Path]:
    """The corpus files of folders (recursively), globs and files.

    Each input's files are sorted; the inputs keep the order they were given in, and a file that is
    reached twice comes once. Hidden files and what accompanies a corpus (quarantine, report,
    manifest, checksums) are no corpus files. Loops of symbolic links are walked once.

    Raises InputError when an input is missing or of no known kind, or when nothing is found.
    """
    return list(survey(inputs).files)


def survey(inputs: Sequence[str]) -> Survey:
    """Like `files`, with the files that are of no known kind."""
    found: dict[str, Path] = {}
    ignored: list[Path] = []
    for name in inputs:
        for path in _expand(str(name)):
            explicit = str(path) == str(Path(name))
            if _is_corpus_file(path):
                found.setdefault(os.path.realpath(path), path)
            elif explicit:
                raise InputError(f"{path}: cannot read files of this kind; {_understood()}")
            elif not _NOT_CORPUS.fullmatch(path.name):
                ignored.append(path)
    if not found:
        where = ", ".join(str(name) for name in inputs) or "no input"
        raise InputError(f"{where}: no file to read; {_understood()}")
    return Survey(tuple(found.values()), tuple(ignored))


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return _walk(path)
    if path.exists():
        return [path]
    if globbing.has_magic(name):
        matches = sorted(globbing.glob(name, recursive=True))
        if matches:
            return [f for m in matches for f in (_walk(Path(m)) if os.path.isdir(m) else [Path(m)])]
        raise InputError(f"{name}: no file matches")
    raise InputError(f"{name} does not exist; give a file, a folder or a glob")


def _walk(folder: Path) -> list[Path]:
    """Every visible file below a folder, sorted; each real folder is entered once."""
    seen: set[str] = set()
    found: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _unreadable(error: OSError) -> None:
    raise InputError(f"folder {error.filename} cannot be read: {error.strerror}") from error


def _is_corpus_file(path: Path) -> bool:
    return _kind(path) in SUFFIXES and not _NOT_CORPUS.fullmatch(path.name)


def _kind(path: Path) -> str:
    """`book.TXT.gz` -> `.txt`."""
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix.lower()


def _understood() -> str:
    return f"understood are {' '.join(SUFFIXES)}, each also with .gz or .zst"


# --- the stream --------------------------------------------------------------------------------


def read(
    inputs: Sequence[str],
    quarantine: Quarantine,
    *,
    fields: Fields | None = None,
    text_field: str = "text",
) -> Iterator[Document]:
    """Every document of the inputs, in the order of `files`; `-` is standard input.

    Raises InputError (before the first document) when an input is missing or nothing is found.
    """
    if list(inputs) == ["-"]:
        return _parsed(standard_input(), quarantine, fields or Fields(text_field))
    if "-" in inputs:
        raise InputError("standard input (-) cannot be mixed with files; give one or the other")
    paths = files(inputs)
    fields = fields or Fields(text_field)
    return (d for p in paths for d in read_file(p, quarantine, fields=fields))


def read_file(
    path: str | Path,
    quarantine: Quarantine,
    *,
    fields: Fields | None = None,
    text_field: str = "text",
) -> Iterator[Document]:
    """The documents of one file; `fields` names the parts of JSON and Parquet records."""
    return _parsed(pieces(Path(path)), quarantine, fields or Fields(text_field))


def _parsed(parts: Iterable[Piece], quarantine: Quarantine, fields: Fields) -> Iterator[Document]:
    for piece in parts:
        for item in parse(piece, fields):
            if isinstance(item, Reject):
                quarantine.put(item)
            else:
                yield item


def pieces(path: Path) -> Iterator[Piece]:
    """Cut a file into pieces, reading no more of it than the cut needs."""
    kind, name = _kind(path), str(path)
    try:
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe that nobody writes to would wait for ever.
            reason = "cannot be read: not a regular file"
            yield Piece(name, "lines", lines=(Reject(name, 1, reason),))
        elif kind in TEXT_SUFFIXES:
            yield Piece(name, "text", size=size)
        elif kind == ".parquet":
            yield from _row_groups(path, size)
        elif kind == ".json":
            yield from _runs(name, _json_elements(name, _chunks(path)), size)
        else:
            yield from _runs(name, _lines(name, _chunks(path)), size)
    except OSError as error:
        yield Piece(name, "lines", lines=(Reject(name, 1, f"cannot be read: {error.strerror}"),))


def standard_input() -> Iterator[Piece]:
    """Standard input as pieces: JSON lines when its first character is `{`, else one document."""
    stream = sys.stdin.buffer
    head = stream.read(CHUNK_BYTES)
    if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{":
        rest = iter(lambda: stream.read(CHUNK_BYTES), b"")
        yield from _runs("-", _lines("-", _chain(head, rest)), 0)
    else:
        yield Piece("-", "text", lines=(head + stream.read(MAX_FILE_BYTES + 1),))


def parse(piece: Piece, fields: Fields | str = Fields()) -> Iterator[Document | Reject]:
    """The documents and rejects of a piece, in order; a bare name is that of the text's field."""
    if isinstance(fields, str):
        fields = Fields(text=fields)
    if piece.kind == "text":
        yield from _parse_text(piece)
    elif piece.kind == "rows":
        yield from _parse_rows(piece, fields)
    else:
        for number, line in enumerate(piece.lines, piece.first):
            if isinstance(line, Reject):
                yield line
            elif line.strip():
                yield _parse_line(piece.path, number, line, fields)


def write_jsonl(path: Path, documents: Iterable[Document]) -> int:
    """Write documents as JSON lines in one step, compressed by suffix; returns how many."""
    count = 0
    beside = path.with_name(f".tmp-{path.name}")
    with fs.storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _compressed(beside, path.suffix.lower()) as out:
                for document in documents:
                    out.write(document_line(document))
                    count += 1
            with open(beside, "rb") as written:
                os.fsync(written.fileno())
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        os.replace(beside, path)
        fs.sync_folder(path.parent)
    return count


def document_line(document: Document) -> bytes:
    """A document as one line of a corpus: `text`; `id`, `source`, `category`, `licence` if set."""
    entry = {"text": document.text}
    for name in ("id", "source", "category", "licence"):
        if value := getattr(document, name):
            entry[name] = value
    return _json_line(entry)


def reject_line(reject: Reject) -> bytes:
    """A reject as one line of `quarantine.jsonl`."""
    return _json_line({name: getattr(reject, name) for name in ("file", "line", "reason", "raw")})


# --- a file that is one document ---------------------------------------------------------------


def _parse_text(piece: Piece) -> Iterator[Document | Reject]:
    data, broken = _whole(piece)
    if broken:
        yield Reject(piece.path, data.count(b"\n") + 1, broken)
        # The last line is cut anywhere, even inside a character.
        data = data[: data.rfind(b"\n") + 1]
    if len(data) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 2**20
        yield Reject(piece.path, 1, f"longer than {limit} MiB as one document: split it into files")
        return
    if not data:
        if not broken:
            yield Reject(piece.path, 1, "empty file")
        return
    try:
        text, encoding = decode(data)
    except InputError as error:
        try:
            lines, encoding = decode_lines(data)
        except InputError:
            yield Reject(piece.path, 1, str(error), _show(data[:MAX_RAW_CHARACTERS]))
            return
        raw = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if line is None:
                reason = f"line is not valid {encoding} (the rest of the file is)"
                yield Reject(piece.path, number, reason, _show(raw[number - 1]))
        text = "\n".join(line for line in lines if line is not None)
    if _kind(Path(piece.path)) in (".html", ".htm"):
        text = html_text(text)
    source = _source(piece.path)
    yield Document(text, id=source, source=source, encoding=encoding)


def _whole(piece: Piece) -> tuple[bytes, str]:
    """(the bytes of the file, why they end too early or "")."""
    if piece.path == "-":
        (data,) = piece.lines
        assert isinstance(data, bytes)
        return data, ""
    collected = bytearray()
    try:
        for chunk in _chunks(Path(piece.path)):
            collected += chunk
            if len(collected) > MAX_FILE_BYTES:  # also what stops a decompression bomb
                break
    except (OSError, EOFError, zlib.error) as error:
        return bytes(collected), _broken(error)
    return bytes(collected), ""


def html_text(page: str) -> str:
    """The text of an HTML page: a line for each block, without scripts, styles and markup."""
    parser = _TextOfPage()
    parser.feed(page)
    parser.close()
    lines = (line.strip(" ") for line in "".join(parser.parts).split("\n"))
    return "\n".join(lines).strip("\n") + "\n"


class _TextOfPage(HTMLParser):
    _SILENT = frozenset({"script", "style", "noscript", "template", "svg"})
    _INLINE = frozenset(
        {"a", "abbr", "b", "big", "cite", "code", "del", "em", "font", "i", "ins", "kbd", "mark"}
        | {"q", "rp", "rt", "ruby", "s", "small", "span", "strong", "sub", "sup", "u", "wbr"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0
        self._preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._preformatted += tag == "pre"
        if tag in self._SILENT:
            self._silent += 1
        elif tag not in self._INLINE:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        self._preformatted = max(self._preformatted - (tag == "pre"), 0)
        if tag in self._SILENT:
            self._silent = max(self._silent - 1, 0)
        elif tag not in self._INLINE:
            self._break()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data if self._preformatted else _flow(data))

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


# --- records in lines, arrays and tables -------------------------------------------------------


def _parse_line(file: str, number: int, line: bytes, fields: Fields) -> Document | Reject:
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Reject(file, number, "line is not valid UTF-8", _show(line))
    except (ValueError, RecursionError):
        return Reject(file, number, "invalid JSON", _show(line))
    return _document(file, number, record, fields) or _unusable(
        file, number, record, fields, _show(line)
    )


def _document(file: str, number: int, record: Any, fields: Fields) -> Document | None:
    """The document in a record, None if it has none."""
    if not isinstance(record, dict):
        return None
    text = record.get(fields.text)
    if not isinstance(text, str) or not _is_unicode(text):
        return None
    source = _label(record, fields.source) or _source(file)
    identity = _label(record, fields.id) or f"{_source(file)}:{number}"
    licence = _label(record, fields.licence) or _label(record, "license")
    return Document(text, identity, source, _label(record, fields.category), licence=licence)


def _unusable(file: str, number: int, record: Any, fields: Fields, raw: str) -> Reject:
    if record is None:
        reason = "null"
    elif not isinstance(record, dict):
        reason = "not a JSON object"
    elif fields.text not in record:
        reason = f"no field {fields.text!r}"
    elif record[fields.text] is None:
        reason = f"field {fields.text!r} is null"
    elif not isinstance(record[fields.text], str):
        reason = f"field {fields.text!r} is not text"
    else:
        reason = f"field {fields.text!r} holds half a surrogate pair"
    return Reject(file, number, reason, raw)


def _label(record: dict[str, Any], name: str) -> str:
    """A field that should be a short text; numbers count as their digits, the rest as absent."""
    value = record.get(name)
    if isinstance(value, str) and _is_unicode(value):
        return value
    return str(value) if isinstance(value, int) else ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _row_groups(path: Path, size: int) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            rows = [table.metadata.row_group(g).num_rows for g in range(table.num_row_groups)]
    except pa.ArrowInvalid as error:
        reason = f"not a Parquet file: {error}"
        yield Piece(str(path), "lines", lines=(Reject(str(path), 1, reason),), size=size)
        return
    first = 1
    for group, count in enumerate(rows):
        yield Piece(str(path), "rows", first, group=group, size=size // len(rows))
        first += count


def _parse_rows(piece: Piece, fields: Fields) -> Iterator[Document | Reject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = piece.first
    try:
        with pq.ParquetFile(piece.path) as table:
            if fields.text not in table.schema_arrow.names:
                rows = table.metadata.row_group(piece.group).num_rows
                reason = f"no field {fields.text!r}"
                yield from (Reject(piece.path, number + i, reason) for i in range(rows))
                return
            wanted = [*dataclasses.astuple(fields), "license"]
            columns = [c for c in table.schema_arrow.names if c in wanted]
            for batch in table.iter_batches(1024, row_groups=[piece.group], columns=columns):
                for record in batch.to_pylist():
                    yield _document(piece.path, number, record, fields) or _unusable(
                        piece.path, number, record, fields, ""
                    )
                    number += 1
    except (OSError, pa.ArrowException) as error:
        yield Reject(piece.path, number, f"row group {piece.group} cannot be read: {error}")


def _runs(file: str, lines: Iterator[bytes | Reject], size: int) -> Iterator[Piece]:
    """Group lines into pieces of about a megabyte."""
    first, run, held, left = 1, list[bytes | Reject](), 0, size
    # Text compresses to about a third; the last piece makes the sum right.
    ratio = 3 if Path(file).suffix.lower() in COMPRESSIONS else 1
    for line in lines:
        if held >= CHUNK_BYTES:
            share = min(held // ratio, left)
            yield Piece(file, "lines", first, tuple(run), size=share)
            first, run, held, left = first + len(run), [], 0, left - share
        run.append(line)
        held += len(line) if isinstance(line, bytes) else 0
    if run:
        yield Piece(file, "lines", first, tuple(run), size=left)


def _lines(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """Lines ended by `\\n` alone. What is too long, or lost in a damaged archive, is a Reject."""
    number, rest = 1, b""
    skipped = 0  # bytes of a line that is over the limit already
    head = b""
    try:
        for chunk in chunks:
            *whole, tail = chunk.split(b"\n")
            for line in whole:
                if skipped:
                    yield _too_long(file, number, head)
                    skipped = 0
                else:
                    line = rest + line
                    yield line if len(line) <= MAX_RECORD_BYTES else _too_long(file, number, line)
                rest, number = b"", number + 1
            if skipped:
                skipped += len(tail)
                continue
            rest += tail
            if len(rest) > MAX_RECORD_BYTES:
                skipped, head, rest = len(rest), rest[:MAX_RAW_CHARACTERS], b""
    except (OSError, EOFError, zlib.error) as error:
        yield Reject(file, number, _broken(error), _show(head if skipped else rest))
        return
    if skipped:
        yield _too_long(file, number, head)
    elif rest:
        yield rest


def _too_long(file: str, number: int, line: bytes) -> Reject:
    return Reject(file, number, f"longer than {MAX_RECORD_BYTES // 2**20} MiB", _show(line))


def _json_elements(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """The elements of a JSON array, one by one; other JSON is lines, or one object."""
    # A byte that is no UTF-8 travels through, so that only its own element is rejected.
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    scan = json.JSONDecoder().raw_decode
    buffer, at, number, opened, wanted = "", 0, 1, False, 0
    try:
        while True:
            chunk = next(chunks, b"")
            buffer, at = buffer[at:] + decoder.decode(chunk, final=not chunk), 0
            if not opened:
                buffer = buffer.lstrip()
                if buffer and buffer[0] != "[":
                    head = buffer.encode("utf-8", "surrogateescape")
                    yield from _json_objects(file, _chain(head, chunks))
                    return
                if not buffer and not chunk:
                    yield Reject(file, 1, "empty file")
                    return
                opened, at = bool(buffer), len(buffer[:1])
            # An element longer than a chunk is scanned again only once the buffer has doubled.
            if chunk and len(buffer) < wanted:
                continue
            while True:
                at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
                if at == len(buffer) or buffer[at] == "]":
                    break
                try:
                    _, end = scan(buffer, at)
                except (ValueError, RecursionError):
                    break
                if chunk and end == len(buffer):
                    break  # a number may go on in the next chunk
                yield buffer[at:end].encode("utf-8", "surrogateescape")
                at, number = end, number + 1
            if buffer[at : at + 1] == "]":
                return
            wanted = 2 * (len(buffer) - at)
            if not chunk or len(buffer) - at > MAX_RECORD_BYTES:
                reason = "invalid JSON: the array cannot be read from this element on"
                yield Reject(file, number, reason, _printable(buffer[at:]))
                return
    except (OSError, EOFError, zlib.error) as error:
        yield Reject(file, number, _broken(error), _printable(buffer[at:]))


_BETWEEN = re.compile(r"[ \t\r\n,]*")


def _json_objects(file: str, chunks: Iterator[bytes]) -> Iterator[bytes | Reject]:
    """A `.json` file without an array: JSON lines, or one object over many lines."""
    lines = _lines(file, chunks)
    first = next(lines)
    if isinstance(first, bytes) and not _is_json(first):
        # Not JSON lines. One object over many lines, or else damage, judged line by line.
        rest = list(lines)
        whole = b"\n".join([first, *(line for line in rest if isinstance(line, bytes))])
        if _is_json(whole):
            yield whole
            return
        lines = iter(rest)
    yield first
    yield from lines


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


# --- bytes -------------------------------------------------------------------------------------


def _chunks(path: Path) -> Iterator[bytes]:
    """The (decompressed) bytes of a file, about a megabyte at a time.

    A damaged archive gives what can be decompressed, then raises EOFError, OSError or zlib.error.
    """
    suffix = path.suffix.lower()
    if suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            # What precedes the damage in its own chunk is lost, so the chunks are small.
            while chunk := stream.read(CHUNK_BYTES // 16):
                yield chunk
    else:
        with gzip.open(path) if suffix == ".gz" else open(path, "rb") as file:
            while chunk := file.read1(CHUNK_BYTES):
                yield chunk


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


@contextlib.contextmanager
def _compressed(path: Path, suffix: str) -> Iterator[Any]:
    """A binary file to write to, compressed as `suffix` says."""
    if suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(str(path), "zstd") as out:
            yield out
    elif suffix == ".gz":
        # No name and no time inside: the same documents give the same bytes.
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped:
            yield zipped
    else:
        with open(path, "wb") as raw:
            yield raw


def _broken(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read from here on: {error.strerror}"
    return f"damaged or cut short from here on: {error}"


@functools.lru_cache(maxsize=16)  # asked for every record of a file
def _source(file: str) -> str:
    """`/home/me/novels/a.txt` -> `novels/a.txt`: enough to find it, nothing of the machine."""
    if file == "-":
        return "stdin"
    path = Path(os.path.abspath(file))
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def _show(raw: bytes) -> str:
    return raw[: 4 * MAX_RAW_CHARACTERS].decode("utf-8", "backslashreplace")[:MAX_RAW_CHARACTERS]


def _printable(text: str) -> str:
    return _show(text[:MAX_RAW_CHARACTERS].encode("utf-8", "surrogateescape"))


def _json_line(entry: dict[str, Any]) -> bytes:
    # A surrogate in `raw` has no UTF-8; everything else is written as it is, not as \uXXXX.
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
