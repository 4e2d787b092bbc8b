"""Native training in a process of its own: Ctrl-C ends it at once, and a kill says what it was.

SentencePiece and the tokenizers library train for minutes without a look at Python, and so long a
signal would wait. Here this process does nothing but wait, and ends the other one on a signal
(`interruptible`). Where the system kills for lack of memory, it is that one that goes, and this one
says so.

The other process begins from nothing rather than as a copy of this one, whose libraries have
threads: 0.1 s for Python and the imports, with the text sent over a pipe. What it prints goes to
stderr, as all progress does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from hanllama.base import plugins
from hanllama.base.errors import HanllamaError, Interrupted
from hanllama.tokenizer import words
from hanllama.tokenizer.algorithms import Algorithm, Settings

P = ParamSpec("P")
Result = TypeVar("Result")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Died(HanllamaError):
    """The process of `call` ended without an answer."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind the work as Interrupted; it begins again the next time."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread, whatever it does
        return
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    # Ignored ones stay so (nohup), and what no Python code has set could not be put back.
    before = {n: h for n, h in found.items() if h is not None and h != signal.SIG_IGN}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # a second one must not disturb the clearing away
        raise Interrupted(number, goes_on=False)

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def call(function: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result:
    """`function(*arguments)` in another process, which ends whatever happens to this one.

    Function, arguments and result travel by pickle. What the function raises is raised here, with
    the other process's traceback as its cause. Raises Died where there is no answer.
    """
    # A signal between here and `try` loses the process, which then finds its stdin closed and ends.
    with _signals_blocked():
        process = subprocess.Popen(_words(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # it has died: there will be no answer
            pickle.dump((function, arguments, named), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()  # and left open, for `_end_with_parent`
        answer = process.stdout.read()
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    if code or not answer:
        raise Died(_ending(code))
    result, error, trace = pickle.loads(answer)
    if error is not None:
        raise error from _ElsewhereError(trace)
    found: Result = result
    return found


class _ElsewhereError(Exception):
    """The traceback of another process, shown as the cause of its exception."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _words() -> list[str]:
    """The command line of a process that finds the modules that this one finds."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    return [sys.executable, "-c", program]


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """What is started inside never sees Ctrl-C, which a terminal sends to both processes."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int) -> str:
    """How a process without an answer ended, in the words of a message."""
    if code == -9:  # SIGKILL, a name that Windows has not
        return "its process was killed, most likely for lack of memory"
    # An allocation that fails inside of native code aborts, or ends in exit code 127.
    how = (
        f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    )
    return f"its process {how} (what it said stands above), perhaps for lack of memory"


# --- in the other process ------------------------------------------------------------------------


def train(
    package: str,
    name: str,
    folder: Path,
    lines: Sequence[str],
    known_words: Sequence[str],
    settings: Settings,
) -> None:
    """Train by the algorithm `name` of `package` into a folder, on lines cut at the known words."""
    module: Algorithm = plugins.load(package, name)  # type: ignore[assignment]
    module.train(folder, words.cut(lines, known_words), settings)


def main() -> None:
    """Read a call from stdin, and answer on what was stdout."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        function, arguments, named = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):
        return  # the parent has gone
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with answers:
        answers.write(_answer(function, arguments, named))
    sys.stdout.flush()
    os._exit(0)  # nothing is left that would have to be freed first


def _answer(
    function: Callable[..., object], arguments: tuple[Any, ...], named: dict[str, Any]
) -> bytes:
    """(result, exception, traceback) of a call, pickled."""
    try:
        return pickle.dumps((function(*arguments, **named), None, ""))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            answer = pickle.dumps((None, error, trace))
            pickle.loads(answer)  # an exception may go in and not come out
            return answer
        except Exception:
            stand_in = RuntimeError(f"{type(error).__name__}: {error}")
            return pickle.dumps((None, stand_in, trace))


def _end_with_parent() -> None:
    """A parent that was killed sends no word; but then its end of stdin closes."""
    os.read(0, 1)  # past the call nothing comes
    os._exit(1)
