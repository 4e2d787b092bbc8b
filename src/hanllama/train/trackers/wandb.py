"""Weights & Biases (an optional package).

It stays offline, in the run folder, unless WANDB_MODE is `online`: training never goes online
unasked. `wandb sync` uploads an offline run later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import escape

from hanllama.train.trackers import _service


class Tracker:
    """One W&B run per run folder, continued by a resume.

    Args:
        run_folder: the run's folder. config: the resolved config. name: the run's name.
        start_step: the first step that this process logs; 0 begins a new run.

    Raises ConfigError when the package is not installed.
    """

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        self._wandb = _service.package("wandb")
        self._run = self._wandb.init(
            project="hanllama",
            name=name,
            config=config,
            # W&B puts its own files under `<dir>/wandb`, beside the id.
            dir=str(run_folder),
            mode=_service.mode("wandb"),
            id=_service.run_id(run_folder / "wandb", start_step),
            resume="allow",
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point for every value at `step`."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """A passage at `step`, such as a sample; a second one of the same name replaces it."""
        self._run.log({name: self._wandb.Html(f"<pre>{escape(text)}</pre>")}, step=step)

    def close(self) -> None:
        """Finish the run; the next process may resume it."""
        self._run.finish()
