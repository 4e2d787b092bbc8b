"""SwanLab (an optional package), an experiment board that is reachable from China.

It stays offline, in the run folder, unless SWANLAB_MODE is `cloud` or `local`: training never goes
online unasked. `swanlab sync` uploads an offline run later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hanllama.train.trackers import _service


class Tracker:
    """One SwanLab experiment per run folder, continued by a resume.

    Args:
        run_folder: the run's folder. config: the resolved config. name: the experiment's name.
        start_step: the first step that this process logs; 0 begins a new experiment.

    Raises ConfigError when the package is not installed.
    """

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        self._swanlab = _service.package("swanlab")
        folder = run_folder / "swanlab"
        self._run = self._swanlab.init(
            project="hanllama",
            experiment_name=name,
            config=config,
            logdir=str(folder),
            mode=_service.mode("swanlab"),
            id=_service.run_id(folder, start_step),
            resume="allow",
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point for every value at `step`."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """A passage at `step`, such as a sample."""
        self._run.log({name: self._swanlab.Text(text)}, step=step)

    def close(self) -> None:
        """Finish the experiment; the next process may resume it."""
        self._run.finish()
