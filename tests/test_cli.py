"""The command line: quick to answer, exact in its exit codes, silent about its insides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import hanllama
from hanllama import cli
from hanllama.base import errors
from hanllama.base.config import option


def _run(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """`hanllama WORDS` in a process of its own; `code` runs before it."""
    program = f"import sys\n{code}\nfrom hanllama.cli import main\nsys.exit(main({list(words)!r}))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


# Leaves the names of heavy modules that were imported on stderr's last line.
SPY = """
import atexit
HEAVY = {'torch', 'numpy', 'transformers', 'tensorboard', 'msgspec', 'yaml', 'rich'}
atexit.register(lambda: print('HEAVY', sorted(set(sys.modules) & HEAVY), file=sys.stderr))
"""


def test_the_overview_names_every_command_and_imports_next_to_nothing() -> None:
    done = _run("--help", code=SPY)
    assert done.returncode == 0
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in done.stdout and command.summary in done.stdout
    assert done.stderr.strip() == "HEAVY []"


def test_the_overview_costs_little_more_than_python_itself() -> None:
    def best_seconds(*arguments: str) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - began)
        return min(times)

    ours = best_seconds("-m", "hanllama", "--help")
    assert ours - best_seconds("-c", "pass") < 0.3


@pytest.mark.parametrize("verb", sorted(cli.COMMANDS))
def test_help_of_a_command_imports_no_torch(verb: str) -> None:
    done = _run(*verb.split(), "--help", code=SPY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: hanllama {verb} ")
    assert "torch" not in done.stderr.splitlines()[-1]
    assert "transformers" not in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("verb", sorted(cli.COMMANDS))
def test_every_command_has_its_function(verb: str) -> None:
    assert callable(cli.resolve(cli.COMMANDS[verb].function))


def test_the_installed_command_and_the_module_say_the_same() -> None:
    script = Path(sys.executable).with_name("hanllama")
    if not script.exists():
        pytest.skip("the package is not installed here, so there is no `hanllama` command")
    said = [
        subprocess.run([*start, "--version"], capture_output=True, text=True, check=True).stdout
        for start in ([str(script)], [sys.executable, "-m", "hanllama"])
    ]
    assert said[0] == said[1] == f"hanllama {hanllama.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tokenzer"], "unknown command 'tokenzer'; did you mean"),
        (["tokenizer"], "hanllama tokenizer needs a verb: tokenizer train"),
        (["tokenizer", "trian"], "needs a verb: tokenizer train"),
        (["run"], "--recipe is required"),
        (["run", "demo", "--scal", "tiny"], "unknown option --scal; did you mean 'scale'"),
        (["run", "dmeo"], "recipe 'dmeo' does not exist; did you mean 'demo'"),
    ],
)
def test_a_users_mistake_ends_with_2_and_one_line(words: list[str], message: str) -> None:
    done = _run(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("hanllama: error: ") and len(done.stderr.splitlines()) == 1


# --- exit codes, with a verb of our own -----------------------------------------------------------


@dataclass(frozen=True)
class Config:
    how: str = option(help="how to end", positional=True)


def end(config: Config) -> None:
    """Ends in the way asked for."""
    match config.how:
        case "user":
            raise errors.InputError("no such folder")
        case "bug":
            raise KeyError("a bug")
        case "term":
            raise errors.Interrupted(signal.SIGTERM, "step 12")
        case "int":
            raise KeyboardInterrupt
        case "int in numba":  # what its compiled code makes of a signal
            inner = SystemError("returned a result with an exception set")
            inner.__cause__ = KeyboardInterrupt()
            raise SystemError("returned a result with an exception set") from inner
        case _:
            print("RESULT")


VERB = (
    f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    "from hanllama import cli\n"
    "cli.COMMANDS['end'] = cli.Command('test_cli:Config', 'test_cli:end', 's')\n"
)


INTERRUPTED = (
    "hanllama: interrupted; the same command goes on from its saved work, or begins again if it"
    " saves none\n"
)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("well", 0, ""),
        ("user", 2, "hanllama: error: no such folder\n"),
        ("term", 143, "hanllama: stopped; saved step 12; the same command goes on from here\n"),
        ("int", 130, INTERRUPTED),
        ("int in numba", 130, INTERRUPTED),
    ],
)
def test_exit_codes(how: str, code: int, said: str) -> None:
    done = _run("end", how, code=VERB)
    assert (done.returncode, done.stderr) == (code, said)
    assert done.stdout == ("RESULT\n" if code == 0 else "")


def test_a_bug_keeps_its_traceback_and_debug_shows_a_users_one() -> None:
    bug = _run("end", "bug", code=VERB)
    assert bug.returncode == 1 and "Traceback" in bug.stderr and "KeyError" in bug.stderr
    debug = _run("end", "user", "--debug", code=VERB)
    assert "Traceback" in debug.stderr and "InputError: no such folder" in debug.stderr
    assert debug.returncode not in (0, 130, 143)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = f"import sys\n{VERB}\nfrom hanllama.cli import main\nsys.exit(main(['end', 'well']))"
    end_of_pipe, start_of_pipe = os.pipe()
    os.close(end_of_pipe)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=start_of_pipe, stderr=subprocess.PIPE
    )
    os.close(start_of_pipe)
    assert done.returncode == 141 and done.stderr == b""


ODD = "😂他在土𠮷家⟦笑⟧了\u200d。é"


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "gbk:strict", "cp936", "utf-8:strict"])
def test_a_console_without_a_character_shows_its_code_and_goes_on(
    tmp_path: Path, encoding: str
) -> None:
    """A Chinese Windows: stdout and stderr in GBK, on a console or in a pipe."""
    story = tmp_path / "一.jsonl"
    story.write_text(json.dumps({"text": ODD * 9, "id": ODD}) + "\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for words, code in (
        (["data", "view", str(story)], 0),
        (["corpus", "check", str(story)], 0),
        (["corpus", "check", str(tmp_path / ODD)], 2),
        ([ODD], 2),
        (["corpus", "words", "--output", ODD], 2),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "hanllama.cli", *words], capture_output=True, env=environment
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
        shown = (done.stdout + done.stderr).decode(encoding.partition(":")[0])
        assert ("𠮷" if encoding.startswith("utf") else r"\U00020bb7") in shown


def test_a_bar_on_a_gbk_terminal_does_not_end_the_command(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    words = ["corpus", "stories", "--count", "3000", "--output", str(tmp_path / "一.jsonl")]
    done = subprocess.Popen(
        [sys.executable, "-m", "hanllama.cli", *words],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONIOENCODING": "gbk:strict", "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert done.wait() == 0 and b"Traceback" not in shown
    assert "3,000 stories" in shown.decode("gbk")


def test_errors_users_cause_are_value_errors_for_those_who_import_the_library() -> None:
    ours = [c for c in vars(errors).values() if isinstance(c, type)]
    users = [c for c in ours if issubclass(c, errors.HanllamaError)]
    assert len(users) >= 7 and all(issubclass(c, ValueError) and c.__doc__ for c in users)
