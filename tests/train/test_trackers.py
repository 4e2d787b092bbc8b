"""Trackers: the curves of a killed and resumed run look like those of a run that never stopped."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from hanllama.base import plugins
from hanllama.base.errors import ConfigError
from hanllama.train.config import PretrainConfig
from hanllama.train.run import RunFolder

PACKAGE = "hanllama.train.trackers"


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself would show of an event folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_shows_every_logged_point(tmp_path: Path) -> None:
    tracker = plugins.load(PACKAGE, "tensorboard").Tracker(tmp_path, {"a": 1}, "run")
    for step in (1, 2, 3):
        tracker.log(step, {"train/loss": 4.0 - step, "speed": 10.0})
    tracker.text(3, "sample", "祥子拉着车。")
    tracker.close()
    shown = _scalars(tmp_path / "tensorboard")
    assert shown["train/loss"] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert [s for s, _ in shown["speed"]] == [1, 2, 3]


def test_the_step_axis_does_not_fold_back_after_a_kill_and_a_resume(tmp_path: Path) -> None:
    killed = f"""
import os, signal
from pathlib import Path
from hanllama.train.trackers.tensorboard import Tracker
tracker = Tracker(Path({str(tmp_path)!r}), {{}}, "run")
for step in range(1, 31):
    tracker.log(step, {{"loss": 100.0 + step}})
tracker._writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -9
    # The last checkpoint was at step 20: 21 is the first step that is logged again.
    tracker = plugins.load(PACKAGE, "tensorboard").Tracker(tmp_path, {}, "run", start_step=21)
    for step in range(21, 41):
        tracker.log(step, {"loss": float(step)})
    tracker.close()
    points = _scalars(tmp_path / "tensorboard")["loss"]
    assert [step for step, _ in points] == list(range(1, 41))
    assert dict(points)[20] == 120.0 and dict(points)[21] == 21.0


def test_a_run_killed_before_its_first_checkpoint_leaves_no_second_curve(tmp_path: Path) -> None:
    tracker_class = plugins.load(PACKAGE, "tensorboard").Tracker
    for value in (100.0, 0.0):  # the second process begins again
        tracker = tracker_class(tmp_path, {"a": 1}, "run")
        for step in range(1, 6):
            tracker.log(step, {"loss": value + step})
        tracker.close()
    assert _scalars(tmp_path / "tensorboard")["loss"] == [(s, float(s)) for s in range(1, 6)]


class _Service(types.ModuleType):
    """Stands for swanlab or wandb, which we do not own: it records what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.inits: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **arguments: Any) -> _Service:
        self.inits.append(arguments)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1

    def Text(self, text: str) -> str:
        return f"Text({text})"

    def Html(self, html: str) -> str:
        return f"Html({html})"


@pytest.fixture(params=["swanlab", "wandb"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> _Service:
    fake = _Service(request.param)
    monkeypatch.setitem(sys.modules, request.param, fake)
    monkeypatch.delenv(f"{request.param.upper()}_MODE", raising=False)
    return fake


def test_a_service_gets_values_and_texts_with_their_steps(
    service: _Service, tmp_path: Path
) -> None:
    tracker = plugins.load(PACKAGE, service.__name__).Tracker(tmp_path, {"lr": 1}, "一号")
    tracker.log(7, {"loss": 2.5})
    tracker.text(8, "sample", "<b>祥子")
    tracker.close()
    assert service.inits[0]["config"] == {"lr": 1}
    assert "一号" in service.inits[0].values()
    assert service.logged[0] == (7, {"loss": 2.5})
    step, (said,) = service.logged[1][0], service.logged[1][1].values()
    assert step == 8
    expected = {"swanlab": "Text(<b>祥子)", "wandb": "Html(<pre>&lt;b&gt;祥子</pre>)"}
    assert said == expected[service.__name__]
    assert service.finished == 1


def test_every_sample_of_a_step_reaches_the_trackers(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "class Tracker:\n"
        "    def __init__(self, run_folder, config, name, start_step=0):\n"
        "        self.folder = run_folder\n"
        "    def log(self, step, values): pass\n"
        "    def text(self, step, name, text):\n"
        "        (self.folder / f'{step}-{name.replace(chr(47), chr(45))}').write_text(text)\n"
        "    def close(self): pass\n"
    )
    run = RunFolder(tmp_path / "run", PretrainConfig(data="", output=""))
    run.begin(0, [str(tmp_path / "told.py")], "run")
    run.log(4, {"samples": ["春天", "夏天"]})
    run.end()
    assert (run.path / "4-sample-1").read_text() == "春天"
    assert (run.path / "4-sample-2").read_text() == "夏天"


def test_a_line_without_numbers_is_no_point_of_a_curve(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "class Tracker:\n"
        "    def __init__(self, run_folder, config, name, start_step=0):\n"
        "        self.file = run_folder / 'told'\n"
        "    def log(self, step, values): self.file.open('a').write(f'{step} {values}\\n')\n"
        "    def text(self, step, name, text): pass\n"
        "    def close(self): pass\n"
    )
    run = RunFolder(tmp_path / "run", PretrainConfig(data="", output=""))
    run.begin(0, [str(tmp_path / "told.py")], "run")
    run.log(4, {"samples": ["春天"]})
    run.log(5, {"loss": 1.5})
    run.end()
    assert (run.path / "told").read_text() == "5 {'loss': 1.5}\n"


def test_nothing_goes_online_unless_the_user_said_so(
    service: _Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker_class = plugins.load(PACKAGE, service.__name__).Tracker
    tracker_class(tmp_path, {}, "run")
    monkeypatch.setenv(f"{service.__name__.upper()}_MODE", "cloud")
    tracker_class(tmp_path, {}, "run")
    assert [arguments["mode"] for arguments in service.inits] == ["offline", "cloud"]


def test_a_resumed_run_goes_on_with_its_experiment_and_a_new_one_does_not(
    service: _Service, tmp_path: Path
) -> None:
    tracker_class = plugins.load(PACKAGE, service.__name__).Tracker
    tracker_class(tmp_path, {}, "run")
    tracker_class(tmp_path, {}, "run", start_step=21)
    tracker_class(tmp_path, {}, "run", start_step=0)
    first, resumed, fresh = (arguments["id"] for arguments in service.inits)
    assert first == resumed != fresh
    assert 8 <= len(first) <= 64 and first.isalnum()


@pytest.mark.parametrize("name", ["swanlab", "wandb"])
def test_a_missing_package_is_named_with_the_remedy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what `import` sees of a package not installed
    with pytest.raises(ConfigError, match=r"pip install hanllama\[track\]"):
        plugins.load(PACKAGE, name).Tracker(tmp_path, {}, "run")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"tracker .tensorbord. .* .tensorboard."):
        plugins.load(PACKAGE, "tensorbord")
