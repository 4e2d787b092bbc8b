"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real Chinese data; a test that needs it skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HANLLAMA_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set HANLLAMA_SHARED_DATA to its folder")
    return folder
