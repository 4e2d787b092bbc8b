"""Share jobs among processes, with results in order, for commands that read a corpus.

    with closing(ordered(jobs, workers, Cleaner, (steps, fields))) as results:
        for result in results: ...

Each process builds its own callable (rules with compiled patterns, a tokenizer) once, by
`build(*arguments)`, and calls it for every job. Results come in the order of the jobs, so the
output does not depend on the number of processes.

This process is one of the workers: it makes the jobs, uses the results, and does a job itself while
the others have enough to do. So it begins while they are still starting, and with one worker there
is no other process.

The others are forked if that is safe, with everything that this process has loaded; otherwise each
is a new Python, which costs half a second of imports (`forks`).
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

from hanllama.base.errors import HanllamaError
from hanllama.base.making import SIGNALS

Job = TypeVar("Job")
Result = TypeVar("Result")

JOB_BYTES = 2**20  # many small files, or a part of a large file, or one book
# Jobs queued for each other process, so that it has work while this one does a longer job. Fewer
# near the end, where this process does jobs itself instead of waiting.
_AHEAD = 3
# Finished jobs per process that may wait for an earlier one: a bound on memory.
_HELD = 6
# The thread switch interval of this process. A narrow pipe passes a result in parts of 64 KB, and
# with Python's own 5 ms per switch another process would wait a tenth of its time.
_SWITCH_SECONDS = 5e-4
# Libraries whose threads may hold a lock at the moment of a fork; the copy could never open it.
# (NumPy's own threads end before a fork.)
_THREADED = ("numba", "pyarrow", "tokenizers", "torch")


def ordered(
    jobs: Iterable[Job],
    workers: int,
    build: Callable[..., Callable[[Job], Result]],
    arguments: tuple[Any, ...],
) -> Generator[Result, None, None]:
    """Call `build(*arguments)` on every job; yield the results in the order of the jobs.

    `build`, arguments, jobs and results must be picklable. Closing the generator ends the
    processes. Raises HanllamaError if one was killed.
    """
    with contextlib.closing(Workers(workers, build, arguments)) as processes:
        yield from processes.ordered(jobs, lambda: build(*arguments))


class Workers(Generic[Job, Result]):
    """The other processes of `ordered`, for a caller that starts them before the first job."""

    def __init__(
        self,
        workers: int,
        build: Callable[..., Callable[[Job], Result]],
        arguments: tuple[Any, ...],
    ) -> None:
        self._others = workers - 1
        self._interval = sys.getswitchinterval()
        if self._others:
            sys.setswitchinterval(_SWITCH_SECONDS)
            context = multiprocessing.get_context("fork" if forks() else "spawn")
            self._executor = ProcessPoolExecutor(self._others, context, _start, (build, arguments))
            _widen(self._executor)
            # The executor starts one process per job while none is idle.
            self._started, *_ = [self._executor.submit(_nothing) for _ in range(self._others)]

    def ordered(
        self, jobs: Iterable[Job], build: Callable[[], Callable[[Job], Result]]
    ) -> Generator[Result, None, None]:
        """Yield the results in order; `build` makes this process's callable at its first job."""
        call: Callable[[Job], Result] | None = None
        left = _Left(jobs)
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                while self._others_want(waiting, left):
                    waiting.append(self._executor.submit(_work, left.take()))
                if waiting and waiting[0].done():
                    yield waiting.popleft().result()
                elif len(waiting) < _HELD * (self._others + 1) and left.at_least(1):
                    call = call or build()
                    waiting.append(_done_here(call, left.take()))
                elif waiting:
                    yield waiting.popleft().result()
                else:
                    return
        except BrokenProcessPool as error:
            raise HanllamaError(
                "a worker process was killed, most likely for lack of memory; lower --workers"
            ) from error

    def _others_want(self, waiting: deque[Future[Any]], left: _Left[Job]) -> bool:
        """Whether another process may run out of jobs and should get the next."""
        if not self._others or not self._started.done():
            return False
        each = sum(not f.done() for f in waiting) / self._others
        return each < _AHEAD and left.at_least(int(each) + 1)

    def close(self) -> None:
        if self._others:
            self._executor.shutdown(cancel_futures=True)
            sys.setswitchinterval(self._interval)


def forks() -> bool:
    """Whether other processes would be forks of this one.

    Only if this process has no other threads, whose locks the forks would inherit.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    return sys.modules.keys().isdisjoint(_THREADED)


class _Left(Generic[Job]):
    """The jobs not yet taken; a few can be counted ahead."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._source = iter(jobs)
        self._ready: deque[Job] = deque()

    def at_least(self, count: int) -> bool:
        """Whether at least `count` jobs are left."""
        self._ready.extend(itertools.islice(self._source, max(count - len(self._ready), 0)))
        return len(self._ready) >= count

    def take(self) -> Job:
        """The next job, after `at_least(1)`."""
        return self._ready.popleft()


def _widen(executor: ProcessPoolExecutor) -> None:
    """Let the pipes hold a whole job or result, so that it is passed at once.

    A Linux pipe holds 64 KB, so a job takes a dozen writes, and between them one side waits for a
    thread of the other. On other systems the pipes stay unchanged.
    """
    if sys.platform != "linux":
        return
    import fcntl

    inside: Any = executor  # no public option sets this
    for name in ("_call_queue", "_result_queue"):
        # The system may refuse a larger pipe, and these private names may change.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(getattr(inside, name)._writer, fcntl.F_SETPIPE_SZ, JOB_BYTES)


def _done_here(call: Callable[[Job], Result], job: Job) -> Future[Result]:
    """Do a job here; its result or exception waits in a future, like those of the others."""
    future: Future[Result] = Future()
    try:
        future.set_result(call(job))
    except Exception as error:
        future.set_exception(error)
    return future


def count(asked: int, input_bytes: int, small_bytes: int) -> int:
    """The number of processes: `asked`, else one per core, or one for a small input.

    An input below `small_bytes` is done before a second process has started; `input_bytes` 0 means
    unknown.
    """
    if asked:
        return asked
    if 0 < input_bytes < small_bytes:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- in the worker processes -------------------------------------------------------------------

_call: Callable[[Any], Any] | None = None  # this worker process's callable


def _start(build: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _call
    # The parent handles Ctrl-C; a fork may have inherited the parent's handler of SIGTERM.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _call = build(*arguments)


def _end_with_parent() -> None:
    """Exit when the parent was killed; otherwise its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing() -> None:
    """An empty job, done as soon as a process has started."""


def _work(job: Any) -> Any:
    assert _call is not None
    return _call(job)
