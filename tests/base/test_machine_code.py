"""Promises of compiled loops: machine code that is kept is that of the code as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

INNER = """
from hanllama.base.machine_code import compiled
@compiled
def step(value: int) -> int:
    return value + {}
"""
OUTER = """
from hanllama.base.machine_code import compiled
from inner import step
@compiled
def twice(value: int) -> int:
    return step(step(value))
print(twice(0), sum(twice.stats.cache_hits.values()))
"""


def test_a_loop_whose_callee_in_another_file_changed_is_compiled_anew(tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text(OUTER)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> list[str]:
        command = [sys.executable, "-B", "-c", "import outer"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    (tmp_path / "inner.py").write_text(INNER.format(1))
    assert run() == ["2", "0"]
    assert run() == ["2", "1"]  # kept
    (tmp_path / "inner.py").write_text(INNER.format(2000))
    assert run() == ["4000", "0"]
