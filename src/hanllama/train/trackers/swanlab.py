"""SwanLab (an optional package), an experiment board that is reachable from China.

It stays offline, in the run folder, unless SWANLAB_MODE is `cloud` or `local`: training never goes
online unasked. `swanlab sync` uploads an offline run later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hanllama.train.trackers import _service


class Tracker(_service.Service):
    """One SwanLab experiment per run folder; the arguments are those of every tracker."""

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        folder = run_folder / "swanlab"
        settings = {"experiment_name": name, "logdir": str(folder)}
        super().__init__("swanlab", folder, config, start_step, **settings)

    def text(self, step: int, name: str, text: str) -> None:
        """A passage at `step`, such as a sample."""
        self._run.log({name: self._package.Text(text)}, step=step)
