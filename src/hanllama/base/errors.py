"""What a user can cause, as exceptions: each message says what, where and what to do.

`cli.main` turns every one of them into one line on stderr and exit code 2; anything else is a bug
and keeps its traceback. They are `ValueError`s, so that a script using the library can catch what
it expects without importing this tree.
"""

from __future__ import annotations


class HanllamaError(ValueError):
    """The base of everything a user can cause."""


class ConfigError(HanllamaError):
    """An unknown key, a value of the wrong type, impossible dimensions."""


class InputError(HanllamaError):
    """A missing file or folder, an empty corpus, text that cannot be used."""


class CorruptError(HanllamaError):
    """A file that is not what was written: truncated, altered, without its marker."""


class ResumeError(HanllamaError):
    """A run that cannot go on as asked: its data, tokenizer or model changed underneath it."""


class StorageError(HanllamaError):
    """The disk refused a write: full, read-only, over a quota."""


class NonFiniteError(HanllamaError):
    """A loss or gradient that is NaN or infinite; the weights were left as they were."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP arrived: the command exits with 128 + signal.

    Like KeyboardInterrupt it is no Exception, so that nobody takes it for a failure of the work.
    `saved` is where the work lies; `goes_on` is False where the same command has to begin again.
    """

    def __init__(self, signal_number: int, saved: str = "", *, goes_on: bool = True) -> None:
        super().__init__(saved)
        self.signal_number = signal_number
        self.saved = saved
        self.goes_on = goes_on
