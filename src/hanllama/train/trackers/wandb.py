"""Weights & Biases (an optional package).

Stays offline, under the run folder, unless WANDB_MODE says `online`: training never goes online
unasked. `wandb sync` uploads an offline run later.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from markupsafe import escape

from hanllama import fs
from hanllama.errors import ConfigError


class Tracker:
    """One W&B run per run folder.

    Its id is kept in `<run_folder>/wandb/run-id`, so a resumed run continues the same curves; W&B
    drops a step it has already, which by exact resume has the same value.

    Args:
        run_folder: the run's folder. config: the resolved config. name: the run's name.
        start_step: the first step this process will log; 0 begins a new run.

    Raises ConfigError when the package is not installed.
    """

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            if error.name != "wandb":
                raise
            raise ConfigError(
                "the tracker wandb needs a package that is not installed: "
                "pip install hanllama[track]"
            ) from None
        # W&B puts its own files under `<dir>/wandb`, beside the id.
        id_file = run_folder / "wandb" / "run-id"
        if start_step == 0 or not id_file.is_file():
            fs.write_text(id_file, secrets.token_hex(8) + "\n")
        self._wandb = wandb
        self._run = wandb.init(
            project="hanllama",
            name=name,
            config=config,
            dir=str(run_folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            id=id_file.read_text(encoding="utf-8").strip(),
            resume="allow",
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point for every value at `step`."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """A passage at `step`, such as a sample."""
        self._run.log({name: self._wandb.Html(f"<pre>{escape(text)}</pre>")}, step=step)

    def close(self) -> None:
        """Finish the run; the next process may resume it."""
        self._run.finish()
