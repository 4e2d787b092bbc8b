"""Work for many processes, results in order: what a command that reads a corpus stands on.

    with closing(ordered(jobs, workers, Cleaner, (steps, fields))) as results:
        for result in results: ...

Each process builds its own callable (rules with compiled patterns, a tokenizer) once, by
`build(*arguments)`, and calls it for every job. The results come back in the order of the jobs, so
whatever is made of them does not depend on how many processes there are.

This process is one of the workers: it cuts the jobs and uses the results, and does a job itself
whenever the others have enough to do. So it begins while they are still starting, and with one
worker there is no other process at all.

Where it is safe the others are forked, and have at once what this process has loaded; elsewhere
they start from nothing, which costs each half a second of imports (`forks`).
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

JOB_BYTES = 2**20  # many small files, or one run of lines, or one book
# Jobs that another process has before it, so that it goes on while this one does a longer job;
# fewer of the last ones, which this one does itself rather than wait.
_AHEAD = 3
# Finished jobs that wait for an unfinished one before them, for each process: memory's bound.
_HELD = 6
# How long this process may keep another one waiting whose result is being taken in, where pipes are
# narrow by 64 KB at a time: by Python's own 5 ms it is a tenth of its time.
_SWITCH_SECONDS = 5e-4
# Libraries whose threads may hold a lock at the moment of a fork, which nobody would ever open in
# the copy. (NumPy's own threads end before a fork.)
_THREADED = ("numba", "pyarrow", "tokenizers", "torch")


def ordered(
    jobs: Iterable[Job],
    workers: int,
    build: Callable[..., Callable[[Job], Result]],
    arguments: tuple[Any, ...],
) -> Generator[Result, None, None]:
    """The results of `build(*arguments)` for every job, in the order of the jobs.

    `build` and the arguments travel to the processes, so they can be pickled; so can jobs and
    results. Closing the generator ends the processes. Raises HanllamaError when one was killed.
    """
    with contextlib.closing(Workers(workers, build, arguments)) as processes:
        yield from processes.ordered(jobs, lambda: build(*arguments))


class Workers(Generic[Job, Result]):
    """The other processes of `ordered`, for a caller who starts them before there is a job."""

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
            # One starts with each job that finds none idle.
            self._started, *_ = [self._executor.submit(_nothing) for _ in range(self._others)]

    def ordered(
        self, jobs: Iterable[Job], build: Callable[[], Callable[[Job], Result]]
    ) -> Generator[Result, None, None]:
        """The results in order; `build` makes what this process calls, with its first job."""
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
        """Whether another process may run out of jobs, and should have one of those left."""
        if not self._others or not self._started.done():
            return False
        each = sum(not f.done() for f in waiting) / self._others
        return each < _AHEAD and left.at_least(int(each) + 1)

    def close(self) -> None:
        """End the processes."""
        if self._others:
            self._executor.shutdown(cancel_futures=True)
            sys.setswitchinterval(self._interval)


def forks() -> bool:
    """Whether other processes would begin as copies of this one, with all that it has loaded.

    Only of a process without other threads, whose locks the copies would inherit.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    return sys.modules.keys().isdisjoint(_THREADED)


class _Left(Generic[Job]):
    """Jobs that nobody has yet, of which a few can be counted before they are taken."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._source = iter(jobs)
        self._ready: deque[Job] = deque()

    def at_least(self, count: int) -> bool:
        """Whether so many are left."""
        self._ready.extend(itertools.islice(self._source, max(count - len(self._ready), 0)))
        return len(self._ready) >= count

    def take(self) -> Job:
        """The next one, once `at_least(1)`."""
        return self._ready.popleft()


def _widen(executor: ProcessPoolExecutor) -> None:
    """Let the pipes hold a whole job or result, which is then handed over in one go.

    By the 64 KB that Linux gives a pipe it takes a dozen, between which one side waits for a thread
    of the other to get its turn. Elsewhere the pipes stay as they are.
    """
    if sys.platform != "linux":
        return
    import fcntl

    inside: Any = executor  # it has no option for this
    for name in ("_call_queue", "_result_queue"):
        # A user who has many pipes already may not have larger ones; and what is inside may change.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(getattr(inside, name)._writer, fcntl.F_SETPIPE_SZ, JOB_BYTES)


def _done_here(call: Callable[[Job], Result], job: Job) -> Future[Result]:
    """A job's result or failure, to be met in its turn like any other's."""
    future: Future[Result] = Future()
    try:
        future.set_result(call(job))
    except Exception as error:
        future.set_exception(error)
    return future


def count(asked: int, input_bytes: int, small_bytes: int) -> int:
    """How many processes: as asked, else one per core, and one for a small input.

    An input below `small_bytes` is done before a second process has started; 0 means unknown.
    """
    if asked:
        return asked
    if 0 < input_bytes < small_bytes:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- in the worker processes -------------------------------------------------------------------

_call: Callable[[Any], Any] | None = None  # of this worker process


def _start(build: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _call
    # Ctrl-C is the parent's to handle; SIGTERM the parent of a copy may have caught.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _call = build(*arguments)


def _end_with_parent() -> None:
    """A parent that was killed sends no word; without this its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing() -> None:
    """A job that is done once a process has started."""


def _work(job: Any) -> Any:
    assert _call is not None
    return _call(job)
