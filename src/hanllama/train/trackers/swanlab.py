"""SwanLab (an optional package): the experiment board that is reachable from China.

Stays offline, under the run folder, unless SWANLAB_MODE says `cloud` or `local`: training never
goes online unasked. `swanlab sync` uploads an offline run later.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from hanllama import fs
from hanllama.errors import ConfigError


class Tracker:
    """One SwanLab experiment per run folder.

    Its id is kept in `<run_folder>/swanlab/run-id`, so a resumed run continues the same curves;
    SwanLab ignores a step it has already, which by exact resume has the same value.

    Args:
        run_folder: the run's folder. config: the resolved config. name: the experiment's name.
        start_step: the first step this process will log; 0 begins a new experiment.

    Raises ConfigError when the package is not installed.
    """

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        try:
            import swanlab
        except ModuleNotFoundError as error:
            if error.name != "swanlab":
                raise
            raise ConfigError(
                "the tracker swanlab needs a package that is not installed: "
                "pip install hanllama[track]"
            ) from None
        folder = run_folder / "swanlab"
        id_file = folder / "run-id"
        if start_step == 0 or not id_file.is_file():
            fs.write_text(id_file, secrets.token_hex(16)[:21] + "\n")
        self._swanlab = swanlab
        self._run = swanlab.init(
            project="hanllama",
            experiment_name=name,
            config=config,
            logdir=str(folder),
            mode=os.environ.get("SWANLAB_MODE", "offline"),
            id=id_file.read_text(encoding="utf-8").strip(),
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
