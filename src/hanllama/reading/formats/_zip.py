"""Zip archives: each member is a file of its own, called `archive.zip!folder/name.txt`.

What zip archives of Chinese books are really like: names in GBK without a mark that says so,
encrypted members, archives inside of archives, downloads that broke off. An archive without its
directory (it stands at the end) is read member by member from the beginning, as far as it goes.
"""

from __future__ import annotations

import functools
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from hanllama.reading.encoding import decode_names
from hanllama.reading.formats import Reject, Source, _source
from hanllama.reading.formats._source import Broken

# The members of one archive together; one by one they are bounded as any file is.
MAX_ARCHIVE_BYTES = 2**40
_NESTED = (*_source.COMPRESSIONS, ".zip", ".tar", ".tgz", ".bz2", ".rar", ".7z", ".lzma")
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_ENCRYPTED, _SIZES_FOLLOW, _UTF8_NAME = 0x1, 0x8, 0x800
_STORED, _DEFLATED = 0, 8
_BOMB = f"a decompression bomb: more than {_source.MAX_RATIO} times"


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive of files."""
    return name.lower().endswith(".zip")


def is_nested(name: str) -> bool:
    """Whether a member of this name is itself packed; such are refused."""
    return name.lower().endswith(_NESTED)


def members(name: str, path: str) -> Iterator[Source | Reject]:
    """The members of the archive at `path` in its own order; those that cannot be read as Rejects.

    A Source is to be used up before the next one is asked for.
    """
    try:
        opened = _open(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        yield from _salvage(name, path, str(error))
        return
    infos = opened.infolist()
    # Members that overlap pass one by one, and together are many times the archive.
    size = os.path.getsize(path)
    total = sum(info.file_size for info in infos if not _is_bomb(info))
    if _source.is_bomb(total, size) or total > MAX_ARCHIVE_BYTES:
        yield Reject(name, 1, f"{_BOMB} the archive's size")
        return
    for place, (info, inner) in enumerate(zip(infos, _names(infos), strict=True)):
        if inner.endswith("/"):
            continue
        shown = f"{name}!{inner}"
        reason = _refusal(inner, bool(info.flag_bits & _ENCRYPTED))
        if not reason and _is_bomb(info):
            reason = f"{_BOMB} its packed size"
        if reason:
            yield Reject(shown, 1, reason)
        else:
            yield Source(shown, path, place, info.compress_size)


def member_names(path: str) -> list[str]:
    """The names of an archive's members; none when it has no directory that can be read."""
    try:
        return [name for name in _names(_open(path).infolist()) if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return []  # `members` says so


def member_chunks(path: str, place: int) -> Iterator[bytes]:
    """The bytes of one member, about a megabyte at a time; damage raises one of DAMAGE."""
    try:
        opened = _open(path)
        with opened.open(opened.infolist()[place]) as file:
            # The chunk in which the checksum fails is lost, so the chunks are small.
            while chunk := file.read(_source.CHUNK_BYTES // 16):
                yield chunk
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        # The message names the member, in DOS's code page; the reject does it better.
        why = str(error).partition(" for file ")[0]
        raise Broken(f"damaged or cut short from here on: {why}") from error


def _open(path: str) -> zipfile.ZipFile:
    """An archive whose directory is read once, however many members are asked for."""
    status = os.stat(path)
    return _opened(path, status.st_size, status.st_mtime_ns, os.getpid())


@functools.lru_cache(maxsize=4)
def _opened(path: str, size: int, mtime_ns: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _is_bomb(info: zipfile.ZipInfo) -> bool:
    return _source.is_bomb(info.file_size, info.compress_size)


def _refusal(inner: str, encrypted: bool) -> str:
    if is_nested(inner):
        return "an archive inside of an archive: unpack it first"
    return "encrypted: unpack it with its password first" if encrypted else ""


def _names(infos: list[zipfile.ZipInfo]) -> list[str]:
    """The members' names as they were meant; zipfile takes unmarked ones for DOS's code page."""
    raw = {
        place: info.orig_filename.encode("cp437")
        for place, info in enumerate(infos)
        if not info.flag_bits & _UTF8_NAME and not info.orig_filename.isascii()
    }
    decoded = dict(zip(raw, decode_names(list(raw.values())), strict=True))
    return [
        decoded.get(place, info.filename).replace("\\", "/") for place, info in enumerate(infos)
    ]


# --- an archive without its directory ----------------------------------------------------------


def _salvage(name: str, path: str, why: str) -> Iterator[Source | Reject]:
    """The members from the beginning, by their own headers, as far as they can be followed."""
    with open(path, "rb") as file:
        number = 0
        while (header := file.read(_LOCAL_HEADER.size)).startswith(_LOCAL_MAGIC):
            if len(header) < _LOCAL_HEADER.size:
                break
            _, _, flags, method, _, _, _, packed, _, name_length, extra_length = (
                _LOCAL_HEADER.unpack(header)
            )
            raw = file.read(name_length)
            file.seek(extra_length, os.SEEK_CUR)
            start, number = file.tell(), number + 1
            inner = raw.decode("utf-8", "replace") if flags & _UTF8_NAME else decode_names([raw])[0]
            inner = inner.replace("\\", "/")
            known = not flags & _SIZES_FOLLOW and packed != 0xFFFFFFFF
            reason = _refusal(inner, bool(flags & _ENCRYPTED))
            if not reason and (method not in (_STORED, _DEFLATED) or not (known or method)):
                reason = "packed in a way that cannot be read without the archive's directory"
            stream = _inflated(file, packed if known else None, method)
            if reason and not inner.endswith("/"):
                yield Reject(f"{name}!{inner}", 1, reason)
            elif not inner.endswith("/"):
                yield Source(f"{name}!{inner}", size=packed, stream=stream)
            if known:
                file.seek(start + packed)
            elif not _drained(stream) or not _to_next(file):
                break
    if number:
        reason = f"the archive has no directory ({why}): members after number {number} are lost"
    else:
        reason = f"not a zip archive: {why}"
    yield Reject(name, number + 1, reason)


def _inflated(file: IO[bytes], packed: int | None, method: int) -> Iterator[bytes]:
    """A member's bytes from where the file stands; leaves the file behind them."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS) if method == _DEFLATED else None
    left = packed
    while left is None or left > 0:
        data = file.read(2**16 if left is None else min(left, 2**16))
        if not data:
            raise EOFError("the archive ends inside of this member")
        left = None if left is None else left - len(data)
        if engine is None:
            yield data
            continue
        while data:
            if chunk := engine.decompress(data, _source.CHUNK_BYTES):
                yield chunk
            data = engine.unconsumed_tail
        if engine.eof:
            file.seek(-len(engine.unused_data), os.SEEK_CUR)
            return
    if engine is not None and not engine.eof:
        raise EOFError("the member's packed data end too early")


def _drained(stream: Iterator[bytes]) -> bool:
    """Read what the member's reader left; False when it is damaged, so that its end is unknown."""
    try:
        for _ in stream:
            pass
    except _source.DAMAGE:
        return False  # whoever read the member has named it; the caller names what follows
    return True


def _to_next(file: IO[bytes]) -> bool:
    """Step over the sizes that follow a member of unknown size (12 to 24 bytes)."""
    here = file.tell()
    found = file.read(64).find(_LOCAL_MAGIC)
    file.seek(here + max(found, 0))
    return found >= 0
