"""Convert a published file to lines of ours: open archives, read records, apply layouts.

Archives are read a member at a time. An archive is an error when it is broken, would grow beyond
the compression of honest text, or has a member whose name leads out of the folder. A record that is
not of the published form goes to the quarantine. When too many do, the set has changed: that is an
error, not a nearly empty result.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.corpus.fetch.sets import DataSet
from hanllama.reading import records
from hanllama.reading.formats import Source, _archives, _source
from hanllama.reading.records import Quarantine, Reject
from hanllama.reading.rows import KINDS, Row, rows
from hanllama.talks.conversations.form import Unusable

# Above this share of unusable records the set's form has changed.
MAX_MISFIT_SHARE = 0.2


@dataclass
class Facts:
    """Counts of one published file."""

    records: int = 0
    characters: int = 0
    unusable: int = 0

    def to_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def convert(
    path: Path, name: str, found: DataSet, source: str, out: Path, quarantine_path: Path
) -> Facts:
    """Write the records of a published file as lines of ours to `out` (`.jsonl.zst`).

    Args:
        path: the file on disk.
        name: its path inside the repository, for ids and messages.
        source: the `source` of every line: `huggingface:owner/name`.
        quarantine_path: the file of unusable records; removed when there are none.

    Raises InputError when the records are not of the set's form, CorruptError for a broken archive.
    """
    import pyarrow as pa

    facts = Facts()
    beside = out.with_name(f".tmp-{out.name}")
    with Quarantine(quarantine_path) as quarantine, fs.storage(out):
        with pa.CompressedOutputStream(str(beside), "zstd") as stream:
            for number, row in _rows(path, name, quarantine):
                try:
                    line = found.line(row.value)
                except Unusable as reason:
                    quarantine.put(row.reject(str(reason)))
                    continue
                entry = {"id": f"{name}:{number}", "source": source, "licence": found.licence}
                stream.write(orjson.dumps(line | entry) + b"\n")
                facts.records += 1
                facts.characters += _characters(line)
        facts.unusable = quarantine.count
    _refuse_another_form(facts, quarantine, name, source)
    if not quarantine.count:
        quarantine_path.unlink()
    with fs.storage(out):
        beside.replace(out)
    return facts


def extract(path: Path, folder: Path) -> int:
    """Put a published file, or an archive's members, into `folder`; returns the number of files."""
    if not _archives.is_archive(path.name):
        with fs.storage(folder / path.name):
            shutil.copyfile(path, folder / path.name)
        return 1
    count = 0
    for inner, source in _members(path, path.name):
        count += 1
        with fs.storage(folder / inner):
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / inner, "wb") as out:
                try:
                    out.writelines(source.chunks())
                except _source.DAMAGE as error:
                    reason = _source.broken(error)
                    raise CorruptError(f"{source.name}: {reason}") from error
    return count


def _refuse_another_form(facts: Facts, quarantine: Quarantine, name: str, source: str) -> None:
    total = facts.records + facts.unusable
    if not total:
        raise InputError(f"{name} of {source} holds no record")
    if facts.unusable > MAX_MISFIT_SHARE * total:
        raise InputError(
            f"{name} of {source} is not of the form this set had: {facts.unusable:,} of {total:,}"
            f" records cannot be used ({quarantine.summary()}); give an earlier commit with"
            " --revision, or describe the new form in a set file of your own"
        )


def _characters(line: Mapping[str, Any]) -> int:
    if "text" in line:
        return len(line["text"])
    turns = [m for part in line.values() if isinstance(part, list) for m in part]
    return sum(len(m["content"]) for m in turns)


def _rows(path: Path, name: str, quarantine: Quarantine) -> Iterator[tuple[int, Row]]:
    """(line, record) of a file; (count, record) of all members of an archive."""
    is_archive, count = _archives.is_archive(path.name), 0
    members = (m for inner, m in _members(path, name) if records.is_member(str(inner)))
    for source in members if is_archive else [records.source(path, name)]:
        for piece in records.cut(source):
            if not records.holds_rows(piece):
                raise InputError(f"{source.name} holds text and no records; a set holds {KINDS}")
            for row in rows(piece):
                if isinstance(row, Reject):
                    quarantine.put(row)
                else:
                    count += 1
                    yield count if is_archive else row.line, row


def _members(path: Path, name: str) -> Iterator[tuple[PurePosixPath, Source]]:
    """(path inside, source) of an archive's members; CorruptError for unsafe or broken ones."""
    for member in _archives.members(name, str(path)):
        if isinstance(member, Reject):
            raise CorruptError(f"{member.file}: {member.reason}")
        inner = PurePosixPath(member.name.removeprefix(f"{name}!"))
        if inner.is_absolute() or ".." in inner.parts or ":" in inner.parts[0]:
            raise CorruptError(f"{name} holds a path that leads out of its folder: {inner}")
        yield inner, member
