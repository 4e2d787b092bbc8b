"""One way to make a result: alone, killed, stopped, on a full disk, for every command."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import _workshop
import pytest
from _forks import count_operations, in_fork
from _workshop import ASKING

from builders.endpoint import LookalikeEndpoint
from builders.hub import Hub
from hanllama import cli
from hanllama.base import fs


class Shop:
    """The inputs of every command, an endpoint and a hub to ask."""

    def __init__(self, place: Path, url: str) -> None:
        self.place, self.url = place, url

    def words(self, name: str, output: Path, *more: str) -> list[str]:
        """A command that writes `output`."""
        command = _workshop.words(name, self.place, self.url)
        return [*command, "--output", str(output), *more]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    place = tmp_path_factory.mktemp("shop")
    _workshop.build(place)
    files = {f"data/part_{n}.jsonl": (place / "in" / "a.jsonl").read_bytes() for n in (1, 2)}
    with (
        LookalikeEndpoint(answer=_workshop.teacher) as endpoint,
        Hub() as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        hub.repos[_workshop.SET] = dict(files)
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(place / "hf"))
        patch.delenv("HANLLAMA_HUB", raising=False)
        yield Shop(place, endpoint.url)


def output_of(name: str, folder: Path) -> Path:
    return folder / ("out" + _workshop.FILES.get(name, ""))


def contents(path: Path, name: str = "") -> dict[str, bytes]:
    """The bytes of every file, but of those that count requests or seconds."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    found = {file.relative_to(path.parent).as_posix(): file.read_bytes() for file in files}
    counting = ("SHA256SUMS", "manifest.json", "report.html", ".journal", "compare.json")
    if name not in (*ASKING, "tokenizer compare"):
        return found
    return {file: b"" if file.endswith(counting) else data for file, data in found.items()}


@pytest.mark.parametrize("name", _workshop.NAMES)
def test_making_is_for_one_at_a_time_and_replaces_only_its_own(
    shop: Shop, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run, somebody else's folder, a finished output: refused, and left as it is."""
    out = output_of(name, tmp_path / "deep" / "er")
    with fs.alone(out):
        for force in ((), ("--force",)):
            assert cli.main(shop.words(name, out, *force)) == 2
            assert "another run is at work" in capsys.readouterr().err
        assert not out.exists()
    assert cli.main(shop.words(name, out)) == 0
    made = contents(out)
    if out.is_dir():
        fs.verify_sums(out)
    assert list(out.parent.iterdir()) == [out], "nothing is left beside it"

    capsys.readouterr()
    code, said = cli.main(shop.words(name, out)), capsys.readouterr()
    assert (code == 2 and f"{out} exists already" in said.err) or (
        code == 0 and f"{out} is complete" in said.out
    )
    assert contents(out) == made
    assert cli.main(shop.words(name, out, "--force")) == 0
    assert set(contents(out)) == set(made)

    theirs = output_of(name, tmp_path / "theirs")
    place = theirs / "novel.txt"
    place.parent.mkdir(parents=True)
    place.write_text("很久以前")
    for force in ((), ("--force",)):
        assert cli.main(shop.words(name, theirs, *force)) == 2
        assert str(theirs) in capsys.readouterr().err
        assert place.read_text() == "很久以前" and len(list(theirs.iterdir())) == 1


@pytest.mark.parametrize("name", ["tokenizer train", "corpus stories"])
def test_making_started_twice_together_has_one_winner(
    shop: Shop, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hanllama", *shop.words(name, out, "--force")]
    for _ in range(2):
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        ends = [(p.communicate(timeout=120)[1], p.returncode) for p in both]
        # On a busy machine one may be through before the other has begun.
        assert sorted(code for _, code in ends) in ([0, 2], [0, 0]), ends
        assert all("another run is at work" in said for said, code in ends if code)
        fs.verify_sums(out)
        assert len(list(out.iterdir())) > 1


# --- killed, stopped, refused by the disk --------------------------------------------------------


class Trial:
    """A command, its result when nothing disturbs it, and a place to disturb it at."""

    def __init__(self, shop: Shop, name: str, place: Path) -> None:
        self.name, self.out = name, output_of(name, place / "trial")
        self.words = shop.words(name, self.out)
        whole = output_of(name, place / "whole")
        assert cli.main(shop.words(name, whole)) == 0  # and so all is imported and compiled
        self.expected = contents(whole, name)
        self.count, self.said = place / "count", place / "said"
        assert self.run(lambda: count_operations(None)) == 0
        self.operations = int(self.count.read_text())

    def begin(self) -> None:
        """Forget the last trial."""
        shutil.rmtree(self.out.parent, ignore_errors=True)

    def run(self, before: Callable[[], list[int] | None] = lambda: None) -> int:
        """The command in a forked child, after `before`; its exit code, or - the signal."""

        def work() -> None:
            sys.stdout = sys.stderr = io.StringIO()  # not pytest's files
            seen = before()
            code = cli.main(self.words)
            no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (no_limit, no_limit))
            self.said.write_text(sys.stderr.getvalue())
            if seen is not None:
                self.count.write_text(str(seen[0]))
            os._exit(code)

        return os.waitstatus_to_exitcode(in_fork(work))

    def ends_well(self) -> None:
        """The same command again, unless the result is there: the bytes of an undisturbed run."""
        if not self.out.exists() or Path(f"{self.out}.partial").exists():
            assert self.run() == 0  # a kill may have come before the clearing up
            left = {path.name for path in self.out.parent.iterdir()}
            assert left == {self.out.name}, "nothing is left beside it"
        assert contents(self.out, self.name) == self.expected


@pytest.fixture(scope="module")
def trial(
    shop: Shop, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Trial]:
    """Small jobs, parts and segments, and a state after each, so that every moment occurs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hanllama.base.workers.JOB_BYTES", 8_000)
        patch.setattr("hanllama.corpus.clean.SAVE_SECONDS", 0.0)
        patch.setattr("hanllama.corpus.parts.PART_BYTES", 8_000)
        patch.setattr("hanllama.batches.spool.SAVE_SECONDS", -1.0)
        patch.setattr("hanllama.corpus.dedup.work.SEGMENT_BYTES", 8_000)
        patch.setattr("hanllama.corpus.dedup.scan._JOB_BYTES", 4_000)
        yield Trial(shop, request.param, tmp_path_factory.mktemp("trial"))


every = pytest.mark.parametrize("trial", _workshop.NAMES, indirect=True, scope="module")


@every
def test_making_killed_at_any_write_then_the_same_bytes(trial: Trial) -> None:
    """SIGKILL at file operations all over a run, and at the last ones; then the command again.

    At every one of clean's, which saves the most kinds of things; at few where nothing is kept.
    """
    last = trial.operations - 1  # the last takes the lock away
    count = {"clean": last, "tokenize": 30, "dedup": 12, "data fetch": 30, "data rank": 12}
    step = max(1, last // count.get(trial.name, 3))
    places = sorted({*range(1, last, step), *range(max(1, last - 4), last + 1)})
    for place in places:
        trial.begin()
        assert trial.run(lambda place=place: count_operations(place)) == -signal.SIGKILL
        trial.ends_well()


@every
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_making_stopped_by_a_signal_then_the_same_bytes(trial: Trial, number: int) -> None:
    trial.begin()

    def before() -> list[int]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        return count_operations(trial.operations // 2, number)

    assert trial.run(before) == 128 + number
    assert not trial.out.exists()
    left, kept = list(trial.out.parent.iterdir()), Path(f"{trial.out}.partial")
    assert left == [kept] * kept.exists()
    then = f"saved {kept}; the same command goes on" if left else "the same command begins again"
    assert then in trial.said.read_text()
    trial.ends_well()


@every
def test_making_on_a_full_disk_leaves_nothing_half(trial: Trial) -> None:
    trial.begin()

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))

    assert trial.run(before) == 2
    assert "error: cannot write " in trial.said.read_text()
    assert not trial.out.exists()
    trial.ends_well()
