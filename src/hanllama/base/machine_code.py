"""Loops that Python is too slow for, compiled by numba where they are first used.

numba is an optional dependency and slow to import, so a file of compiled loops holds nothing else,
and is imported inside the function that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hanllama.base.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code, kept on disk where some folder can be written.

    Raises ConfigError when numba is not installed.
    """
    try:
        from numba import njit
    except ImportError as error:
        raise ConfigError("this command needs numba: pip install 'hanllama[data]'") from error
    compile_: Any = njit
    try:
        return compile_(nogil=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return compile_(nogil=True)(function)  # type: ignore[no-any-return]
