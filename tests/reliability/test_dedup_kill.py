"""Promises of deduplication under fault: killed anywhere, the same command gives the same bytes."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hanllama.corpus.dedup.dedup import dedup
from hanllama.corpus.dedup.options import DedupConfig

COMMAND = [sys.executable, "-m", "hanllama", "dedup"]
LINE = "本站所有文字均由读者上传，请于一日之内自行删除。"
# os.replace raises "os.rename" too; an "open" counts when it may write.
EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "open"}


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


def in_fork(work: Callable[[], None]) -> int:
    """Run `work` in a forked child, quietly; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def may_write(event: str, args: tuple[object, ...]) -> bool:
    if event != "open":
        return event in EVENTS
    mode, flags = args[1], args[2]
    if isinstance(mode, str):
        return any(c in mode for c in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanllama.corpus.dedup.work.SEGMENT_BYTES", 100_000)
    monkeypatch.setattr("hanllama.corpus.dedup.scan._JOB_BYTES", 40_000)


@pytest.mark.usefixtures("small_segments")
def test_dedup_kill_at_any_write_then_the_same_command_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    """SIGKILL at every 17th file operation of a run and at the last ones, then a rerun."""
    source = corpus(tmp_path / "in.jsonl")
    dedup(config(source, tmp_path / "expected"))  # and so everything is compiled and imported
    expected = contents(tmp_path / "expected")
    counted = tmp_path / "count"
    out = tmp_path / "out"

    def run(kill_at: int) -> Callable[[], None]:
        def work() -> None:
            seen = 0

            def hook(event: str, args: tuple[object, ...]) -> None:
                nonlocal seen
                if may_write(event, args):
                    seen += 1
                    if seen == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            dedup(config(source, out))
            total = seen
            counted.write_text(str(total))

        return work

    assert in_fork(run(0)) == 0
    events = int(counted.read_text()) - 1  # the last takes the lock away, when all is done
    assert events > 60
    killed = 0
    chosen = sorted({*range(1, events + 1, 17), *range(events - 7, events + 1)})
    for number in chosen:
        shutil.rmtree(out)
        status = in_fork(run(number))
        killed += os.WIFSIGNALED(status)
        assert in_fork(lambda: dedup(config(source, out))) == 0, f"rerun after {number}"
        assert contents(out) == expected, f"killed at event {number} of {events}"
        assert not (tmp_path / "out.partial").exists()
    assert killed == len(chosen)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_dedup_stopped_by_a_signal_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    source = corpus(tmp_path / "in.jsonl", 400)
    words = [*COMMAND, str(source), "--output", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Under nohup the tests themselves ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out.partial").glob("scan-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in shown and "the same command goes on from" in shown
    assert not (tmp_path / "out").exists()
    assert subprocess.run(words, capture_output=True).returncode == 0


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


def test_dedup_on_a_full_disk_names_the_file_and_goes_on_later(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in.jsonl", 400)
    out = tmp_path / "out"
    words = [*COMMAND, str(source), "--output", str(out), "--workers", "1"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    failed = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit)
    assert failed.returncode == 2
    assert "cannot write" in failed.stderr and "Traceback" not in failed.stderr
    assert not out.exists()
    assert subprocess.run(words, capture_output=True).returncode == 0
