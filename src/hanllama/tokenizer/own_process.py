"""Native code in a separate process: Ctrl-C ends it at once, and a kill is explained.

SentencePiece and the tokenizers library train for minutes without returning to Python, and a signal
would wait as long. So this process only waits, and ends the other one on a signal. When memory runs
out, the system kills the other process, and this one reports it.

The other process is a new Python (0.1 s of start and imports): a fork would inherit locks that the
libraries' threads hold. Python's own pools would run the user's script again in it, so a script
without a guard, or one read from stdin, could not train.
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
    """Call a function in another process, which never outlives this one.

    Function, arguments and result are pickled. An exception of the function is raised here, with
    the other process's traceback in its notes. Raises Died if no answer comes.
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
    """Say how a process without an answer ended."""
    if code == -9:  # SIGKILL, which Windows does not define
        return "its process was killed, most likely for lack of memory"
    # A failed allocation in native code aborts, or ends with exit code 127.
    how = (
        f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    )
    return f"its process {how} (its output is above), perhaps for lack of memory"


# --- in the other process ------------------------------------------------------------------------


def main() -> None:
    """Read a call from stdin and answer on stdout; the call's own output goes to stderr."""
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
    os._exit(0)  # skip the slow freeing of memory


def _failure(error: Exception, trace: str) -> bytes:
    """The pickled exception, or a RuntimeError with its text if it cannot be pickled."""
    error.add_note(trace)
    try:
        answer = pickle.dumps((None, error))
        pickle.loads(answer)  # some exceptions can be pickled, but not loaded
        return answer
    except Exception:
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}\n{trace}")))


def _end_with(parent: int) -> None:
    """Exit once the parent is gone: its id changes, or (Windows) no such process exists."""
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(0.2)
    os._exit(1)
