"""One way to make a result: alone, killed, stopped, on a full disk, for every command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import _workshop
import pytest

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


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    return {file.relative_to(path.parent).as_posix(): file.read_bytes() for file in files}


LATER = (*_workshop.ASKING, "data best-of-n", "data fetch")
LOCKED = [n for n in _workshop.NAMES if n not in LATER]


@pytest.mark.parametrize("name", LOCKED)
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
