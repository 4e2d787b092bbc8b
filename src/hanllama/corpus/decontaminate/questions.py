"""Read the questions of any evaluation folder: passage, stem and options as one text each.

Benchmarks are published as CSV with a header (C-Eval, CMMLU) or without (MMLU), as tables of
few-shot examples whose cells are records (AGIEval), as JSON lines under any suffix (FewCLUE), as
JSON arrays, or nested in an object (GAOKAO-Bench). The content of a file decides its form, the
names of the fields decide their meaning. Fields that ask are read. Fields that answer, explain or
label are not: an explanation found elsewhere is no leaked question.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hanllama.base.errors import InputError
from hanllama.reading import records
from hanllama.reading.formats import Source, csv
from hanllama.reading.records import Reject, decode
from hanllama.reading.rows import Row, rows

STEMS = (
    "question", "input", "instruction", "prompt", "problem", "query", "stem", "content",
    "sentence", "sentence1", "sentence2", "premise", "hypothesis", "goal", "title", "text",
)  # fmt: skip
PASSAGES = ("passage", "context", "article", "paragraph", "story", "document")
OPTIONS = ("options", "choices", "candidates", "endings")
_OPTION = re.compile(r"[a-h]|(option|choice|solution|answer|sol|ending|opt)[_ ]?[a-h0-9]")
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
# Folder names that name a part of a benchmark, not the benchmark.
_PARTS = {"dev", "test", "val", "valid", "validation", "train", "data", "auxiliary_train"}


@dataclass(frozen=True)
class Question:
    """One question; `number` counts from 1 in its file."""

    benchmark: str
    file: str
    number: int
    text: str


@dataclass(frozen=True)
class Questions:
    """The questions found, and the files without a question."""

    found: list[Question]
    empty: list[str]


def read(folders: tuple[str, ...]) -> Questions:
    """The questions of evaluation folders or files.

    Raises InputError when one is missing or cannot be read, and when there is no question.
    """
    found: list[Question] = []
    empty: list[str] = []
    for name in folders:
        root = Path(name)
        if not root.exists():
            raise InputError(f"evaluation folder {name} does not exist")
        paths = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        for path in paths:
            if records.source(path).suffix not in SUFFIXES:
                continue
            shown = path.relative_to(root).as_posix() if root.is_dir() else path.name
            texts = [t for record in _records(path) if (t := question_text(record)).strip()]
            benchmark = _benchmark(root, path)
            found += [Question(benchmark, shown, n, text) for n, text in enumerate(texts, 1)]
            if not texts:
                empty.append(shown)
    if not found:
        raise InputError(
            f"{', '.join(folders)}: no question found; give {' '.join(SUFFIXES)} files with fields"
            f" named {', '.join(STEMS[:6])} …"
        )
    return Questions(found, empty)


def question_text(record: dict[str, Any]) -> str:
    """Passage, stem and options of a record, a line each; "" when the record asks nothing."""
    named = {str(key).strip().casefold(): value for key, value in record.items()}
    stems = [text for key in STEMS for text in _texts(named.get(key))]
    if not stems:
        return ""
    passages = [text for key in PASSAGES for text in _texts(named.get(key))]
    options = [text for key in OPTIONS for text in _texts(named.get(key))]
    options += [t for key, v in named.items() if _OPTION.fullmatch(key) for t in _texts(v)]
    return "\n".join([*passages, *stems, *options])


def _texts(value: Any) -> Iterator[str]:
    """The texts of a value: itself, the items of a list, the values of an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def _benchmark(root: Path, path: Path) -> str:
    """The first folder below `root` that names a benchmark; else the root or the file."""
    if root == path:
        return _stem(path)
    parts = path.relative_to(root).parts[:-1]
    named = [p for p in parts if p.casefold() not in _PARTS]
    if named:
        return named[0]
    collection = any(p.is_dir() and p.name.casefold() not in _PARTS for p in root.iterdir())
    return _stem(path) if collection else root.resolve().name


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


# --- files ---------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[dict[str, Any]]:
    source = records.source(path)
    data, why = source.whole()
    if why:
        raise InputError(f"evaluation file {path}: {why}")
    if source.suffix == ".parquet":
        for row in _rows(replace(source, data=data)):
            yield row.value
        return
    if not data.strip():
        return
    try:
        text, _ = decode(data)
    except InputError as error:
        raise InputError(f"evaluation file {path}: {error}") from error
    if source.suffix in (".csv", ".tsv"):
        yield from _table(source, text)
        return
    # An array, lines or one object, under any suffix.
    for row in _rows(replace(source, name="data.json", data=text.encode("utf-8", "surrogatepass"))):
        yield from _dicts(row.value)


def _rows(source: Source) -> Iterator[Row]:
    for piece in records.cut(source):
        for row in rows(piece):
            if isinstance(row, Reject):
                where = f"evaluation file {source.path}, line {row.line}"
                raise InputError(f"{where}: {row.reason}: {row.raw:.80}")
            yield row


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """The records in a JSON value, at any depth; an object that asks is a record."""
    if isinstance(value, list):
        for item in value:
            yield from _dicts(item)
    elif isinstance(value, dict):
        if question_text(value):
            yield value
        else:
            for item in value.values():
                yield from _dicts(item)


def _table(source: Source, text: str) -> Iterator[dict[str, Any]]:
    path, rows = source.path, list[list[str]]()
    for item in csv.cells(source, io.StringIO(text, newline="\n")):
        if isinstance(item, Reject):
            raise InputError(f"evaluation file {path} is not valid CSV: {item.reason}")
        rows.append(item[0])
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return
    head = [cell.strip().casefold() for cell in rows[0]]
    if set(head) & {*STEMS, *PASSAGES}:
        for number, row in enumerate(rows[1:], 2):
            if any(cell.strip() for cell in row[len(head) :]):
                raise InputError(
                    f"evaluation file {path}, row {number}: {len(row)} fields under a header of"
                    f" {len(head)}; quote the field that holds the delimiter"
                )
            yield dict(zip(head, row, strict=False))  # a short row lacks the last fields
        return
    for row in rows:
        inside = [record for cell in row for record in _cell(cell)]
        if inside:
            yield from inside
        elif len(row) > 1 and re.fullmatch(r"\s*[A-Ha-h]\s*", row[-1]):
            yield {"question": row[0], "options": row[1:-1]}


def _cell(cell: str) -> Iterator[dict[str, Any]]:
    """The records of a cell that holds a record, as JSON or as a Python literal."""
    if not cell.lstrip().startswith("{"):
        return
    try:
        yield from _dicts(json.loads(cell))
    except json.JSONDecodeError:
        try:
            yield from _dicts(ast.literal_eval(cell.strip()))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return  # a formula or an explanation in braces is no record
