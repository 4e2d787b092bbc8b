"""Weights & Biases (an optional package).

It stays offline, in the run folder, unless WANDB_MODE is `online`: training never goes online
unasked. `wandb sync` uploads an offline run later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import escape

from hanllama.train.trackers import _service


class Tracker(_service.Service):
    """One W&B run per run folder; the arguments are those of every tracker."""

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        # W&B puts its own files under `<dir>/wandb`, beside the id.
        settings = {"name": name, "dir": str(run_folder)}
        super().__init__("wandb", run_folder / "wandb", config, start_step, **settings)

    def text(self, step: int, name: str, text: str) -> None:
        """A passage at `step`, such as a sample; a second one of the same name replaces it."""
        self._run.log({name: self._package.Html(f"<pre>{escape(text)}</pre>")}, step=step)
