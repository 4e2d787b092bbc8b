"""Work for many processes, results in order: what a command that reads a corpus stands on.

    with closing(ordered(jobs, workers, Cleaner, (steps, fields))) as results:
        for result in results: ...

Each process builds its own callable (rules with compiled patterns, a tokenizer) once, by
`build(*arguments)`, and calls it for every job. The results come back in the order of the jobs, so
whatever is made of them does not depend on how many processes there are; with one worker there is
no other process at all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from hanllama.errors import HanllamaError

Job = TypeVar("Job")
Result = TypeVar("Result")

JOB_BYTES = 2**20  # many small files, or one run of lines, or one book


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
    if workers == 1:
        yield from map(build(*arguments), jobs)
        return
    # spawn: a forked child would inherit the locks of threads that pyarrow and others started.
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start, (build, arguments)
    )
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(executor.submit(_work, job))
            # Enough that nobody waits for work, few enough that memory does not grow.
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise HanllamaError(
            "a worker process was killed, most likely for lack of memory; lower --workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _call = build(*arguments)


def _end_with_parent() -> None:
    """A parent that was killed sends no word; without this its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Any) -> Any:
    assert _call is not None
    return _call(job)
