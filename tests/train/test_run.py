"""The run folder: what it was begun with is compared, and what it cannot compare it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hanllama.base import config as configs
from hanllama.base.errors import CorruptError, InputError, ResumeError, StorageError
from hanllama.train.config import PretrainConfig
from hanllama.train.run import CONFIG, RunFolder
from hanllama.train.sft.config import SftConfig


def test_a_config_that_cannot_be_read_or_is_another_ends_with_a_remedy(tmp_path: Path) -> None:
    config = PretrainConfig(data="data", output=str(tmp_path))
    run = RunFolder(tmp_path, config)
    run.begin(0, (), "run")
    run.end()
    RunFolder(tmp_path, config)
    with pytest.raises(ResumeError, match="context was 0 and is 64"):
        RunFolder(tmp_path, PretrainConfig(data="data", output=str(tmp_path), context=64))
    for broken in (b"loop: [1, 2\n", b"a list is no config", b"\xff\xfe"):
        (tmp_path / CONFIG).write_bytes(broken)
        with pytest.raises(CorruptError, match="restore it, or choose another output folder"):
            RunFolder(tmp_path, config)


def test_an_option_that_a_later_version_brought_has_its_default_in_older_runs(
    tmp_path: Path,
) -> None:
    config = SftConfig(data=("chats",), base_model="base", output=str(tmp_path))
    run = RunFolder(tmp_path, config)
    run.begin(0, (), "run")
    run.end()
    written = configs.read_yaml(tmp_path / CONFIG)
    del written["fill"], written["optim"]["beta2"]
    (tmp_path / CONFIG).write_text(yaml.safe_dump(written), encoding="utf-8")
    RunFolder(tmp_path, config)
    with pytest.raises(ResumeError, match=r"fill was \[\] and is \['name=小汉'\]"):
        RunFolder(tmp_path, replace(config, fill=("name=小汉",)))


def test_a_file_where_the_run_should_be_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("mine")
    with pytest.raises(InputError, match=r"data\.jsonl is a file; choose another output folder"):
        RunFolder(file, PretrainConfig(data="data", output=str(file)))
    below = file / "run"
    run = RunFolder(below, PretrainConfig(data="data", output=str(below)))
    with pytest.raises(StorageError, match=r"cannot write .*Not a directory"):
        run.begin(0, (), "run")
    assert file.read_text() == "mine"
