"""Publish or nothing: write results so that no reader ever sees half of one.

A file is written beside its place, flushed and renamed over it. A folder is written beside its
place with `SHA256SUMS` as its last file (the marker of completeness), then renamed. A process
killed at any point leaves the previous state; its leftovers are named `.tmp-*` or `.old-*`, and the
next writer of the same place removes them.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from hanllama.base.errors import CorruptError, InputError, StorageError

SUMS = "SHA256SUMS"
# How text is encoded that may hold a file's name, which need not be UTF-8. Who guesses encodings
# (reading/encoding.py) registers itself in the place of the backslashes.
READABLE = "readable"
codecs.register_error(READABLE, codecs.backslashreplace_errors)
_FULL_ERRNOS = {"EFBIG", "ENOSPC", "EDQUOT"}  # only a write fails with these
_IN_THE_WAY_ERRNOS = {"EEXIST", "ENOTDIR", "ENAMETOOLONG"}  # a file where a folder should be
_STORAGE_ERRNOS = _FULL_ERRNOS | _IN_THE_WAY_ERRNOS | {"EROFS", "EACCES", "EPERM", "EIO"}


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the disk's refusal of a write into a StorageError that names `path`."""
    with _refusals(path, _STORAGE_ERRNOS):
        yield


@contextlib.contextmanager
def _refusals(path: Path, names: set[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) in names:
            raise StorageError(
                f"cannot write {path}: {error.strerror}; free some space or choose another folder"
                " (earlier complete results are untouched)"
            ) from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they exist."""
    with storage(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; after the block its file replaces `path` in one step."""
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".tmp-{path.name}")
        try:
            yield beside
            with open(beside, "rb") as written:
                os.fsync(written.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)  # a full disk needs its space
            raise
        sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` with `data` in one step."""
    with replacing(path) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with `text` (UTF-8, newlines as they are) in one step."""
    write_bytes(path, text.encode("utf-8", READABLE))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` with pretty-printed JSON in one step."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: Path, entries: Iterable[object]) -> None:
    """Replace `path` with one line of JSON per entry, in one step."""
    write_text(path, "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries))


def read_json(path: Path) -> Any:
    """The JSON at `path`; InputError if it is missing, CorruptError if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"{path} is not valid JSON: {error}") from error


@contextlib.contextmanager
def publish(
    path: Path, *, replace: bool = False, sums: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Write a folder that appears at `path` whole or not at all.

    Yields a temporary folder beside `path`. On a clean exit `SHA256SUMS` is written as its last
    file, everything is flushed, and the folder is renamed to `path`. On an error the temporary
    folder is removed and `path` stays unchanged. The place is locked from the beginning (`alone`),
    unless this process holds the lock: two writers would share one temporary folder.

    Args:
        path: the folder to publish.
        replace: allow `path` to exist; the previous folder is moved aside, and removed once the
            new one is in place. `recover` repairs a kill between the two renames.
        sums: known sha256 of files by their path in the folder, read on exit; the other files are
            hashed.
    """
    with contextlib.nullcontext() if _lock_of(path) in _locks else alone(path):
        recover(path)
        if path.exists() and not replace:
            raise InputError(f"{path} exists already; choose another folder or remove it")
        beside = path.with_name(f".tmp-{path.name}")
        with storage(path):
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        try:
            # The caller may also read files here, so only errors of a full disk are a write's.
            with _refusals(path, _FULL_ERRNOS):
                yield beside
            put_in_place(beside, path, sums)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            recover(path)
            raise


@contextlib.contextmanager
def alone(path: Path, shown: Path | None = None) -> Iterator[None]:
    """Lock `path` against other processes; the system drops the lock with the process.

    Two runs of one command would write into each other's unfinished work, and publish it.

    Args:
        shown: the name of the place in an error, if it is not `path`.

    Raises InputError if another process holds the lock.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows has no such lock
        yield
        return
    lock = _lock_of(path)
    while True:
        with storage(path):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = open(lock, "w")  # noqa: SIM115 (held as long as the work)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, lock):
                break  # else the previous holder has removed the file meanwhile
        except BlockingIOError:
            file.close()
            raise InputError(
                f"another run is at work in {shown or path}; wait for it, or choose another"
                " --output"
            ) from None
        file.close()
    _locks[lock] = file
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        _locks.pop(lock, None)
        file.close()


def put_in_place(folder: Path, path: Path, sums: Mapping[str, str] | None = None) -> None:
    """Publish a folder that was written elsewhere on the same file system as `path`.

    `SHA256SUMS` is written as its last file, everything is flushed, then it is renamed and replaces
    `path`. `recover` repairs a kill between the two renames. For `sums` see `publish`.
    """
    with storage(path):
        write_sums(folder, sums)
        _sync_tree(folder)
        old = path.with_name(f".old-{path.name}")
        if path.exists():
            os.replace(path, old)
        os.replace(folder, path)
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def recover(path: Path) -> None:
    """Undo or finish a `publish(replace=True)` that was killed between its two renames."""
    old = path.with_name(f".old-{path.name}")
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)


def write_sums(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Write `SHA256SUMS` over every file below `folder`, in the format of `sha256sum -c`.

    Args:
        known: the sha256 of some files, by their path in the folder.
    """
    lines = []
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        lines.append(f"{(known or {}).get(name) or sha256(file)}  {name}\n")
    write_text(folder / SUMS, "".join(lines))


def verify_sums(folder: Path, without: Container[str] = ()) -> None:
    """Check every file of `SHA256SUMS` except `without`, which the caller checks itself.

    Raises InputError if the folder is missing, CorruptError if the marker is missing or a file is
    missing, truncated or altered. (A safetensors file does not show a flipped bit.)
    """
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist")
    marker = folder / SUMS
    if not marker.is_file():
        raise CorruptError(f"{folder} has no {SUMS}: it was never completed; remove it")
    text = marker.read_text(encoding="utf-8")
    if not text.endswith("\n") and (text or _files(folder)):
        raise CorruptError(f"{marker} is truncated; restore {folder} from another copy")
    # Not splitlines(): a file's name may hold U+2028.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        expected, _, name = line.partition("  ")
        if len(expected) != 64 or not name:
            raise CorruptError(f"{marker}, line {number}: not a checksum: {line[:80]!r}")
        if name in without:
            continue
        file = folder / name
        if not file.is_file():
            raise CorruptError(f"{folder} is incomplete: {name} is missing")
        if sha256(file) != expected:
            raise CorruptError(
                f"{file} is corrupt: its sha256 is not the one in {marker}; restore it from"
                " another copy or make the folder again"
            )


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(path: Path) -> None:
    """Remove a published folder, its marker first, so that a kill leaves no valid half."""
    (path / SUMS).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries (a rename) to disk; a no-op on Windows."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_locks: dict[Path, IO[str]] = {}  # lock file -> the open file of this process


def _lock_of(path: Path) -> Path:
    return path.absolute().with_name(f".lock-{path.name}")


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _close_locks() -> None:
    """Drop the parent's locks in a forked process."""
    for file in _locks.values():
        file.close()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file() and f.name != SUMS)


def _sync_tree(folder: Path) -> None:
    for file in _files(folder):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    for inner in [folder, *(d for d in folder.rglob("*") if d.is_dir())]:
        sync_folder(inner)
