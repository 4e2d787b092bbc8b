"""Bytes by name: a file, a member of an archive or standard input, decompressed as it is read.

The only place that knows compression. `.gz`, `.xz` and `.zst` may stand around any format; several
compressed streams end to end count as one, as `cat a.gz b.gz` makes them. What is read as a stream
of records may be as long as it likes, since each record is bounded; what is one document is held
in memory, and stops at a size and at a ratio that no text reaches (a decompression bomb).
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

COMPRESSIONS = (".gz", ".xz", ".zst")
_MAGIC = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
MAGIC_BYTES = 6  # the longest of them
_MEMBER = re.compile(r"(.*?\.(?:zip|tar|tar\.gz|tgz))(!.+)", re.IGNORECASE | re.DOTALL)

CHUNK_BYTES = 2**20
MAX_DOCUMENT_BYTES = 256 * 2**20  # a file that is one document is held in memory whole
# Chinese text compresses to a third or a fifth, a log of equal lines to a hundredth; a bomb of
# zeros in gzip to a thousandth, in xz to a ten-thousandth. Small files may be anything.
MAX_RATIO = 200
RATIO_FROM_BYTES = 16 * 2**20
_XZ_MEMORY = 256 * 2**20  # xz -9 wants 65 MiB; a header may ask for 4 GiB

# What reading damaged bytes raises, whichever decompressor it is.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)


class Broken(OSError):
    """Bytes that end too early, with the reason in words."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where bytes come from; it can be pickled unless it has a `stream`.

    Attributes:
        name: as shown: a path, `archive.zip!member`, or `-`.
        path: the file to open, empty when there is none.
        member: the place in the directory of the zip archive at `path`.
        size: its bytes on disk; 0 when unknown.
        compression: of the bytes, one of `COMPRESSIONS` or empty.
        stream: the bytes themselves, to be read once.
        data: the bytes themselves, held in memory.
        broken: why `data` ends too early, or empty.
    """

    name: str
    path: str = ""
    member: int = -1
    size: int = 0
    compression: str = ""
    stream: Iterator[bytes] | None = None
    data: bytes | None = None
    broken: str = ""

    @property
    def suffix(self) -> str:
        """What the name says about the format: `book.TXT.gz` -> `.txt`."""
        return format_suffix(self.name)

    @property
    def place(self) -> str:
        """`/home/me/novels/a.txt` -> `novels/a.txt`: to find it, with nothing of the machine."""
        if self.name == "-":
            return "stdin"
        archive, member = self.name, ""
        if inside := _MEMBER.fullmatch(self.name):
            archive, member = inside.groups()
        path = Path(os.path.abspath(archive))
        folder = f"{path.parent.name}/" if path.parent.name else ""
        return f"{folder}{path.name}{member}"

    def chunks(self) -> Iterator[bytes]:
        """The decompressed bytes, about a megabyte at a time.

        Damage gives what can be decompressed, then raises one of `DAMAGE`.
        """
        if self.data is not None:
            yield self.data
            if self.broken:
                raise Broken(self.broken)
        elif self.stream is not None:
            yield from self.stream
        elif self.member >= 0:
            yield from _member_chunks(self.path, self.member)
        else:
            with open(self.path, "rb") as file:
                yield from decompress(file, self.compression)

    def whole(self) -> tuple[bytes, str]:
        """(all bytes, why they end too early or ""); a little more than the limit at most."""
        if self.data is not None:
            return self.data, self.broken
        collected = bytearray()
        try:
            for chunk in self.chunks():
                collected += chunk
                if len(collected) > MAX_DOCUMENT_BYTES:
                    break
                if is_bomb(len(collected), self.size):
                    return b"", f"a decompression bomb: more than {MAX_RATIO} times its packed size"
        except DAMAGE as error:
            return bytes(collected), broken(error)
        return bytes(collected), ""

    def portable(self) -> Source:
        """The same, fit to travel to another process and to be read twice."""
        if self.stream is None:
            return self
        data, why = self.whole()
        return replace(self, stream=None, data=data, broken=why)


def format_suffix(name: str) -> str:
    """The suffix of a file name without that of its compression, in lower case."""
    base, suffix = os.path.splitext(name)
    if suffix.lower() in COMPRESSIONS:
        suffix = os.path.splitext(base)[1]
    return suffix.lower()


def compression_of(name: str) -> str:
    """The compression that a file name states, or ""."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if suffix in COMPRESSIONS else ""


def compression_of_bytes(head: bytes) -> str:
    """The compression that the first bytes of a stream show, or ""."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def is_bomb(bytes_out: int, bytes_in: int) -> bool:
    """Whether no text could have been packed as tightly as this; unknown when `bytes_in` is 0."""
    return 0 < bytes_in * MAX_RATIO < bytes_out and bytes_out > RATIO_FROM_BYTES


def broken(error: BaseException) -> str:
    """The reason of a reject: what the damage was."""
    if isinstance(error, Broken):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read from here on: {error.strerror}"
    return f"damaged or cut short from here on: {error}"


def decompress(file: IO[bytes], compression: str) -> Iterator[bytes]:
    """The bytes of an open file or pipe, decompressed."""
    if compression == ".zst":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
            # What precedes the damage in its own chunk is lost, so the chunks are small.
            while chunk := stream.read(max(CHUNK_BYTES // 16, 1)):
                yield chunk
    elif compression == ".xz":
        yield from _unxz(file)
    else:
        opened: Any = gzip.GzipFile(fileobj=file) if compression == ".gz" else file
        read = getattr(opened, "read1", opened.read)
        while chunk := read(CHUNK_BYTES):
            yield chunk


def _member_chunks(path: str, place: int) -> Iterator[bytes]:
    """The bytes of one member of a zip archive."""
    try:
        opened = open_zip(path)
        with opened.open(opened.infolist()[place]) as file:
            # The chunk in which the checksum fails is lost, so the chunks are small.
            while chunk := file.read(CHUNK_BYTES // 16):
                yield chunk
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        # The message names the member, in DOS's code page; the reject does it better.
        why = str(error).partition(" for file ")[0]
        raise Broken(f"damaged or cut short from here on: {why}") from error


def open_zip(path: str) -> zipfile.ZipFile:
    """A zip archive, whose directory is read once, however many members are asked for."""
    status = os.stat(path)
    return _opened_zip(path, status.st_size, status.st_mtime_ns, os.getpid())


@functools.lru_cache(maxsize=4)
def _opened_zip(path: str, size: int, mtime_ns: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def peek(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """(the first `size` bytes or more, the same chunks from the beginning)."""
    head, damage = b"", None
    try:
        while len(head) < size and (chunk := next(chunks, b"")):
            head += chunk
    except DAMAGE as error:
        damage = error

    def again() -> Iterator[bytes]:
        yield head
        if damage:
            raise damage
        yield from chunks

    return head, again()


def _unxz(file: IO[bytes]) -> Iterator[bytes]:
    """lzma.open without its trust in a header that asks for gigabytes."""
    packed = file.read(CHUNK_BYTES)
    while packed:
        stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        while not stream.eof:
            if stream.needs_input and not packed:
                packed = file.read(CHUNK_BYTES)
                if not packed:
                    raise EOFError("the end of the xz stream is missing")
            if chunk := stream.decompress(packed, CHUNK_BYTES):
                yield chunk
            packed = b""
        # Streams may be padded by zeros, and followed by further streams.
        packed = stream.unused_data.lstrip(b"\0")
        while not packed and (more := file.read(CHUNK_BYTES)):
            packed = more.lstrip(b"\0")


class Joined(io.RawIOBase):
    """A stream whose first bytes were read already, to see what it is."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :] if self._head else b""
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def compressed(path: Path, suffix: str) -> Iterator[Any]:
    """A binary file to write to, compressed as `suffix` says."""
    if suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(str(path), "zstd") as out:
            yield out
    elif suffix == ".xz":
        with lzma.open(path, "wb") as out:
            yield out
    elif suffix == ".gz":
        # No name and no time inside: the same documents give the same bytes.
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped:
            yield zipped
    else:
        with open(path, "wb") as raw:
            yield raw
