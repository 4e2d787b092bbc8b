"""Promises of `base/workers.py`: results in order, from exactly so many processes, bounded."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hanllama.base import workers
from hanllama.base.errors import HanllamaError, Interrupted

PATIENCE = 60.0  # seconds for processes to start on a machine that does other work


class Task:
    """A job's number and the process that did it; what happens on the way is told by `what`."""

    def __init__(self, what: str, home: int, path: str = "") -> None:
        self.what, self.home, self.path = what, home, path

    def __call__(self, number: int) -> tuple[int, int]:
        away = os.getpid() != self.home
        if self.what == "fail at 5" and number == 5:
            raise ValueError("five")
        if self.what == "die" and away:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "term" and away:
            os.kill(os.getpid(), signal.SIGTERM)
        while self.what == "wait" and away and not Path(self.path).exists():
            time.sleep(0.001)
        return number, os.getpid()


def started(
    jobs: Iterable[int], n_workers: int, what: str = "", path: str = ""
) -> contextlib.closing[Iterator[tuple[int, int]]]:
    return contextlib.closing(workers.ordered(jobs, n_workers, Task, (what, os.getpid(), path)))


def numbers_until(enough: threading.Event) -> Iterator[int]:
    deadline = time.monotonic() + PATIENCE
    for number in itertools.count():
        if enough.is_set() or time.monotonic() > deadline:
            return
        yield number


@pytest.fixture(params=["fork", "spawn"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How other processes begin; what this process has loaded does not decide here."""
    monkeypatch.setattr(workers, "forks", lambda: request.param == "fork")
    return str(request.param)


def test_only_a_process_without_threads_is_copied() -> None:
    """A lock that another thread holds at that moment would stay shut in the copy for ever."""
    program = (
        "import sys, threading\n"
        "from hanllama.base import workers\n"
        "print(workers.forks())\n"
        "go = threading.Event()\n"
        "thread = threading.Thread(target=go.wait)\n"
        "thread.start()\n"
        "print(workers.forks())\n"
        "go.set()\n"
        "thread.join()\n"
        "print(workers.forks())\n"
        "import pyarrow\n"
        "print(workers.forks())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    linux = str(sys.platform == "linux")
    assert done.stdout.split() == [linux, "False", linux, "False"], done.stderr


def test_a_signal_that_this_process_catches_ends_its_copies(start: str) -> None:
    """A copy inherits the handlers; one that went on would outlive the command."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interval = sys.getswitchinterval()
    jobs = numbers_until(threading.Event())
    try:
        with pytest.raises(HanllamaError, match="killed"), started(jobs, 2, "term") as results:
            for _ in results:
                pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sys.getswitchinterval() == interval


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_so_many_processes_this_one_first_and_results_in_order(n_workers: int, start: str) -> None:
    enough = threading.Event()
    seen: list[tuple[int, int]] = []
    processes: set[int] = set()
    with started(numbers_until(enough), n_workers) as results:
        for result in results:
            seen.append(result)
            processes.add(result[1])
            if len(processes) == n_workers and len(seen) > 1000:
                enough.set()
    assert [number for number, _ in seen] == list(range(len(seen)))
    assert len(processes) == n_workers
    assert seen[0][1] == os.getpid() or start == "fork"  # the others were still starting


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_failure_comes_in_its_turn(n_workers: int) -> None:
    seen = []
    with (
        pytest.raises(ValueError, match="five"),
        started(range(50), n_workers, "fail at 5") as got,
    ):
        for number, _ in got:
            seen.append(number)
    assert seen == [0, 1, 2, 3, 4]


def test_a_signal_waits_for_no_turn() -> None:
    """What a signal raises amid a job ends the work at once, not when the job's turn comes."""

    def call(_: int) -> int:
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        workers._done_here(call, 1)


@pytest.mark.usefixtures("start")
def test_a_killed_worker_is_said_so() -> None:
    never = threading.Event()
    with (
        pytest.raises(HanllamaError, match=r"a worker process was killed.*lower --workers"),
        started(numbers_until(never), 2, "die") as results,
    ):
        for _ in results:
            pass


@pytest.mark.usefixtures("start")
def test_the_last_jobs_are_not_left_to_the_others(tmp_path: Path) -> None:
    """However long the other process takes, this one does its half of four jobs meanwhile."""
    stuck = tmp_path / "go on"
    freeing = threading.Timer(1.0, stuck.touch)
    arguments = ("wait", os.getpid(), str(stuck))
    both = workers.Workers[int, tuple[int, int]](2, Task, arguments)
    with contextlib.closing(both):
        both._started.result(PATIENCE)
        freeing.start()
        results = both.ordered(range(4), lambda: Task(*arguments))
        done_here = sum(process == os.getpid() for _, process in results)
    freeing.join()
    assert done_here == 2


def test_what_waits_for_a_slow_job_is_bounded(tmp_path: Path) -> None:
    """The other process hangs on a job; this one does not do the rest of the corpus meanwhile."""
    pulled = delivered = most = 0
    stuck, enough = tmp_path / "go on", threading.Event()

    def counted() -> Iterator[int]:
        nonlocal pulled, most
        for number in numbers_until(enough):
            pulled += 1
            most = max(most, pulled - delivered)
            yield number

    def free_it() -> None:
        """Once nothing has moved for a while after the other process had its job."""
        before, deadline = -1, time.monotonic() + PATIENCE
        while (before != pulled or pulled == delivered) and time.monotonic() < deadline:
            before = pulled
            time.sleep(0.5)
        enough.set()
        stuck.touch()

    freeing = threading.Thread(target=free_it)
    with started(counted(), 2, "wait", str(stuck)) as results:
        freeing.start()
        for _ in results:
            delivered += 1
    freeing.join()
    assert pulled == delivered
    assert most <= 20
