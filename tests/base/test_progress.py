"""Progress: a bar for people, lines for logs, and honest numbers in both."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from hanllama.base import progress
from hanllama.base.progress import Progress, duration


class Clock:
    """Stands for `time.monotonic`, which we do not own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def _lines(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines()


def test_a_log_gets_the_first_line_one_every_half_minute_and_the_last(clock: Clock) -> None:
    out = io.StringIO()
    with Progress("tokenize", 100, unit="MB", stream=out) as shown:
        for _ in range(100):
            clock.now += 1
            shown.advance(1)
    assert _lines(out) == [
        "tokenize: 1/100 MB (1 %)",
        "tokenize: 30/100 MB (30 %), 1 MB/s, 1 min 10 s left",
        "tokenize: 60/100 MB (60 %), 1 MB/s, 40 s left",
        "tokenize: 90/100 MB (90 %), 1 MB/s, 10 s left",
        "tokenize: 100/100 MB (100 %) in 1 min 40 s, 1 MB/s",
    ]


def test_the_rate_is_the_recent_one_so_a_slow_start_is_forgotten(clock: Clock) -> None:
    with Progress("pretrain", 10_000, unit="steps", stream=io.StringIO()) as shown:
        clock.now += 600  # compiling
        shown.advance(1)
        for _ in range(80):
            clock.now += 1
            shown.advance(10)
        assert shown.rate == pytest.approx(10, rel=0.05)
        assert shown.seconds_left == pytest.approx((10_000 - shown.done) / 10, rel=0.05)


def test_a_resumed_run_does_not_count_the_old_steps_as_speed(clock: Clock) -> None:
    out = io.StringIO()
    with Progress("pretrain", 1000, unit="steps", done=900, stream=out) as shown:
        clock.now += 50
        shown.advance(100)
    assert _lines(out)[-1] == "pretrain: 1,000/1,000 steps (100 %) in 50 s, 2 steps/s"


def test_facts_are_shown_beside_the_latest_of_each(clock: Clock) -> None:
    out = io.StringIO()
    with Progress("pretrain", 2, stream=out) as shown:
        shown.advance(1, loss=3.14159, tokens_per_second=51234.5)
        shown.advance(1, loss=2.5)
    assert _lines(out)[0].endswith("loss 3.142, tokens/s 51,234")
    assert _lines(out)[-1].endswith("loss 2.5, tokens/s 51,234")


def test_an_error_is_not_reported_as_done(clock: Clock) -> None:
    out = io.StringIO()
    with pytest.raises(KeyError), Progress("clean", 10, stream=out) as shown:
        clock.now += 4
        shown.advance(3)
        raise KeyError
    assert _lines(out)[-1].startswith("clean: stopped at 3/10 (30 %)")


def test_an_unknown_total_shows_no_share_and_no_time_left(clock: Clock) -> None:
    out = io.StringIO()
    with Progress("read", None, unit="documents", stream=out) as shown:
        for _ in range(2):
            clock.now += 31
            shown.advance(1000)
    assert _lines(out)[1] == "read: 2,000 documents, 32.3 documents/s"


def test_a_log_line_appears_where_it_was_said(clock: Clock) -> None:
    out = io.StringIO()
    with Progress("clean", 10, stream=out) as shown:
        shown.log("坏文件 [x] skipped")
    assert _lines(out)[0] == "坏文件 [x] skipped"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min"), (3600, "1 h"),
     (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


SCRIPT = """
import time
from hanllama.base.progress import Progress
with Progress("外层 [red]", 5, unit="steps") as outer:
    for step in range(5):
        time.sleep(0.12)
        outer.advance(1, loss=2.5)
        if step == 2:
            outer.log("a line of its own [bold]")
            with Progress("inner", 2) as inner:
                inner.advance(2)
print("RESULT")
"""


def test_a_terminal_gets_a_bar_and_a_nested_display_keeps_to_lines() -> None:
    main, side = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(side)
    seen = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:  # the child closed its side: EIO is Linux's end of file here
            break
        if not chunk:
            break
        seen += chunk
    assert child.stdout is not None
    assert child.stdout.read() == b"RESULT\n", "stdout is the result's alone"
    assert child.wait() == 0
    shown = seen.decode()
    assert "━" in shown and "\x1b[" in shown
    assert "a line of its own [bold]" in shown and "外层 [red]" in shown
    assert "inner: 2/2 (100 %)" in shown
    assert "外层 [red]: 5/5 steps (100 %)" in shown.splitlines()[-1]


def test_without_a_terminal_rich_is_not_even_imported() -> None:
    code = SCRIPT + "\nimport sys; assert 'rich' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr
