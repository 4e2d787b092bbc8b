"""Plug-ins: a file is found by its name, a user's file by its path, and a typing error is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hanllama.base import plugins
from hanllama.base.errors import ConfigError

PACKAGE = "hanllama.train.trackers"


def test_a_new_file_is_a_plugin_without_any_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "growing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_private.py").write_text("")
    (package / "first.py").write_text("NAME = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.names("growing") == ["first"]
    (package / "second.py").write_text("NAME = 2")
    assert plugins.names("growing") == ["first", "second"]
    assert plugins.load("growing", "second").NAME == 2


def test_an_unknown_name_gets_the_nearest_or_the_list() -> None:
    with pytest.raises(ConfigError, match="tracker 'tensorbord' does not exist; did you mean"):
        plugins.load(PACKAGE, "tensorbord")
    with pytest.raises(ConfigError, match="there are: swanlab, tensorboard, wandb"):
        plugins.load(PACKAGE, "xyz")


def test_a_users_file_works_the_same_and_is_loaded_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("COUNT = []\nCOUNT.append(1)")
    first = plugins.load(PACKAGE, str(file))
    assert plugins.load(PACKAGE, str(file)) is first
    assert first.COUNT == [1]


def test_two_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rule.py").write_text(f"WHO = {name!r}")
    loaded = [plugins.load(PACKAGE, str(tmp_path / n / "rule.py")).WHO for n in ("a", "b")]
    assert loaded == ["a", "b"]


def test_a_missing_file_says_so_in_the_plugins_own_words() -> None:
    with pytest.raises(ConfigError, match=r"tracker file nowhere/mine\.py does not exist"):
        plugins.load(PACKAGE, "nowhere/mine.py")


def test_a_file_that_fails_is_not_remembered_as_loaded(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("raise RuntimeError('mine')")
    with pytest.raises(RuntimeError, match="mine"):
        plugins.load(PACKAGE, str(file))
    file.write_text("FINE = 1")
    assert plugins.load(PACKAGE, str(file)).FINE == 1


def test_a_users_file_may_hold_dataclasses_and_travels_to_worker_processes(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Rule:\n    n: int = 2\n"
        "    def __call__(self, text): return text * self.n\n"
    )
    code = f"""
import multiprocessing
from hanllama.base import plugins
rule = plugins.load({PACKAGE!r}, {str(file)!r}).Rule(3)
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.apply(rule, ("ab",)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "ababab", done.stderr


def test_the_kind_is_the_folders_name_in_the_singular() -> None:
    assert plugins.kind("hanllama.corpus.rules") == "rule"
