"""The run folder of a training.

config.yaml      the resolved config; the same command again is compared with it
metrics.jsonl    one JSON object per logged step, evaluation and set of samples
tensorboard/     the same curves (other trackers are files in `train/trackers/`)
checkpoints/     see train/checkpoints.py
data/            files prepared from the data before the first step, for some commands
model/           the result, a model folder
report.html      everything on one page
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanllama.base import config as configs
from hanllama.base import fs, plugins
from hanllama.base.errors import ConfigError, CorruptError, InputError, ResumeError
from hanllama.base.making import differences, flat
from hanllama.train.config import RESUME_MAY_CHANGE

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
DATA = "data"


class RunFolder:
    """The folder of a run; only the main process opens it."""

    def __init__(self, path: Path, config: Any) -> None:
        """Open or begin the run at `path`.

        Raises ResumeError, naming the option, when the run was begun with a config that gives
        another result, and InputError when the folder holds something else.
        """
        self.path = path
        self.config_yaml = configs.to_yaml(config)
        self.values = configs.to_dict(config)
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self._trackers: list[Any] = []
        self._metrics: Any = None
        if (path / CONFIG).is_file():
            defaults = {o.key: o.default for o in configs.options(type(config))}
            require_same_config(path / CONFIG, self.values, defaults)
        elif path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; choose another output folder")
        elif path.exists() and any(not _may_precede(f) for f in path.iterdir()):
            raise InputError(f"{path} is not empty and holds no run; choose another output folder")

    def begin(self, step: int, trackers: Sequence[str], name: str) -> None:
        """Open the metrics for appending after `step`, without later lines of a killed run.

        The config is written only now, so that a command refused before its first step does not
        block the corrected one.
        """
        fs.write_text(self.path / CONFIG, self.config_yaml)
        path = self.path / METRICS
        kept = [json.dumps(m, ensure_ascii=False) for m in self.metrics() if m["step"] <= step]
        fs.write_text(path, "".join(line + "\n" for line in kept))
        self._metrics = open(path, "a", encoding="utf-8")  # noqa: SIM115 (it spans the run)
        for tracker in trackers:
            cls = plugins.load("hanllama.train.trackers", tracker).Tracker
            self._trackers.append(cls(self.path, self.values, name, step + 1 if step else 0))

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a line of metrics; numbers also go to the trackers."""
        line = json.dumps({"step": step, **values}, ensure_ascii=False)
        with fs.storage(self.path / METRICS):
            self._metrics.write(line + "\n")
            self._metrics.flush()
        numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
        for tracker in self._trackers:
            if numbers:  # SwanLab complains of an empty point
                tracker.log(step, numbers)
            # A name for each prompt, since a service keeps one text per name and step.
            for number, sample in enumerate(values.get("samples", ()), 1):
                tracker.text(step, f"sample/{number}", sample)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without a last one that a kill cut short."""
        path = self.path / METRICS
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")
        found = []
        for number, line in enumerate(lines, 1):
            try:
                if line:
                    found.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise CorruptError(f"{path}, line {number}: not JSON: {error}") from error
        return found

    def end(self) -> None:
        """Close metrics and trackers."""
        if self._metrics is not None:
            with fs.storage(self.path / METRICS):
                os.fsync(self._metrics.fileno())
            self._metrics.close()
        for tracker in self._trackers:
            tracker.close()
        self._metrics, self._trackers = None, []


def _may_precede(file: Path) -> bool:
    """Whether a run that was killed before its first step may have left this file."""
    return file.name == DATA or file.name.startswith(".tmp-")


def require_same_config(path: Path, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse a config that would change the result of a run begun with the one at `path`.

    An option that `path` lacks, since it is newer, has its default.

    Raises ResumeError, naming the option, and CorruptError when `path` cannot be read.
    """
    try:
        before = configs.read_yaml(path)
    except ConfigError as error:
        raise CorruptError(
            f"{error}; it is the config of a run: restore it, or choose another output folder"
        ) from error
    new = flat(values)
    brought = {key: _plain(defaults[key]) for key in new if key in defaults}
    for key, words in differences({**brought, **flat(before)}, new):
        # Paths may change; the fingerprint compares their content.
        if key not in RESUME_MAY_CHANGE and key not in ("output", "data", "base_model"):
            raise ResumeError(
                f"{path.parent} was begun with other options: {words}; use the same value, or"
                " another output folder"
            )


def _plain(value: Any) -> Any:
    """A default as YAML reads it."""
    return list(value) if isinstance(value, tuple) else value
