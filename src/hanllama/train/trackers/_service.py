"""Shared by the trackers of online services: the package, the run's id, the offline mode.

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


def package(name: str) -> Any:
    """The imported package; ConfigError naming the remedy when it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(
            f"the tracker {name} needs a package that is not installed: pip install hanllama[track]"
        ) from None


def mode(name: str) -> str:
    """The mode in the user's environment, by default `offline`."""
    return os.environ.get(f"{name.upper()}_MODE", "offline")


def run_id(folder: Path, start_step: int) -> str:
    """The id kept in `folder`; a new one for a run that begins (21 digits, as SwanLab wants)."""
    file = folder / "run-id"
    if start_step == 0 or not file.is_file():
        fs.write_text(file, secrets.token_hex(16)[:21] + "\n")
    return file.read_text(encoding="utf-8").strip()
