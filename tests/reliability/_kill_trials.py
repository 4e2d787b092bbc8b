"""Forked trials for promise 2: die at the n-th file operation of a save, resume, compare bytes.

`python _kill_trials.py SHARDS FOLDER` prints {"killed": …, "wrong": […]} as its last line. One warm
process forks all trials. Python's file operations are met by an audit hook that sends SIGKILL; the
large writes inside the safetensors library raise no such event, so there the kernel is told to
kill the process (SIGXFSZ) when a file grows past a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from _forks import count_operations, in_fork

from builders import folders
from hanllama.train import checkpoints
from hanllama.train.pretrain import pretrain


def main(data: Path, folder: Path) -> None:
    torch.set_num_threads(1)

    def config(name: str, **loop: object):  # type: ignore[no-untyped-def]
        return folders.pretrain_config(
            data, folder / name, max_steps=4, save_every=2, keep=1, **loop
        )

    with contextlib.redirect_stdout(sys.stderr):
        pretrain(config("whole"))
    expected = (folder / "whole" / "model" / "model.safetensors").read_bytes()
    size = len(expected)

    def run(name: str, kill_at: int | None) -> Callable[[], None]:
        """Train with the hook counting inside saves and the publishing of the result."""

        def work() -> None:
            settled = config(name)
            seen = count_operations(kill_at)
            pretrain(settled)
            if kill_at is None:
                (folder / "count").write_text(str(seen[0]))

        return work

    def limited(name: str, limit: int) -> Callable[[], None]:
        def work() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            pretrain(config(name))

        return work

    assert in_fork(run("counted", None)) == 0
    events = int((folder / "count").read_text())
    trials = [(f"event {n} of {events}", run("trial", n)) for n in range(1, events + 1)]
    trials += [
        (f"byte {limit}", limited("trial", limit)) for limit in (size // 3, size - 1, 2 * size - 9)
    ]
    killed, wrong = 0, []
    for name, work in trials:
        shutil.rmtree(folder / "trial", ignore_errors=True)
        status = in_fork(work)
        killed += os.WIFSIGNALED(status)
        for checkpoint in checkpoints.all_in(folder / "trial" / "checkpoints"):
            checkpoints.verify(checkpoint)
        again = in_fork(lambda: pretrain(config("trial")))
        model = folder / "trial" / "model" / "model.safetensors"
        if again != 0 or not model.is_file() or model.read_bytes() != expected:
            wrong.append(name)
    print(json.dumps({"killed": killed, "events": events, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
