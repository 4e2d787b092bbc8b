"""Forked trials for promise 13: die at each file operation of a cleaning, run it again, compare.

`python _clean_kill_trials.py INPUT FOLDER` prints {"killed": …, "resumed": …, "wrong": […]}. A
state is saved after every job and a part is full after 20 kB, so that every kind of moment occurs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from _forks import count_operations, in_fork

from hanllama.base import workers
from hanllama.corpus import clean as cleaning
from hanllama.corpus import parts


def main(source: Path, folder: Path) -> None:
    cleaning.SAVE_SECONDS = 0.0
    workers.JOB_BYTES = 20_000
    parts.PART_BYTES = 20_000

    def clean(output: Path) -> None:
        cleaning.clean(cleaning.CleanConfig(inputs=(str(source),), output=str(output), workers=1))

    def counted() -> None:
        seen = count_operations(None)
        clean(folder / "counted")
        (folder / "count").write_text(str(seen[0]))

    def killed_at(place: int) -> None:
        count_operations(place)
        clean(folder / "trial")

    with contextlib.redirect_stdout(sys.stderr):
        clean(folder / "warm")  # what it imports, the children need not import again
    shutil.rmtree(folder / "warm")
    assert in_fork(counted) == 0
    expected = contents(folder / "counted")
    killed, resumed, wrong = 0, 0, []
    operations = int((folder / "count").read_text())
    for place in range(1, operations + 1):
        shutil.rmtree(folder / "trial", ignore_errors=True)
        shutil.rmtree(folder / "trial.partial", ignore_errors=True)
        killed += os.WIFSIGNALED(in_fork(partial(killed_at, place)))
        # A kill may come after the result is in place, while what it was made of is swept.
        if not (folder / "trial").exists():
            resumed += (folder / "trial.partial" / "state.json").exists()
            if in_fork(lambda: clean(folder / "trial")) or (folder / "trial.partial").exists():
                wrong.append(place)
                continue
        if contents(folder / "trial") != expected:
            wrong.append(place)
    print(json.dumps({"killed": killed, "of": operations, "resumed": resumed, "wrong": wrong}))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
