"""Native training apart: a signal ends it at once and leaves nothing, and a kill is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import folders
from hanllama import cli
from hanllama.base import fs
from hanllama.tokenizer import own_process
from hanllama.tokenizer.algorithms import Settings, _sentencepiece
from hanllama.tokenizer.load import load_tokenizer

PROGRAM = [sys.executable, "-m", "hanllama", "tokenizer"]
PATIENCE = 60.0  # seconds for a process to start on a machine that does other work
AT_ONCE = 2.0  # "about a second", on such a machine
LINES = [f"第{i}天，小兔子去森林里找蘑菇，找到了{i * 7 % 50}个。" for i in range(400)]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text that takes every algorithm many seconds: words of random characters."""
    rng = random.Random(0)
    han = [chr(0x4E00 + i) for i in range(1000)]
    words = ["".join(rng.choices(han, k=rng.randint(2, 5))) for _ in range(20_000)]
    path = tmp_path_factory.mktemp("slow") / "slow.txt"
    lines = ("".join(rng.choices(words, k=12)) for _ in range(30_000))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class Running:
    """The command as a real process, at the point where its native training has begun."""

    def __init__(self, place: Path, *words: str) -> None:
        (place / "tmp").mkdir()
        self.place = place
        self.process = subprocess.Popen(
            [*PROGRAM, *words, "--output", str(place / "t")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Begun from a shell's background, pytest ignores Ctrl-C, and what it starts would, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env={**os.environ, "TMPDIR": str(place / "tmp")},
        )
        deadline = time.monotonic() + PATIENCE
        while not any(_cpu_seconds(pid) > 1.0 for pid in self.others()):
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.02)

    def others(self) -> list[int]:
        """The processes of its session, besides itself, that are alive."""
        found = []
        for entry in Path("/proc").iterdir():
            fields = _stat(entry)
            if fields and fields[3] == str(self.process.pid) and fields[0] != "Z":
                found.append(int(entry.name))
        return [pid for pid in found if pid != self.process.pid]

    def left(self) -> list[str]:
        return sorted(str(p.relative_to(self.place)) for p in self.place.rglob("*"))


def _stat(entry: Path) -> list[str]:
    """state, parent, group, session … of a process; [] where it is none or has gone."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float:
    fields = _stat(Path(f"/proc/{pid}"))
    return int(fields[11]) / os.sysconf("SC_CLK_TCK") if fields else 0.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "place"
    folder.mkdir()
    yield folder


def training(corpus: Path, algorithm: str) -> list[str]:
    return ["train", str(corpus), "--vocab-size", "8000", "--algorithm", algorithm]


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@linux
@pytest.mark.parametrize("algorithm", ["unigram", "byte_bpe"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_native_training_at_once_and_leaves_nothing(
    slow: Path, place: Path, number: signal.Signals, algorithm: str
) -> None:
    """Ctrl-C reaches both processes, as from a terminal; SIGTERM the one that was started."""
    running = Running(place, *training(slow, algorithm))
    (os.killpg if number == signal.SIGINT else os.kill)(running.process.pid, number)
    began = time.monotonic()
    _, said = running.process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < AT_ONCE
    assert running.process.returncode == 128 + number
    assert said.endswith("\nhanllama: stopped; the same command begins again\n")
    assert "Traceback" not in said
    assert running.others() == []
    assert running.left() == ["tmp"]


@linux
def test_a_signal_ends_the_training_of_an_extension(slow: Path, place: Path) -> None:
    base = folders.tokenizer(place / "base")
    before = {str(p.relative_to(place)) for p in place.rglob("*")}
    running = Running(place, "extend", str(base), "--train", str(slow), "--size", "60000")
    os.killpg(running.process.pid, signal.SIGINT)
    began = time.monotonic()
    _, said = running.process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < AT_ONCE
    assert running.process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said and running.others() == []
    assert set(running.left()) == before | {"tmp"}


@linux
def test_a_killed_command_leaves_no_process_that_trains_on(slow: Path, place: Path) -> None:
    running = Running(place, *training(slow, "unigram"))
    running.process.kill()
    deadline = time.monotonic() + AT_ONCE
    while running.others():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@linux
def test_a_training_that_is_killed_from_outside_says_so(slow: Path, place: Path) -> None:
    running = Running(place, *training(slow, "unigram"))
    for pid in running.others():
        os.kill(pid, signal.SIGKILL)
    _, said = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 2
    assert (
        "error: algorithm unigram: its process was killed, most likely for lack of memory; lower"
        " --sample-bytes (" in said
    )
    assert running.left() == ["tmp"]


def train(corpus: Path, output: Path, *words: str | Path) -> int:
    return cli.main(["tokenizer", "train", str(corpus), "--output", str(output), *map(str, words)])


def mine(folder: Path, name: str, body: str) -> Path:
    """An algorithm of the user's own."""
    path = folder / f"{name}.py"
    path.write_text(
        f"import os\nBACK_ENDS, REVERSIBLE = (), True\n"
        f"def train(folder, lines, settings):\n    {body}\n",
        encoding="utf-8",
    )
    return path


def test_the_bytes_are_those_of_training_here() -> None:
    here = _sentencepiece.train(LINES, Settings(300), "bpe")
    assert own_process.call(_sentencepiece.train, LINES, Settings(300), "bpe") == here


def test_of_several_those_that_can_be_trained_are_kept(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--vocab-size", "420", "--algorithm", "bpe", "char", "byte_bpe", "word")
    out = tmp_path / "t"
    assert train(small, out, *words) == 2
    shown = capsys.readouterr()
    fs.verify_sums(out)
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["char", "word"]
    assert load_tokenizer(out / "word").vocab_size == 420
    found = fs.read_json(out / "compare.json")
    assert [row["name"] for row in found["tokenizers"]] == ["char", "word"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert list(found["not_trained"]) == ["bpe", "byte_bpe"]
    for name, why in found["not_trained"].items():
        assert why.startswith("vocab_size 420 is larger than this corpus supports; the largest")
        assert f"{name} was not trained: {why}\n" in shown.out
        assert f"\n  algorithm {name}: {why}\n" in shown.err
        assert f"{name} was not trained: {why}" in page
        largest = why.partition("works is ")[2].split()[0]
        alone = ("--algorithm", name, "--vocab-size", largest)
        assert train(small, tmp_path / f"alone-{name}", *alone) == 0, "the number is true"
    assert "error: 2 of 4 algorithms could not be trained:\n" in shown.err
    assert f"the others are in {out} and compared in {out / 'report.html'}" in shown.err


def test_where_some_fail_a_rerun_and_force_mean_what_they_always_mean(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, both = tmp_path / "t", ("--algorithm", "bpe", "char", "--vocab-size")
    assert train(small, out, *both, "420") == 2
    assert train(small, out, *both, "300") == 2
    assert "exists already" in capsys.readouterr().err
    assert train(small, out, *both, "300", "--force") == 0
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["bpe", "char"]
    assert "not_trained" not in fs.read_json(out / "compare.json")
    assert train(small, out, *both, "420", "--force") == 2
    assert [p.name for p in out.iterdir() if p.is_dir()] == ["char"]


def test_where_all_fail_nothing_is_published_and_the_previous_one_stays(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, both = tmp_path / "t", ("--algorithm", "bpe", "word", "--vocab-size", "42000")
    assert train(small, out, *both) == 2
    said = capsys.readouterr().err
    assert "error: no algorithm could be trained:\n  algorithm bpe: vocab_size 42000" in said
    assert "\n  algorithm word: vocab_size 42000" in said
    assert [p.name for p in tmp_path.iterdir()] == ["small.txt"]
    assert train(small, out, "--vocab-size", "300") == 0
    before = (out / "SHA256SUMS").read_bytes()
    assert train(small, out, *both, "--force") == 2
    assert (out / "SHA256SUMS").read_bytes() == before


def test_one_that_is_killed_does_not_cost_the_others(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = mine(tmp_path, "killed", "os.kill(os.getpid(), 9)")
    aborts = mine(tmp_path, "aborts", "os.abort()")
    leaves = mine(tmp_path, "leaves", "os._exit(127)")  # libc's, where a thread gets no memory
    words = ("--vocab-size", "300", "--algorithm", killed, "bpe", aborts, leaves)
    assert train(small, tmp_path / "t", *words) == 2
    said = capsys.readouterr().err
    assert f"{killed}: its process was killed, most likely for lack of memory; lower" in said
    assert f"{aborts}: its process was ended by SIGABRT" in said
    assert f"{leaves}: its process ended with exit code 127" in said
    assert [p.name for p in (tmp_path / "t").iterdir() if p.is_dir()] == ["bpe"]


def test_a_failure_in_the_other_process_is_raised_here_with_its_line(
    small: Path, tmp_path: Path
) -> None:
    broken = mine(tmp_path, "broken", "{}['no such key']")
    with pytest.raises(KeyError, match="no such key") as caught:
        train(small, tmp_path / "t", "--algorithm", broken)
    assert 'broken.py", line 4' in "".join(caught.value.__notes__)
    stuck = mine(tmp_path, "stuck", "raise type('Odd', (Exception,), {})('cannot travel')")
    with pytest.raises(RuntimeError, match="Odd: cannot travel"):
        train(small, tmp_path / "t", "--algorithm", stuck)
    memory = mine(tmp_path, "memory", "raise MemoryError('std::bad_alloc')")
    assert train(small, tmp_path / "t", "--algorithm", memory) == 2
    assert not (tmp_path / "t").exists()


def test_what_an_algorithm_prints_is_shown_and_no_part_of_the_answer(
    small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = (
        "print('half way', flush=False); os.system('echo native');"
        " from hanllama.tokenizer.algorithms import bpe; bpe.train(folder, lines, settings)"
    )
    words = ("--vocab-size", "300", "--algorithm", mine(tmp_path, "talks", body))
    assert train(small, tmp_path / "t", *words) == 0
    said = capfd.readouterr().err
    assert "half way\n" in said and "native\n" in said


def test_a_script_without_a_guard_and_with_threads_may_train(small: Path, tmp_path: Path) -> None:
    """As processes of Python's own making could not: from stdin, in a thread, beside a thread."""
    script = (
        "import threading\n"
        "from hanllama.tokenizer.train import TokenizerTrainConfig, train\n"
        f"inputs, output = ({str(small)!r},), {str(tmp_path / 't')!r}\n"
        "options = TokenizerTrainConfig(inputs, output, vocab_size=300)\n"
        "thread = threading.Thread(target=train, args=(options,))\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert load_tokenizer(tmp_path / "t").vocab_size == 300
