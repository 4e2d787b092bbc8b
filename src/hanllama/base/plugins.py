"""Find a plug-in by its file name, so that the project grows without a registry.

A cleaning rule, a reward, a tracker is one file in its folder, and its name in a config is its file
name. A name that ends in `.py` is the path of a user's own file, loaded the same way.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hanllama.base.errors import ConfigError


def names(package: str) -> list[str]:
    """The plug-ins of a package (`hanllama.corpus.rules`), by file name, sorted."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Load the module `name` of `package`, or the file at `name` if it ends in `.py`.

    Raises ConfigError with the nearest name if there is no such plug-in.
    """
    if name.endswith(".py"):
        return _load_file(Path(name), package)
    known = names(package)
    if name not in known:
        raise ConfigError(f"{kind(package)} {name!r} does not exist{nearest(name, known)}")
    return importlib.import_module(f"{package}.{name}")


def member(package: str, name: str, attribute: str) -> Any:
    """The class that a plug-in must have: `Rule` for a cleaning rule."""
    found = getattr(load(package, name), attribute, None)
    if found is None:
        raise ConfigError(
            f"{name} has no class {attribute}; see {package.replace('.', '/')}/__init__.py"
        )
    return found


def named(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of a plug-in, from `name` or `{name: {parameter: value}}`."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, parameters),) = entry.items()
        if parameters is None or isinstance(parameters, Mapping):
            return str(name), dict(parameters or {})
    raise ConfigError(f"{where}: {entry!r} is neither a name nor `name: {{parameter: value}}`")


def kind(package: str) -> str:
    """`hanllama.corpus.rules` -> `rule`: the word for one file of the folder, in messages."""
    name = package.rsplit(".", 1)[-1]
    return name.removesuffix("es" if name.endswith("sses") else "s")


def nearest(name: str, known: list[str]) -> str:
    """The end of an error message: `; did you mean 'x'?` or the list of known names."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; there are: {', '.join(known)}" if known else ""


def _load_file(path: Path, package: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{kind(package)} file {path} does not exist")
    # The module's name contains a hash of the path, so that two files called my_rule.py differ and
    # worker processes find the same module.
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    module_name = f"hanllama_user_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        del sys.modules[module_name]
        raise
    return module
