"""Shared by the trackers of online services: one run of the service per run folder.

The service's id of a run is kept in `run-id` in the run folder, so that a resumed run continues the
same curves. These services ignore a step that they already have; exact resume gives it the same
value. Nothing goes online unless the user's `<NAME>_MODE` says so.
"""

from __future__ import annotations

import importlib
import os
import secrets
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.base.errors import ConfigError


class Service:
    """A run of the service, begun or continued.

    Args:
        package: the service's Python package.
        folder: where the run's id is kept.
        start_step: the first step that this process logs; 0 begins a new run.
        settings: the further arguments of the package's `init`.

    Raises ConfigError when the package is not installed.
    """

    def __init__(
        self, package: str, folder: Path, config: dict[str, Any], start_step: int, **settings: Any
    ) -> None:
        self._package = _imported(package)
        self._run = self._package.init(
            project="hanllama",
            config=config,
            mode=os.environ.get(f"{package.upper()}_MODE", "offline"),
            id=_run_id(folder, start_step),
            resume="allow",
            **settings,
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point for every value at `step`."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run; the next process may resume it."""
        self._run.finish()


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(
            f"the tracker {name} needs a package that is not installed: pip install hanllama[track]"
        ) from None


def _run_id(folder: Path, start_step: int) -> str:
    """The id kept in `folder`; a new one for a run that begins (21 digits, as SwanLab wants)."""
    file = folder / "run-id"
    if start_step == 0 or not file.is_file():
        fs.write_text(file, secrets.token_hex(16)[:21] + "\n")
    return file.read_text(encoding="utf-8").strip()
