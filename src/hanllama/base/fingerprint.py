"""Hashes of the bytes that a stage reads and of the code that does its work.

Content: a published folder is hashed by its `SHA256SUMS`, anything else by its bytes. A file is
read again only if its size or modification time changed, so tens of gigabytes of input cost one
pass in all, not one per run.

Code: all files of the verb's room and of the rooms below it (`ROOMS`): code without comments and
docstrings, data by its bytes. Code that shows, stores or asks (a report, a view, a progress bar,
the config reader) is left out: a nicer chart must not retrain a model. The package's version number
is left out too, since the code says more, and so are the versions of dependencies. (Another Python
may print a syntax tree differently; the stages then run again.)
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from hanllama.base import fs
from hanllama.base.errors import InputError
from hanllama.base.progress import Progress

PACKAGE = Path(__file__).parents[1]
# The rooms that make results, and the rooms that each imports. A folder with its own entry does not
# count in its parent. tests/test_architecture.py compares the imports.
ROOMS = {
    "reading": "",
    "text": "",
    "stories": "reading",
    "tokenizer": "reading",
    "talks": "tokenizer",
    "batches": "text tokenizer",
    "model": "tokenizer",
    "corpus": "reading text",
    "corpus/dedup": "corpus",
    "corpus/decontaminate": "corpus",
    "corpus/fetch": "talks",
    "train": "batches model",
    "train/sft": "train talks",
    "train/preferences": "train talks",
    "train/rl": "train talks stories",
    "plan": "train/sft train/preferences train/rl",
    "feedback": "train/preferences train/rl",
    "chat": "model",
    "evaluate": "stories train",
}
SHOWING = ("report.py", "view.py", "trackers")  # names of files and folders that only show results
_QUIET_BYTES = 200_000_000  # about a second of hashing needs no progress display


class Contents:
    """Content hashes, cached in a file across runs.

    Args:
        cache: a JSON file of {absolute path: [size, mtime_ns, sha256]}; created if missing.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        known = fs.read_json(cache) if cache.is_file() else {}
        self._known: dict[str, tuple[int, int, str]] = {k: tuple(v) for k, v in known.items()}

    def of(self, path: Path) -> str:
        """The hash of a file, or of a folder with the names below it; its own name does not count.

        Raises InputError if `path` does not exist or a published folder lost a file.
        """
        if path.is_file():
            return self._files([path])[0]
        if not path.is_dir():
            raise InputError(f"{path} does not exist")
        if (path / fs.SUMS).is_file():
            return _published(path)
        below = {child.relative_to(path).as_posix(): child for child in _below(path)}
        entries = {name: _published(child) for name, child in below.items() if child.is_dir()}
        files = {name: child for name, child in below.items() if name not in entries}
        entries |= zip(files, self._files(list(files.values())), strict=True)
        return of_json(entries)

    def _files(self, files: list[Path]) -> list[str]:
        stats = {f: f.stat() for f in files}
        new = [
            f
            for f, s in stats.items()
            if self._known.get(str(f.resolve()), ())[:2] != (s.st_size, s.st_mtime_ns)
        ]
        total = sum(stats[f].st_size for f in new)
        shown = total > _QUIET_BYTES
        with (
            Progress("fingerprint of the input", total / 1e6, unit="MB")
            if shown
            else nullcontext() as progress
        ):
            for file in new:
                self._remember(file)
                if progress:
                    progress.advance(stats[file].st_size / 1e6)
        if new:
            fs.write_json(self._cache, self._known)
        return [self._known[str(f.resolve())][2] for f in files]

    def _remember(self, file: Path) -> None:
        # The time is read before the bytes, so a file that changes meanwhile is read again.
        status = file.stat()
        self._known[str(file.resolve())] = (status.st_size, status.st_mtime_ns, fs.sha256(file))


def of_json(value: object) -> str:
    """The sha256 of a JSON value; the order of its keys does not count."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def of_code(*modules: str, quick: bool = False) -> str:
    """The hash of the code of `modules` (`hanllama.corpus.clean`) and of all that they import.

    A module outside the package counts by its own file only. With `quick`, comments count too and
    hashing takes a hundredth of the time: for a command that asks at every start whether a killed
    run may go on.
    """
    digest = fs.sha256 if quick else _code_hash
    return of_json({name: digest(file) for name, file in code_files(*modules).items()})


def code_files(*modules: str) -> dict[str, Path]:
    """The files behind `of_code`: {name relative to the package: path}."""
    found: dict[str, Path] = {}
    waiting = []
    for module in modules:
        if module.startswith("hanllama."):
            waiting.append(room_of(module.partition(".")[2].replace(".", "/")))
        elif (spec := importlib.util.find_spec(module)) and spec.origin:
            found[Path(spec.origin).name] = Path(spec.origin)
    rooms: set[str] = set()
    while waiting:
        if (room := waiting.pop()) not in rooms and room:
            rooms.add(room)
            waiting += ROOMS[room].split()
    for file in (f for room in rooms for f in (PACKAGE / room).rglob("*")):
        name = file.relative_to(PACKAGE).as_posix()
        if room_of(name) in rooms and file.is_file():
            found[name] = file
    return dict(sorted(found.items()))


def room_of(name: str) -> str:
    """The room of `ROOMS` that a file (`corpus/rules/urls.py`) counts in, or ""."""
    parts = name.split("/")
    if any(p.endswith(SHOWING) or p.startswith((".", "__pycache__")) for p in parts):
        return ""
    return next((r for n in range(len(parts), 0, -1) if (r := "/".join(parts[:n])) in ROOMS), "")


# --- content -------------------------------------------------------------------------------------


def _published(folder: Path) -> str:
    marker = folder / fs.SUMS
    for line in marker.read_text(encoding="utf-8").split("\n"):
        name = line.partition("  ")[2]
        if name and not (folder / name).is_file():
            raise InputError(f"{folder} is incomplete: {name} is missing")
    return fs.sha256(marker)


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder, with a published folder as one entry, without links to folders."""
    for child in folder.iterdir():
        if child.is_dir() and not (child / fs.SUMS).is_file():
            yield from () if child.is_symlink() else _below(child)
        elif not (child.is_dir() and child.is_symlink()):
            yield child


# --- code ----------------------------------------------------------------------------------------


def _code_hash(file: Path) -> str:
    if file.suffix != ".py":
        return fs.sha256(file)
    return _hash_of_text(file.read_text(encoding="utf-8"))


@functools.cache  # a pipeline asks for the same files at every stage
def _hash_of_text(text: str) -> str:
    """The hash of a file's syntax tree without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode("utf-8")).hexdigest()
