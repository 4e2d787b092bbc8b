"""What a stage's result depends on, as hashes: the bytes it reads and the code that does the work.

Content: a published folder is known by its `SHA256SUMS`, anything else by its bytes. A file is
read again only when its size or modification time changed, so tens of gigabytes of input cost
one pass ever, not one a run.

Code: the modules that a verb's module imports, directly or not, and the plug-in folders they
name, without comments and docstrings. What merely shows, stores or asks (a report, a progress
bar, the config reader) is left out: a nicer chart must not retrain a model. The package's version
number is left out as well, since the code says more, and so are the versions of dependencies.
(Another Python may print a syntax tree differently; the stages then run again.)
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from hanllama.base import fs
from hanllama.base.errors import InputError
from hanllama.base.progress import Progress

PACKAGE = Path(__file__).parents[1]
# They decide how a result is asked for, shown and stored, never what it is.
PLUMBING = ("cli", "base", "pipeline", "recipe", "train.trackers")
CORPUS_CODE = ("__init__.py", "reading", "text", "corpus")
READ = (".py", ".yaml", ".txt")  # what code is, and reads, of a folder
_QUIET_BYTES = 200_000_000  # a second or so of hashing needs no progress display


class Contents:
    """Content hashes, remembered in a file across runs.

    Args:
        cache: a JSON file of {absolute path: [size, mtime_ns, sha256]}; created when missing.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        known = fs.read_json(cache) if cache.is_file() else {}
        self._known: dict[str, tuple[int, int, str]] = {k: tuple(v) for k, v in known.items()}

    def of(self, path: Path) -> str:
        """The hash of a file or folder and the names below it (its own name does not matter).

        Raises InputError when there is nothing at `path`, or a published folder lost a file.
        """
        if path.is_file():
            return self._files([path])[0]
        if not path.is_dir():
            raise InputError(f"{path} does not exist")
        if (path / fs.SUMS).is_file():
            return _published(path)
        entries: dict[str, str] = {}
        files = []
        for file in sorted(f for f in path.rglob("*") if f.is_file()):
            home = _published_home(file, path)
            if home is None:
                files.append(file)
            elif file.name == fs.SUMS and file.parent == home:
                entries[home.relative_to(path).as_posix()] = _published(home)
        hashes = self._files(files)
        entries |= {f.relative_to(path).as_posix(): h for f, h in zip(files, hashes, strict=True)}
        return of_json(entries)

    def _files(self, files: list[Path]) -> list[str]:
        stats = {f: f.stat() for f in files}
        new = [
            f
            for f, s in stats.items()
            if self._known.get(str(f.resolve()), ())[:2] != (s.st_size, s.st_mtime_ns)
        ]
        total = sum(stats[f].st_size for f in new)
        if total > _QUIET_BYTES:
            with Progress("fingerprint of the input", total / 1e6, unit="MB") as progress:
                for file in new:
                    self._remember(file)
                    progress.advance(stats[file].st_size / 1e6)
        else:
            for file in new:
                self._remember(file)
        if new:
            fs.write_json(self._cache, self._known)
        return [self._known[str(f.resolve())][2] for f in files]

    def _remember(self, file: Path) -> None:
        # The time is taken before the bytes: a file changed while it is read is read again.
        status = file.stat()
        self._known[str(file.resolve())] = (status.st_size, status.st_mtime_ns, fs.sha256(file))


def of_json(value: object) -> str:
    """The sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def of_code(*modules: str) -> str:
    """The hash of the code that `modules` (`hanllama.corpus.clean`) stand on, themselves included.

    A module outside the package counts by its own file alone.
    """
    files = code_files(*modules)
    return of_json({name: _code_hash(file) for name, file in files.items()})


def code_files(*modules: str) -> dict[str, Path]:
    """The files behind `of_code`: {name relative to the package: path}."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen or _is_plumbing(module):
            continue
        seen.add(module)
        for file in _module_files(module):
            found[_name(file)] = file
            code = _read(file.read_text(encoding="utf-8"))
            # A package's own file runs as well, but its plug-ins are not thereby used.
            waiting += [*code.modules, *map(_init_or_module, code.parents)]
            found |= {_name(f): f for f in _data_beside(file, code.names)}
    return dict(sorted(found.items()))


def of_corpus_code() -> str:
    """The hash of all the code that makes corpora, by its bytes.

    For commands that ask at every start whether a killed run may go on: `of_code` reads more
    closely, and takes a hundred times as long.
    """
    found = []
    for path in (PACKAGE / name for name in CORPUS_CODE):
        found += [path] if path.is_file() else [f for f in path.rglob("*") if f.suffix in READ]
    return of_json({_name(file): fs.sha256(file) for file in found})


# --- content -------------------------------------------------------------------------------------


def _published(folder: Path) -> str:
    marker = folder / fs.SUMS
    for line in marker.read_text(encoding="utf-8").split("\n"):
        name = line.partition("  ")[2]
        if name and not (folder / name).is_file():
            raise InputError(f"{folder} is incomplete: {name} is missing")
    return fs.sha256(marker)


def _published_home(file: Path, root: Path) -> Path | None:
    """The outermost published folder between `root` (not itself) and `file`."""
    home = None
    for folder in file.parents:
        if folder == root:
            return home
        if (folder / fs.SUMS).is_file():
            home = folder
    return home


# --- code ----------------------------------------------------------------------------------------


def _is_plumbing(module: str) -> bool:
    inner = module.removeprefix("hanllama.")
    return any(inner == name or inner.startswith(name + ".") for name in PLUMBING)


def _module_files(module: str) -> list[Path]:
    """A module's file; of a package all its plug-ins and data, since it is loaded from by name."""
    parts = module.split(".")
    if parts[0] != "hanllama":
        import importlib.util

        spec = importlib.util.find_spec(module)
        return [Path(spec.origin)] if spec and spec.origin else []
    base = PACKAGE.joinpath(*parts[1:])
    if base.with_suffix(".py").is_file():
        return [base.with_suffix(".py")]
    # Only the outermost package has no plug-ins: naming it names nothing yet.
    return sorted(base.glob("*.py")) if base != PACKAGE and base.is_dir() else []


@dataclass(frozen=True)
class _Code:
    """What a file of Python says.

    Attributes:
        hash: of all but comments, layout and docstrings.
        modules: that it imports anywhere, or names in a string.
        parents: that it imports from.
        names: strings that may be those of files beside it.
    """

    hash: str
    modules: list[str]
    parents: list[str]
    names: list[str]


@functools.cache  # a pipeline asks for the same files at every stage
def _read(text: str) -> _Code:
    tree = _parse(text)
    modules, parents, names = [], [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
            parents.append(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            modules += re.findall(r"\bhanllama(?:\.\w+)+", node.value)
            names += re.findall(r"\A[a-z][a-z0-9_.-]{0,60}\Z", node.value)
    return _Code(
        hash=hashlib.sha256(ast.dump(tree).encode("utf-8")).hexdigest(),
        modules=[m for m in modules if m.startswith("hanllama.")],
        parents=[m for m in parents if m.split(".")[0] == "hanllama"],
        names=names,
    )


def _parse(text: str) -> ast.Module:
    """A file's syntax tree without docstrings; comments and layout are not in it anyway."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ):
            node.body = node.body[1:]
    return tree


def _data_beside(file: Path, names: list[str]) -> list[Path]:
    """The files, and the files of folders without code, that a module names and stand beside it."""
    data: list[Path] = []
    if not file.is_relative_to(PACKAGE):
        return data
    for named in (file.parent / name for name in names):
        if named.is_file() and named.suffix != ".py":
            data.append(named)
        elif named.is_dir() and not list(named.glob("*.py")):
            data += [f for f in named.iterdir() if f.is_file()]
    return data


def _init_or_module(module: str) -> str:
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return f"{module}.__init__" if base.is_dir() else module


def _code_hash(file: Path) -> str:
    if file.suffix != ".py":
        return fs.sha256(file)
    return _read(file.read_text(encoding="utf-8")).hash


def _name(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else file.name
