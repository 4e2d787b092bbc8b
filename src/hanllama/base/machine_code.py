"""Compile loops that are too slow in Python, by numba, at their first use.

numba is an optional dependency and slow to import, so a file of compiled loops holds nothing else
and is imported inside the function that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from hanllama.base.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function to machine code, cached on disk if a folder is writable.

    Raises ConfigError if numba is not installed.
    """
    try:
        from numba import njit
    except ImportError as error:
        raise ConfigError("this command needs numba: pip install 'hanllama[data]'") from error
    compile_: Any = njit
    try:
        made = compile_(nogil=True, cache=True)(function)
        _follow(made._cache._cache_file, function)
        return made  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package's folder nor the user's cache is writable
        return compile_(nogil=True)(function)  # type: ignore[no-any-return]


def _follow(kept: Any, function: Callable[..., Any]) -> None:
    """Make the cached code stale when a file of a loop that it calls changes.

    numba compiles called loops into their caller, but checks only the caller's file.
    """
    called = (getattr(value, "py_func", function) for value in function.__globals__.values())
    files = sorted({other.__code__.co_filename for other in called})
    kept._source_stamp = [(file, os.stat(file).st_mtime, os.stat(file).st_size) for file in files]
