"""Publish or nothing: whatever happens to a writer, a reader meets the old state or the new one."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError, StorageError

OLD = {"a.txt": "old a", "inner/b.txt": "old b"}
NEW = {"a.txt": "new a", "inner/c.txt": "new c", "third.bin": "x" * 5000}


def _publish(path: Path, content: dict[str, str], *, replace: bool = False) -> None:
    with fs.publish(path, replace=replace) as folder:
        for name, text in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


def _content(path: Path) -> dict[str, str] | None:
    """What a reader that verifies gets: the files of a complete folder; None when there is none."""
    if not path.exists():
        return None
    fs.verify_sums(path)
    files = [f for f in path.rglob("*") if f.is_file() and f.name != fs.SUMS]
    return {f.relative_to(path).as_posix(): f.read_text() for f in files}


def _killed_at(number: int, action: Callable[[], None]) -> bool:
    """Run `action` in a child that SIGKILLs itself at its n-th filesystem event; did it die?

    Python announces every open, rename, mkdir and removal before it happens (`sys.audit`), so
    dying at each in turn visits every state that a kill between two of them can leave.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, _: object) -> None:
            nonlocal seen
            if event == "open" or event.startswith(("os.", "shutil.")):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the action failed by itself"
    return False


def _leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith((".tmp-", ".old-"))]


# --- killed --------------------------------------------------------------------------------------


def test_a_kill_anywhere_in_a_first_publish_leaves_nothing_or_all(tmp_path: Path) -> None:
    states = []
    for number in range(1, 1000):
        path = tmp_path / str(number) / "out"
        path.parent.mkdir()
        died = _killed_at(number, lambda path=path: _publish(path, NEW))
        states.append(_content(path))
        assert states[-1] in (None, NEW)
        fs.recover(path)
        if not path.exists():
            _publish(path, NEW)
        assert _content(path) == NEW and _leftovers(path.parent) == []
        if not died:
            break
    else:
        pytest.fail("the publish never ended")
    assert number > 15 and None in states[:5] and states[-1] == NEW


def test_a_kill_anywhere_in_a_replacing_publish_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    states = []
    for number in range(1, 1000):
        path = tmp_path / str(number) / "out"
        path.parent.mkdir()
        _publish(path, OLD)
        died = _killed_at(number, lambda path=path: _publish(path, NEW, replace=True))
        # Between the two renames nothing stands at the place; recovery puts the old one back.
        fs.recover(path)
        states.append(_content(path))
        assert states[-1] in (OLD, NEW)
        _publish(path, NEW, replace=True)
        assert _content(path) == NEW and _leftovers(path.parent) == []
        if not died:
            break
    else:
        pytest.fail("the publish never ended")
    assert states[0] == OLD and states[-1] == NEW
    assert states == sorted(states, key=lambda s: s == NEW), "once new, always new"


def test_a_kill_anywhere_in_a_recovery_can_be_recovered_from(tmp_path: Path) -> None:
    for both in (False, True):
        for number in range(1, 100):
            path = tmp_path / f"{both}-{number}" / "out"
            _publish(path, NEW if both else OLD)
            other = path.with_name("other")
            _publish(other, OLD)
            if both:
                os.replace(other, path.with_name(".old-out"))
            else:
                os.replace(path, path.with_name(".old-out"))
            died = _killed_at(number, lambda path=path: fs.recover(path))
            fs.recover(path)
            assert _content(path) == (NEW if both else OLD)
            assert _leftovers(path.parent) == []
            if not died:
                break
        assert not died


def test_a_kill_anywhere_in_writing_a_file_leaves_the_old_or_the_new_text(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    for number in range(1, 100):
        fs.write_text(file, "old")
        died = _killed_at(number, lambda: fs.write_text(file, "new"))
        assert file.read_text() in ("old", "new")
        if not died:
            break
    assert not died and number > 2 and file.read_text() == "new"
    assert _leftovers(tmp_path) == []


def test_a_kill_anywhere_in_a_removal_leaves_no_half_that_looks_whole(tmp_path: Path) -> None:
    for number in range(1, 100):
        path = tmp_path / str(number)
        _publish(path, NEW)
        died = _killed_at(number, lambda path=path: fs.remove_folder(path))
        if path.exists() and (path / fs.SUMS).exists():
            assert _content(path) == NEW
        elif path.exists():
            with pytest.raises(CorruptError, match="never completed"):
                fs.verify_sums(path)
        if not died:
            break
    assert not died and not path.exists()


# --- failing -------------------------------------------------------------------------------------


def test_an_error_while_writing_leaves_the_previous_folder_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "out"
    _publish(path, OLD)
    with pytest.raises(RuntimeError, match="mine"), fs.publish(path, replace=True) as folder:
        (folder / "half").write_text("half")
        raise RuntimeError("mine")
    assert _content(path) == OLD and _leftovers(tmp_path) == []


def test_an_existing_folder_is_not_replaced_unasked(tmp_path: Path) -> None:
    _publish(tmp_path / "out", OLD)
    with pytest.raises(InputError, match="out exists already"):
        _publish(tmp_path / "out", NEW)
    assert _content(tmp_path / "out") == OLD


def _with_small_disk(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run code where no file may grow beyond 4,096 bytes: the kernel's EFBIG stands for ENOSPC."""
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom hanllama.base import fs\n"
        "paths = [Path(a) for a in sys.argv[1:]]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n" + code
    )
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True)


def test_a_full_disk_while_writing_a_file_names_it_and_keeps_the_old_one(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    file = tmp_path / "f.txt"
    fs.write_text(file, "old")
    done = _with_small_disk("fs.write_text(paths[0], 'x' * 10_000)", file)
    assert f"StorageError: cannot write {file}: File too large; free some space" in done.stderr
    assert file.read_text() == "old" and _leftovers(tmp_path) == []


def test_a_full_disk_inside_a_publish_names_it_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    _publish(path, OLD)
    code = (
        "with fs.publish(paths[0], replace=True) as folder:\n"
        "    (folder / 'a.txt').write_text('x' * 10_000)"
    )
    done = _with_small_disk(code, path)
    assert f"StorageError: cannot write {path}: File too large" in done.stderr
    assert done.returncode != 0
    assert _content(path) == OLD and _leftovers(tmp_path) == []


def test_a_missing_input_inside_a_publish_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), fs.publish(tmp_path / "out"):
        (tmp_path / "nowhere").read_text()
    with pytest.raises(PermissionError), fs.publish(tmp_path / "out"):
        raise PermissionError(13, "Permission denied", "somebody else's input")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for below in (tmp_path / "file" / "inner", tmp_path / "file" / "deep" / "inner"):
        for write in (lambda at: fs.write_text(at, "x"), fs.make_folder):
            with pytest.raises(StorageError, match=r"cannot write .*inner: "):
                write(below)
        with pytest.raises(StorageError, match=r"cannot write .*inner: "), fs.publish(below):
            pass
    with pytest.raises(StorageError, match=r"cannot write .*file: File exists"):
        fs.make_folder(tmp_path / "file")


# --- verifying -----------------------------------------------------------------------------------


def test_a_published_folder_verifies_by_our_own_and_by_the_systems_tool(tmp_path: Path) -> None:
    _publish(tmp_path / "out", NEW)
    fs.verify_sums(tmp_path / "out")
    tool = subprocess.run(
        ["sha256sum", "-c", "--quiet", fs.SUMS], cwd=tmp_path / "out", capture_output=True
    )
    assert tool.returncode == 0, tool.stderr


def test_what_its_writer_hashed_is_not_read_again(tmp_path: Path) -> None:
    """The disk's copy is checked against what was written, not against itself."""
    _publish(tmp_path / "whole", NEW)
    sums = (tmp_path / "whole" / fs.SUMS).read_text(encoding="utf-8")
    known = {name: digest for digest, name in (line.split("  ") for line in sums.splitlines())}
    with fs.publish(tmp_path / "hurt", sums=known) as folder:
        for name in known:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"not what was to be written")
    assert (tmp_path / "hurt" / fs.SUMS).read_text(encoding="utf-8") == sums
    with pytest.raises(CorruptError, match="is corrupt"):
        fs.verify_sums(tmp_path / "hurt")


@pytest.mark.parametrize("name", ["a.txt", "inner/c.txt", "third.bin"])
def test_one_flipped_bit_is_noticed_in_any_file(tmp_path: Path, name: str) -> None:
    _publish(tmp_path / "out", NEW)
    file = tmp_path / "out" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptError, match=f"{name} is corrupt"):
        fs.verify_sums(tmp_path / "out")


def test_truncation_a_missing_file_and_a_missing_marker_are_noticed(tmp_path: Path) -> None:
    for number, (damage, message) in enumerate(
        [
            (lambda p: os.truncate(p / "third.bin", 4999), r"third\.bin is corrupt"),
            (lambda p: os.truncate(p / "third.bin", 0), r"third\.bin is corrupt"),
            (lambda p: (p / "inner" / "c.txt").unlink(), r"incomplete: inner/c\.txt is missing"),
            (lambda p: (p / fs.SUMS).unlink(), "never completed"),
            (lambda p: os.truncate(p / fs.SUMS, 100), "SHA256SUMS is truncated"),
            (lambda p: os.truncate(p / fs.SUMS, 0), "SHA256SUMS is truncated"),
            (lambda p: (p / fs.SUMS).write_text("nonsense\n"), "line 1: not a checksum"),
        ]
    ):
        path = tmp_path / str(number)
        _publish(path, NEW)
        damage(path)
        with pytest.raises(CorruptError, match=message):
            fs.verify_sums(path)
    with pytest.raises(InputError, match="nowhere does not exist"):
        fs.verify_sums(tmp_path / "nowhere")


def test_file_names_of_any_script_and_with_odd_separators_verify(tmp_path: Path) -> None:
    _publish(tmp_path / "out", {"红楼梦 第一回.txt": "x", "a\u2028b.txt": "y", "c  d": "z"})
    fs.verify_sums(tmp_path / "out")
    (tmp_path / "out" / "a\u2028b.txt").write_text("Y")
    with pytest.raises(CorruptError):
        fs.verify_sums(tmp_path / "out")


# --- one at a time -------------------------------------------------------------------------------


def test_a_place_is_held_by_one_and_free_again_after_an_end_or_a_kill(tmp_path: Path) -> None:
    place = tmp_path / "new" / "out"
    holder = "import sys, time; from pathlib import Path; from hanllama.base import fs\n"
    holder += "with fs.alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(place)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another run is at work"), fs.alone(place):
            raise AssertionError
        process.kill()
        process.wait(30)
    with fs.alone(place):
        child = os.fork()
        if not child:  # it lives longer than the work, and does not keep the place
            signal.pause()
    with fs.alone(place):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert list(place.parent.iterdir()) == []


def test_a_publish_holds_its_place_unless_this_process_does(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with fs.publish(out) as folder:
        (folder / "a.txt").write_text("first")
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                _publish(out, NEW, replace=True)
            os._exit(int(sorted(p.name for p in folder.iterdir()) == ["a.txt"]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1, "nothing was cleared away"
    assert _content(out) == {"a.txt": "first"}
    with fs.alone(out):
        _publish(out, NEW, replace=True)
    assert _content(out) == NEW and [p.name for p in tmp_path.iterdir()] == ["out"]


# --- JSON ----------------------------------------------------------------------------------------


def test_json_is_readable_by_people_and_read_back(tmp_path: Path) -> None:
    fs.write_json(tmp_path / "x.json", {"名": [1, None]})
    assert "名" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert fs.read_json(tmp_path / "x.json") == {"名": [1, None]}


def test_json_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json does not exist"):
        fs.read_json(tmp_path / "x.json")
    for broken in (json.dumps({"a": 1})[:-1].encode(), b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(broken)
        with pytest.raises(CorruptError, match=r"x\.json is not valid JSON"):
            fs.read_json(tmp_path / "x.json")
