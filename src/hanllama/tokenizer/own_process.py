"""Native code in a process of its own: Ctrl-C ends it at once, and a kill says why.

SentencePiece and the tokenizers library train for minutes without a look at Python, and a signal
would wait as long. Here this process only waits, and ends the other one when a signal comes. Where
the system kills for lack of memory, it kills the other one, and this one says so.

The other process begins from nothing, 0.1 s of Python and imports, since a copy of this one would
inherit the locks of its libraries' threads. Python's own pools would run the user's script again
in it, so that a script without a guard, or one read from stdin, could not train.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import psutil

from hanllama.base.errors import HanllamaError

P = ParamSpec("P")
Result = TypeVar("Result")


class Died(HanllamaError):
    """The process of `call` ended without an answer."""


def call(function: Callable[P, Result], *arguments: P.args, **named: P.kwargs) -> Result:
    """`function(*arguments)` in another process, which ends whatever happens to this one.

    Function, arguments and result travel by pickle. An exception of the function is raised here,
    the other process's traceback in its notes. Raises Died where there is no answer.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps((os.getpid(), function, arguments, named), pickle.HIGHEST_PROTOCOL),
        stdout=subprocess.PIPE,
        process_group=0,  # a terminal sends its Ctrl-C to this process alone
        check=False,
    )
    if done.returncode or not done.stdout:
        raise Died(_ending(done.returncode))
    result, error = pickle.loads(done.stdout)
    if error is not None:
        raise error
    found: Result = result
    return found


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


def main() -> None:
    """Read a call from stdin and answer on stdout; what the call prints goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    parent, function, arguments, named = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        answer = pickle.dumps((function(*arguments, **named), None))
    except Exception as error:
        answer = _failure(error, traceback.format_exc())
    with os.fdopen(answers, "wb") as stream:
        stream.write(answer)
    sys.stdout.flush()
    os._exit(0)  # nothing is left that would have to be freed first


def _failure(error: Exception, trace: str) -> bytes:
    """An exception, pickled; in the place of one that cannot travel, a RuntimeError says it."""
    error.add_note(trace)
    try:
        answer = pickle.dumps((None, error))
        pickle.loads(answer)  # an exception may go in and not come out
        return answer
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}\n{trace}")))


def _end_with(parent: int) -> None:
    """A parent that was killed sends no word, but another takes its place; on Windows none does."""
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(0.2)
    os._exit(1)
