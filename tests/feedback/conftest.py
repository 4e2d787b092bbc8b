"""The models that the feedback tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import judges


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return judges.models(tmp_path_factory.mktemp("models"), "llama2")


@pytest.fixture(scope="session")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return judges.models(tmp_path_factory.mktemp("chatml"), "chatml")
