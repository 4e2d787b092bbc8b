"""Work in a forked child that dies at its n-th file operation: what trials of SIGKILL stand on.

Python's file operations are met by an audit hook that sends SIGKILL before the operation happens.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

# os.replace raises "os.rename" too; an "open" counts when it may write.
EVENTS = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "open",
}  # fmt: skip


def in_fork(work: Callable[[], object], quiet: bool = True) -> int:
    """Run `work` in a forked child; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if quiet:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def count_operations(kill_at: int | None, number: int = signal.SIGKILL) -> list[int]:
    """Count this process's file operations from now on, in a list of one; die at `kill_at`.

    Another `number` than SIGKILL is a signal that the process may catch.
    """
    seen = [0]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if is_write(event, args):
            seen[0] += 1
            if seen[0] == kill_at:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)
    return seen


def is_write(event: str, args: tuple[object, ...]) -> bool:
    if event not in EVENTS:
        return False
    if event != "open":
        return True
    mode, flags = args[1], args[2]
    if isinstance(mode, str):
        return any(c in mode for c in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
