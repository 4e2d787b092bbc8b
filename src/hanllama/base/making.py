"""How a command makes its result: alone, resumed after a stop, published last.

    with making(config.output, config.inputs, force=config.force) as made:
        ...                                  # the output is free, and locked for this command
        with made.publish() as folder: ...   # appears whole, or not at all

A command that saves unfinished work gives the values that its result depends on (`made_from`). Its
work lies in `OUTPUT.partial`, whose `state.json` holds these values and the progress. The same
command goes on from there; a command with other values begins again or is refused, and the
differing values are named. If the output was made from the same values, nothing is done.

`state.json` is replaced in one step, after the work that it describes is on the disk: a process
killed at any moment leaves the last state.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError, Interrupted, ResumeError

STATE = "state.json"
# Ctrl-C, a request to end, a closed terminal (Windows has no such signal).
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name != "nt" else []))


@contextlib.contextmanager
def making(
    output: str | Path,
    inputs: Iterable[str] = (),
    *,
    force: bool = False,
    file: bool = False,
    made_from: Callable[[], Mapping[str, Any]] | None = None,
    published: Callable[[Path], Mapping[str, Any] | None] = lambda output: None,
    grows: Collection[str] = (),
    changed: Literal["anew", "refuse", "keep"] = "anew",
) -> Iterator[Making]:
    """Lock the place of a command's output as long as the command works.

    Ctrl-C, SIGTERM and SIGHUP are raised as Interrupted, which says whether the work was saved.

    Args:
        inputs: files, folders and globs that are read; the output must not lie inside one.
        force: replace an output that hanllama wrote.
        file: the output is a file, not a folder.
        made_from: returns the values that the result depends on, called under the lock; None for a
            command that saves no unfinished work.
        published: returns the values that a finished output was made from, or None if unknown.
        grows: names of values that may differ from those of the unfinished work.
        changed: unfinished work from other values is removed ("anew"), or refused unless `force`
            ("refuse"), or left to the command ("keep").

    Raises InputError if another run holds the lock, or the output exists (with `force`: was not
    written by hanllama) or lies inside an input; ResumeError for refused work.
    """
    place = Path(output)
    _require_outside(place, inputs)
    with fs.alone(place), Signals() as signals:
        fs.recover(place)
        ours = place.is_file() if file else (place / fs.SUMS).is_file()
        if place.exists() and force and not ours:
            raise InputError(f"{output} was not written by hanllama; --force does not replace it")
        if place.exists() and not force and made_from is None:
            raise InputError(f"{output} exists already; --force replaces it")
        made = Making(place, made_from() if made_from else {}, signals)
        if made_from is not None:
            if place.exists() and not force:
                made._look_at(published(place), grows)
            if force and changed == "refuse":
                made.remove()
            elif not made.complete:
                made._go_on(grows, changed)
        try:
            yield made
        except Interrupted as stop:
            saved = "" if made.state is None else str(made.folder)
            raise Interrupted(stop.signal_number, saved, goes_on=bool(saved)) from None
        finally:
            if made.state is None:
                made.remove()


class Making:
    """An output in the making, and the unfinished work beside it.

    Attributes:
        output: the place of the result.
        folder: `OUTPUT.partial`, the place of unfinished work; exists after `save`.
        made_from: the values that the result depends on.
        complete: the output was made from these values already; there is nothing to do.
        state: the saved state to go on from; None if there is none.
        signals: to hold while a step must not be interrupted.
    """

    def __init__(self, output: Path, made_from: Mapping[str, Any], signals: Signals) -> None:
        self.output, self.signals = output, signals
        self.made_from: dict[str, Any] = json.loads(json.dumps(made_from))  # as it is read back
        self.folder = output.with_name(f"{output.name}.partial")
        self.complete = False
        self.state: dict[str, Any] | None = None

    def _look_at(self, finished: Mapping[str, Any] | None, grows: Collection[str]) -> None:
        """Compare with the existing output: it is complete, or may grow, or is refused."""
        if finished is None and self._saved().get("finished"):  # a kill came before the cleanup
            finished = self._saved()["made_from"]
        differs = [] if finished is None else differences(finished, self.made_from)
        self.complete = finished is not None and not differs
        if self.complete:
            print(f"{self.output} is complete: it was made from the same input and options")
        elif finished is None or any(name not in grows for name, _ in differs):
            why = f" ({' and '.join(words for _, words in differs)})" if differs else ""
            raise InputError(f"{self.output} exists already{why}; --force replaces it")

    def _go_on(self, grows: Collection[str], changed: str) -> None:
        """Go on from the unfinished work, if it was made from the same values."""
        found = self._saved()
        differs = differences(found["made_from"], self.made_from) if found else []
        why = " and ".join(words for name, words in differs if name not in grows)
        if why and changed == "refuse":
            raise ResumeError(
                f"{self.folder} holds unfinished work, and {why}; repeat that, choose another"
                " --output, or begin anew with --force"
            )
        if why:
            where = " where it matters" if changed == "keep" else ""
            print(f"{self.folder}: {why}; beginning anew{where}", file=sys.stderr)
        elif found:
            print(f"going on from {self.folder}", file=sys.stderr)
        if found and (changed == "keep" or not why):
            self.state = found
        elif changed == "anew":
            self.remove()  # of other values, or without a state

    def _saved(self) -> dict[str, Any]:
        """The saved state; empty if there is none that can be read."""
        try:
            found = fs.read_json(self.folder / STATE)
        except (InputError, CorruptError):
            return {}
        return found if isinstance(found, dict) and "made_from" in found else {}

    def save(self, **state: Any) -> None:
        """Save the progress; the files that it describes must be on the disk."""
        self.state = {**state, "made_from": self.made_from}
        fs.write_json(self.folder / STATE, self.state)

    @contextlib.contextmanager
    def publish(self, sums: Mapping[str, str] | None = None) -> Iterator[Path]:
        """Yield the folder to write, which then becomes the output; see `fs.publish`."""
        with fs.publish(self.output, replace=True, sums=sums) as folder:
            yield folder
            self._finish()
        self.remove()

    def put_in_place(self, folder: Path) -> None:
        """Publish a folder that was written elsewhere on the same file system."""
        self._finish()
        fs.put_in_place(folder, self.output)
        self.remove()

    def _finish(self) -> None:
        """Record that this work is finished, in case a kill comes right after publishing."""
        if self.state is not None and not self.output.exists():
            self.save(**{**self.state, "finished": True})

    def remove(self) -> None:
        """Remove the unfinished work in one step: nothing may go on from half of it."""
        self.state = None
        aside = self.folder.with_name(f".tmp-{self.folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        if self.folder.exists():
            os.replace(self.folder, aside)
            shutil.rmtree(aside, ignore_errors=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, `seed was 0 and is 3`) of every differing value; `corpus changed` for digests."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            digests = any(re.fullmatch("[0-9a-f]{64}", str(value)) for value in (old, new))
            words = "changed" if digests else f"was {_short(old)} and is {_short(new)}"
            found.append((name, f"{name} {words}"))
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as {dotted name: value}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return found


class Signals:
    """Handlers of Ctrl-C, SIGTERM and SIGHUP.

    The first signal is raised as Interrupted at once, or at the end of a `held` block; later ones
    are ignored, so that they do not disturb the cleanup. With `polled` a signal is only noted, and
    a second Ctrl-C raises KeyboardInterrupt. An ignored signal stays ignored (nohup).

    Attributes:
        arrived: the number of the first signal; 0 before it.
    """

    def __init__(self, *, polled: bool = False) -> None:
        self.arrived = 0
        self._polled, self._held = polled, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # no other thread may
            found = {number: signal.getsignal(number) for number in SIGNALS}
            # A handler not set by Python (None) could not be restored.
            self._before = {n: h for n, h in found.items() if h not in (None, signal.SIG_IGN)}
            for number in self._before:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._polled:
            if self.arrived == number == signal.SIGINT:
                raise KeyboardInterrupt
            self.arrived = number
        elif not self.arrived:
            self.arrived = number
            if not self._held:
                raise Interrupted(number, goes_on=False)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Finish the block before a signal stops the work."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.arrived:
            raise Interrupted(self.arrived, goes_on=False)


class Log:
    """A file that only grows.

    Args:
        path: the file; created if missing.
        size: the bytes to keep; the rest was written after the saved state.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        with fs.storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._out: IO[bytes] = open(path, "ab")  # noqa: SIM115 (open across calls)
            if self._out.tell() < size:
                raise CorruptError(
                    f"{path} is shorter than its state says; remove {path.parent} to begin anew"
                )
            self._out.truncate(size)
        self.size = size

    def write(self, data: bytes | memoryview) -> None:
        if data:
            with fs.storage(self.path):
                self._out.write(data)
            self.size += len(data)

    def sync(self) -> int:
        """Flush everything to the disk; return the size."""
        with fs.storage(self.path):
            self._out.flush()
            os.fsync(self._out.fileno())
        return self.size

    def close(self) -> None:
        with fs.storage(self.path):
            self._out.close()


def _require_outside(output: Path, inputs: Iterable[str]) -> None:
    target = output.resolve()
    for name in inputs:
        source = Path(name).resolve()
        if source.is_dir() and (source == target or source in target.parents):
            raise InputError(
                f"the output {output} lies inside the input {name}, and the next run would read it;"
                " choose another folder"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
