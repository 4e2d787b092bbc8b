"""A file as it was published -> lines of ours: archives opened, records read, layouts applied.

Archives (`.zip`, `.tar`, `.tar.gz`) are read a member at a time, so a 2.6 GB archive needs the
room of its largest member and not of everything in it. A member that would grow beyond what honest
text compresses to, or whose name leads out of the folder, stops the work. A record that is not of
the published form goes to the quarantine, counted; when most are not, the set has changed, and
that is said instead of a nearly empty result.
"""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.corpus.fetch.sets import DataSet, Layout, Misfit
from hanllama.reading import records
from hanllama.reading.records import Quarantine, Reject

# Text packs to a third or a tenth; a thousandfold is a bomb. Small archives get some room.
MAX_EXPANSION = 200
FREE_BYTES = 64 * 2**20
# Above this share of unusable records the set's form has changed.
MAX_MISFIT_SHARE = 0.2
COPY_BYTES = 2**20
BATCH_ROWS = 1024


@dataclass
class Facts:
    """What became of one published file."""

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
        source: what stands as `source` in every line: `huggingface:owner/name`.
        quarantine_path: where unusable records go; removed again when there are none.

    Raises InputError when the records are not of the set's form, CorruptError for a broken archive.
    """
    import orjson
    import pyarrow as pa

    assert found.layout is not None
    facts = Facts()
    beside = out.with_name(f".tmp-{out.name}")
    with Quarantine(quarantine_path) as quarantine, fs.storage(out):
        with pa.CompressedOutputStream(str(beside), "zstd") as stream:
            for number, record in _records(path, name, quarantine):
                line = _apply(found.layout, name, number, record, quarantine)
                if line is None:
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
    """Put a published file into `folder`, an archive's members in its place; returns how many."""
    if not _is_archive(path):
        with fs.storage(folder / path.name):
            shutil.copyfile(path, folder / path.name)
        return 1
    count = 0
    for name, data in _members(path):
        _copy(data, folder / _inside(name, path), path)
        count += 1
    return count


def _apply(
    layout: Layout, name: str, number: int, record: Any, quarantine: Quarantine
) -> dict[str, Any] | None:
    import orjson

    try:
        if not isinstance(record, Mapping):
            raise Misfit("the record is no object")
        return layout(record)
    except Misfit as misfit:
        quarantine.add(name, number, str(misfit), orjson.dumps(record, default=str))
        return None


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


# --- records -----------------------------------------------------------------------------------


def _records(path: Path, name: str, quarantine: Quarantine) -> Iterator[tuple[int, Any]]:
    """(number, record) of a file; of an archive, of all its members, numbered through."""
    if not _is_archive(path):
        yield from _file_records(path, name, quarantine)
        return
    scratch = path.parent / ".member"
    count = 0
    try:
        for member, data in _members(path):
            inner = scratch / _inside(member, path).name
            if inner.name.startswith("."):
                continue
            _copy(data, inner, path)
            for _, record in _file_records(inner, f"{name}/{member}", quarantine):
                count += 1
                yield count, record
            inner.unlink()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _file_records(path: Path, name: str, quarantine: Quarantine) -> Iterator[tuple[int, Any]]:
    import orjson

    if path.suffix == ".parquet":
        yield from _rows(path, name)
        return
    for piece in records.pieces(path):
        if not piece.lines:
            raise InputError(f"{name} holds text and no records; this set expects JSON or Parquet")
        for number, line in enumerate(piece.lines, piece.first):
            if isinstance(line, Reject):
                quarantine.add(name, line.line, line.reason, line.raw)
            elif line.strip():
                try:
                    yield number, orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    quarantine.add(name, number, f"invalid JSON: {error}", line)


def _rows(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            batches = table.iter_batches(BATCH_ROWS)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except pa.ArrowInvalid as error:
        raise CorruptError(f"{name} is no Parquet file: {error}") from error


# --- archives ----------------------------------------------------------------------------------


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, stream) of the files in an archive; nothing that is no plain file."""
    room = MAX_EXPANSION * path.stat().st_size + FREE_BYTES
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as packed:
                for entry in packed.infolist():
                    if not entry.is_dir():
                        room = _take(room, entry.file_size, path)
                        with packed.open(entry) as data:
                            yield entry.filename, data
        else:
            with tarfile.open(path, "r|*") as packed_tar:
                for member in packed_tar:
                    if member.isreg():
                        room = _take(room, member.size, path)
                        data_or_none = packed_tar.extractfile(member)
                        assert data_or_none is not None
                        yield member.name, data_or_none
    except _BROKEN as error:
        raise _broken(path, error) from error


def _copy(data: IO[bytes], target: Path, path: Path) -> None:
    """A member's bytes into a file of its own."""
    try:
        with fs.storage(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as out:
                shutil.copyfileobj(data, out, COPY_BYTES)
    except _BROKEN as error:
        raise _broken(path, error) from error


_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error)


def _broken(path: Path, error: Exception) -> CorruptError:
    return CorruptError(f"{path.name} is a broken archive: {error}")


def _take(room: int, size: int, path: Path) -> int:
    """Room left after a member. (Both libraries stop at the size that the member declares.)"""
    if size > room:
        raise CorruptError(
            f"{path.name} unpacks to more than {MAX_EXPANSION} times its size: refused as a bomb"
        )
    return room - size


def _inside(name: str, path: Path) -> PurePosixPath:
    """A member's path, sure to stay inside the folder it is unpacked to."""
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or ":" in inner.parts[0]:
        raise CorruptError(f"{path.name} holds a path that leads out of its folder: {name!r}")
    return inner
