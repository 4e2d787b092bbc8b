"""Promises of deduplication under fault: killed anywhere, the same command gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanllama.corpus.dedup.dedup import dedup
from hanllama.corpus.dedup.options import DedupConfig

COMMAND = [sys.executable, "-m", "hanllama", "dedup"]
LINE = "本站所有文字均由读者上传，请于一日之内自行删除。"


def corpus(path: Path, count: int = 120) -> Path:
    """Copies, near copies, a collection that holds others, boilerplate."""
    rng = random.Random(0)
    han = [chr(code) for code in range(0x4E00, 0x4E00 + 2000)]
    texts = ["".join(rng.choices(han, k=rng.randint(100, 900))) for _ in range(count)]
    texts += [text + "\n" + LINE for text in texts[: count // 4]]
    texts += ["".join(rng.choice(han) if rng.random() < 0.05 else c for c in t) for t in texts[:20]]
    texts.append("\n".join(texts[20:50]))
    path.write_text("\n".join(json.dumps({"text": t, "id": str(i)}) for i, t in enumerate(texts)))
    return path


def config(source: Path, out: Path) -> DedupConfig:
    return DedupConfig(inputs=(str(source),), output=str(out), exact_lines=True, workers=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_dedup_kill_leaves_stages_that_the_rerun_does_not_repeat(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 400)
    out = tmp_path / "out"
    words = [*COMMAND, str(source), "--output", str(out), "--workers", "1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out.partial").glob("bands-*/SHA256SUMS")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    again = subprocess.run(words, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "going on from" in again.stderr and "complete: scan, exact" in again.stderr
    assert "scan:" not in again.stderr and "write:" in again.stderr


def test_dedup_with_other_options_starts_the_stages_concerned_afresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = corpus(tmp_path / "in.jsonl")

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("hanllama.corpus.dedup.write.write", stop)
        with pytest.raises(Stop):
            dedup(config(source, tmp_path / "out"))
    before = {path.name for path in (tmp_path / "out.partial").iterdir() if path.is_dir()}
    other = DedupConfig(
        inputs=(str(source),), output=str(tmp_path / "out"), exact_lines=True, threshold=0.9
    )
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("hanllama.corpus.dedup.write.write", stop)
        with pytest.raises(Stop):
            dedup(other)
    assert "threshold was 0.3 and is 0.9; beginning anew where" in capsys.readouterr().err
    after = {path.name for path in (tmp_path / "out.partial").iterdir() if path.is_dir()}
    changed = {name.split("-")[0] for name in before ^ after}
    assert changed == {"near", "contained"}
    os.utime(source, (1, 1))  # as if it had been written again
    dedup(other)
    fresh = tmp_path / "fresh"
    dedup(DedupConfig(inputs=(str(source),), output=str(fresh), exact_lines=True, threshold=0.9))
    assert contents(tmp_path / "out") == contents(fresh)
