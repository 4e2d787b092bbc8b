"""The recipe `story-chat` runs to its last chat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = ["pretrain", "sft", "dpo", "ppo"]


@pytest.mark.slow
def test_the_tiny_story_chat_runs_through_every_stage(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "hanllama", "run", "story-chat", "--scale", "tiny"]
    done = subprocess.run(
        [*command, "--output", str(run)], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((run / "16-chats" / "obeyed.json").read_text())
    assert [figure["model"] for figure in figures] == STAGES
    assert [figure["prompts"] for figure in figures] == [0, 12, 12, 12]
    assert [figure["base_model"] for figure in figures] == [True, False, False, False]
    assert figures[1]["kl_nats"] is None and figures[3]["kl_nats"] >= 0
    assert all(0 < figure["bits_per_byte"] < 20 for figure in figures)
    assert "bits per byte" in done.stdout
    again = subprocess.run(
        [*command, "--output", str(run)], capture_output=True, text=True, timeout=600
    )
    assert again.returncode == 0
    assert "ppo: done already and unchanged, skipped" in again.stderr
