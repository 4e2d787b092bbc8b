"""TensorBoard event files in the run folder: `tensorboard --logdir runs` shows every run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Tracker:
    """Writes scalars and texts to `<run_folder>/tensorboard`.

    Args:
        run_folder: the run's folder.
        config: the resolved config, kept as a text beside the curves.
        name: not used: TensorBoard takes the run's name from the folder.
        start_step: the first step that this process logs; what a killed process logged from it on
            is hidden.
    """

    def __init__(
        self, run_folder: Path, config: dict[str, Any], name: str, start_step: int = 0
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run_folder / "tensorboard"
        _wait_for_a_later_second(folder)
        self._writer = SummaryWriter(str(folder), purge_step=start_step)
        if start_step == 0:
            shown = json.dumps(config, ensure_ascii=False, indent=2)
            # TensorBoard renders texts as Markdown; an indented block is shown as it is.
            self.text(0, "config", "\n".join("    " + line for line in shown.splitlines()))

    def log(self, step: int, values: dict[str, float]) -> None:
        """One point for every value at `step`."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)
        # Else a kill loses up to two minutes of points before the checkpoint, which a resumed run
        # does not log again.
        self._writer.flush()

    def text(self, step: int, name: str, text: str) -> None:
        """A passage at `step`, such as a sample."""
        self._writer.add_text(name, text, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def _wait_for_a_later_second(folder: Path) -> None:
    """Wait until no event file has the present second in its name.

    TensorBoard reads event files in the order of their names: the second, then host and process.
    Two of the same second may come in the wrong order, and the purge would hide the new points.
    """
    seconds = [int(f.name.split(".")[3]) for f in folder.glob("events.out.tfevents.*")]
    while seconds and int(time.time()) == max(seconds):
        time.sleep(0.05)
