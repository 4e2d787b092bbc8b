"""One progress display for all long work: position, speed, time left.

On a terminal it is a bar on stderr; elsewhere (a log file, CI, a job on a cluster) it prints plain
lines: the first, one about every 30 seconds, the last. It never writes to stdout, so a command's
result can be piped.

    with Progress("pretrain", total=1000, unit="steps") as progress:
        for step in range(1000):
            ...
            progress.advance(1, loss=2.31, tokens_per_second=51_234)
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

# The rate covers only the last half minute: otherwise the first compiled step or a cold disk cache
# would spoil the time left for hours.
RATE_WINDOW_SECONDS = 30.0
LINE_INTERVAL_SECONDS = 30.0
REDRAW_INTERVAL_SECONDS = 0.1


class Progress:
    """A progress display, as a context manager.

    Args:
        title: the name of the work, in a word or two.
        total: the amount of work in units; None if unknown.
        unit: the unit: `steps`, `MB`, `documents`.
        done: the amount done before this process began (a resumed run); it counts for the position
            and not for the rate.
        stream: the output; None means stderr. A bar is drawn only on a terminal.
    """

    def __init__(
        self,
        title: str,
        total: float | None = None,
        unit: str = "",
        *,
        done: float = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = done
        self.facts: dict[str, float | int | str] = {}
        self._stream = stream
        self._before = done
        self._bar: RichProgress | None = None

    def __enter__(self) -> Progress:
        self._start = self._shown = time.monotonic()
        self._samples: deque[tuple[float, float]] = deque([(self._start, self.done)])
        self._lines = 0
        self._interval = LINE_INTERVAL_SECONDS
        if _is_terminal(self._out()) and not Progress._bar_is_up:
            self._bar = self._new_bar()
            self._bar.start()
            self._interval = REDRAW_INTERVAL_SECONDS
            Progress._bar_is_up = True
        return self

    # A terminal has room for one bar: a display inside another prints plain lines above it.
    _bar_is_up = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._redraw()
            self._bar.stop()
            self._bar = None
            Progress._bar_is_up = False
        self._line(self._summary(finished=kind is None))

    def advance(self, n: float = 1, **facts: float | int | str) -> None:
        """Count `n` more units; show the latest `facts` (loss=2.31) beside.

        Takes well under a microsecond between redraws, so it may be called per document.
        """
        self.done += n
        if facts:
            self.facts.update(facts)
        now = time.monotonic()
        if self._bar is None and self._lines == 0:
            self._line(self._status())
        elif now - self._shown >= self._interval:
            self._sample(now)
            if self._bar is None:
                self._line(self._status())
            else:
                self._redraw()
            self._shown = now

    def log(self, text: str) -> None:
        """Print a line, above the bar on a terminal."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._line(text)

    @property
    def rate(self) -> float:
        """Units per second over the last half minute; 0.0 before the first measurement."""
        (then, before), (now, done) = self._samples[0], self._samples[-1]
        return (done - before) / (now - then) if now > then else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time left at the current rate; None if the total or the rate is unknown."""
        if self.total is None or self.rate <= 0:
            return None
        return max(self.total - self.done, 0) / self.rate

    # --- plain lines -------------------------------------------------------------------------

    def _out(self) -> TextIO:
        # Looked up each time: an outer bar replaces sys.stderr while it is up.
        return sys.stderr if self._stream is None else self._stream

    def _line(self, text: str) -> None:
        self._lines += 1
        print(text, file=self._out(), flush=True)

    def _sample(self, now: float) -> None:
        self._samples.append((now, self.done))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def _position(self) -> str:
        if self.total is None:
            return f"{_amount(self.done)} {self.unit}".rstrip()
        text = f"{_amount(self.done)}/{_amount(self.total)} {self.unit}".rstrip()
        return f"{text} ({100 * self.done / self.total:.0f} %)" if self.total else text

    def _status(self) -> str:
        parts = [self._position()]
        if self.rate > 0:
            parts.append(f"{_amount(self.rate)} {self.unit}/s".replace(" /s", "/s"))
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return f"{self.title}: {', '.join(parts + self._fact_texts())}"

    def _summary(self, finished: bool) -> str:
        seconds = time.monotonic() - self._start
        parts = [f"{self._position()} in {duration(seconds)}"]
        if seconds > 0 and self.done > self._before:
            rate = (self.done - self._before) / seconds
            parts.append(f"{_amount(rate)} {self.unit}/s".replace(" /s", "/s"))
        word = "" if finished else "stopped at "
        return f"{self.title}: {word}{', '.join(parts + self._fact_texts())}"

    def _fact_texts(self) -> list[str]:
        return [f"{_fact_name(name)} {_fact(value)}" for name, value in self.facts.items()]

    # --- the bar -----------------------------------------------------------------------------

    def _new_bar(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}", markup=False),
            TimeElapsedColumn(),
            console=Console(file=self._out()),
            # No refresh thread: a fork of workers while it holds the console's lock would hang the
            # child. `advance` redraws instead.
            auto_refresh=False,
            transient=True,
        )
        bar.add_task(self.title, total=self.total, completed=self.done, status="")  # type: ignore[arg-type]
        return bar

    def _redraw(self) -> None:
        assert self._bar is not None
        status = self._status().removeprefix(f"{self.title}: ")
        self._bar.update(self._bar.task_ids[0], completed=self.done, status=status)
        self._bar.refresh()


def duration(seconds: float) -> str:
    """A duration as text: `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, smaller_size, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def _amount(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _fact_name(name: str) -> str:
    return name.replace("_per_second", "/s").replace("_", " ")


def _fact(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value
