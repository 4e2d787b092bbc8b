"""The errors that a user can cause: each message says what, where and what to do.

`cli.main` turns each of them into one line on stderr and exit code 2; any other exception is a bug
and keeps its traceback. They are `ValueError`s, so a script that uses the library can catch them
without importing this module.
"""

from __future__ import annotations


class HanllamaError(ValueError):
    """The base of all errors that a user can cause."""


class ConfigError(HanllamaError):
    """An unknown key, a value of the wrong type, impossible dimensions."""


class InputError(HanllamaError):
    """A missing file or folder, an empty corpus, unusable text."""


class CorruptError(HanllamaError):
    """A damaged file: truncated, altered, without its marker."""


class ResumeError(HanllamaError):
    """A run that cannot go on, because its data, tokenizer or model changed."""


class StorageError(HanllamaError):
    """The disk refused a write: full, read-only, over a quota."""


class NonFiniteError(HanllamaError):
    """A loss or gradient that is NaN or infinite; the weights did not change."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP arrived: the command exits with 128 + signal.

    Like KeyboardInterrupt it is no Exception, so that no handler takes it for a failed job.
    `saved` is the place of the saved work; `goes_on` is False if the same command begins again.
    """

    def __init__(self, signal_number: int, saved: str = "", *, goes_on: bool = True) -> None:
        super().__init__(saved)
        self.signal_number = signal_number
        self.saved = saved
        self.goes_on = goes_on
