"""Archives: each member is a file of its own, called `archive.zip!folder/name.txt`.

What zip archives of Chinese books are really like: names in GBK without a mark that says so,
encrypted members, archives inside of archives, downloads that broke off. An archive whose directory
is missing (it stands at the end) is refused: other tools repair it.
"""

from __future__ import annotations

import mmap
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from hanllama.reading.encoding import decode_name, decode_names
from hanllama.reading.formats import Reject, Source, _source

# The members of one archive together; one by one they are bounded as any file is.
MAX_ARCHIVE_BYTES = 2**40
_TARS = (".tar", ".tar.gz", ".tgz")
_NESTED = (*_source.COMPRESSIONS, *_TARS, ".zip", ".bz2", ".rar", ".7z", ".lzma")
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800
_BOMB = f"a decompression bomb: more than {_source.MAX_RATIO} times"
_NO_ZIP = (zipfile.BadZipFile, NotImplementedError)


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive of files."""
    return name.lower().endswith((".zip", *_TARS))


def is_nested(name: str) -> bool:
    """Whether a member of this name is itself packed; such are refused."""
    return name.lower().endswith(_NESTED)


def members(name: str, path: str) -> Iterator[Source | Reject]:
    """The members of the archive at `path` in its own order; those that cannot be read as Rejects.

    A Source is to be used up before the next one is asked for.
    """
    return (_untarred if name.lower().endswith(_TARS) else _unzipped)(name, path)


def member_names(path: str) -> list[str]:
    """The names of a zip archive's members; none when it has no directory."""
    try:
        return [name for name in _names(_source.open_zip(path)) if not name.endswith("/")]
    except (OSError, *_NO_ZIP):
        return []  # `members` says so; a tar archive has none


def _unzipped(name: str, path: str) -> Iterator[Source | Reject]:
    try:
        opened = _source.open_zip(path)
    except _NO_ZIP as error:
        yield from _without_directory(name, path, str(error))
        return
    infos = opened.infolist()
    # Members that overlap pass one by one, and together are many times the archive.
    total = sum(info.file_size for info in infos if not _is_bomb(info))
    if _is_too_much(total, path):
        yield Reject(name, 1, f"{_BOMB} the archive's size")
        return
    for place, (info, inner) in enumerate(zip(infos, _names(opened), strict=True)):
        shown = f"{name}!{inner}"
        if inner.endswith("/"):
            continue
        if info.flag_bits & _ENCRYPTED:
            yield Reject(shown, 1, "encrypted: unpack it with its password first")
        elif _is_bomb(info):
            yield Reject(shown, 1, f"{_BOMB} its packed size")
        else:
            yield Source(shown, path, place, info.compress_size)


def _without_directory(name: str, path: str, why: str) -> Iterator[Reject]:
    """A reject for each member that begins in the file: a library must not count as one book."""
    lost = 0
    if os.path.getsize(path):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            lost = sum(1 for _ in re.finditer(rb"PK\x03\x04.{26}", data, re.DOTALL))
    reason = f"not a zip archive: {why}"
    if lost:
        out = Path(name).stem + "-whole.zip"
        reason = (
            f"a zip archive that is cut short ({why}): fetch it again, or repair it by"
            f" `zip -FF {Path(name).name} --out {out}`"
        )
    yield from (Reject(name, number, reason) for number in range(1, max(lost, 1) + 1))


def _untarred(name: str, path: str) -> Iterator[Source | Reject]:
    total = 0
    number = 1
    try:
        with tarfile.open(path, "r|*", encoding="utf-8", errors="surrogateescape") as opened:
            for number, member in enumerate(opened, 1):
                shown = f"{name}!{decode_name(member.name.encode('utf-8', 'surrogateescape'))}"
                total += member.size
                if not member.isreg():
                    continue
                if _is_too_much(total, path):
                    yield Reject(name, number, f"{_BOMB} the archive's size")
                    return
                yield Source(shown, stream=_tar_chunks(opened, member))
    except (tarfile.TarError, *_source.DAMAGE) as error:
        yield Reject(name, number, f"a tar archive that is damaged or cut short: {error}")


def _tar_chunks(opened: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    file = opened.extractfile(member)
    try:
        while file and (chunk := file.read(_source.CHUNK_BYTES)):
            yield chunk
    except tarfile.TarError as error:
        raise _source.Broken(f"damaged or cut short from here on: {error}") from error


def _is_too_much(total: int, path: str) -> bool:
    return _source.is_bomb(total, os.path.getsize(path)) or total > MAX_ARCHIVE_BYTES


def _is_bomb(info: zipfile.ZipInfo) -> bool:
    return _source.is_bomb(info.file_size, info.compress_size)


def _names(opened: zipfile.ZipFile) -> list[str]:
    """The members' names as they were meant; zipfile takes unmarked ones for DOS's code page."""
    infos = opened.infolist()
    raw = {
        place: info.orig_filename.encode("cp437")
        for place, info in enumerate(infos)
        if not info.flag_bits & _UTF8_NAME and not info.orig_filename.isascii()
    }
    decoded = dict(zip(raw, decode_names(list(raw.values())), strict=True))
    return [
        decoded.get(place, info.filename).replace("\\", "/") for place, info in enumerate(infos)
    ]
