"""Pipelines: a stage runs when something it stands on changed, and only then."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hanllama import cli, pipeline, recipe
from hanllama.base import config
from hanllama.base.errors import ConfigError, HanllamaError, InputError, ResumeError

# Real verbs of a module of their own, small enough to read; every call leaves a line in a log.
VERBS = '''
"""Verbs for tests."""
import json, time
from dataclasses import dataclass
from pathlib import Path
from hanllama.base import fs
from hanllama.base.config import option
from hanllama.base.errors import ResumeError

LOG = Path(__file__).with_name("calls.log")

def called(verb):
    with open(LOG, "a") as log:
        log.write(verb + "\\n")

@dataclass(frozen=True)
class MakeConfig:
    inputs: tuple[str, ...] = option(help="what to read", positional=True)
    output: str = option(help="where to write")
    letters: int = option(9, help="letters to keep")
    shout: bool = option(False, help="upper case")
    force: bool = option(False, help="replace")

def make(config):
    called("make")
    text = ""
    for name in config.inputs:
        path = Path(name)
        files = sorted(f for f in path.rglob("*.txt")) if path.is_dir() else [path]
        text += "".join(f.read_text() for f in files)
    with fs.publish(Path(config.output), replace=config.force) as folder:
        (folder / "text.txt").write_text(text[: config.letters])
        (folder / "report.html").write_text("a report")

@dataclass(frozen=True)
class Loop:
    max_steps: int = option(3, help="steps")
    pause: float = option(0.0, help="seconds a step takes")

@dataclass(frozen=True)
class TrainConfig:
    data: str = option(help="what to read", positional=True)
    output: str = option(help="the run folder, resumed when it is there")
    rate: float = option(0.1, help="a number")
    loop: Loop = option(Loop(), help="the loop")

def train(config):
    called("train")
    run = Path(config.output)
    run.mkdir(parents=True, exist_ok=True)
    kept = run / "rate"
    if kept.exists() and kept.read_text() != str(config.rate):
        raise ResumeError(f"rate was {kept.read_text()} and is {config.rate}")
    kept.write_text(str(config.rate))
    steps = run / "steps"
    done = len(steps.read_text().split()) if steps.exists() else 0
    for step in range(done, config.loop.max_steps):
        time.sleep(config.loop.pause)
        with open(steps, "a") as file:
            file.write(f"{step}\\n")
    data = (Path(config.data) / "text.txt").read_text()
    (run / "model").write_text(f"{data} {config.rate}")

@dataclass(frozen=True)
class WriteConfig:
    model: str = option(help="a run folder", positional=True)
    output: str = option("", help="a file, or none to print")

def write(config):
    called("write")
    text = (Path(config.model) / "model").read_text()
    if config.output:
        Path(config.output).write_text(text)
    print("text:", text)
'''

RECIPE = """
name: small
description: {zh: 小, en: small}
stages:
  - {name: gather, verb: make, options: {inputs: "{input}"}}
  - {name: shape, verb: make, options: {inputs: "{gather}", letters: 4}}
  - {name: train, verb: train, options: {data: "{shape}", loop: {max_steps: 3}}}
  - {name: samples, verb: write, options: {model: "{train}", output: "{output}/samples.txt"}}
  - {name: show, verb: write, options: {model: "{train}"}}
"""


class Bench:
    """A folder with the verbs, a recipe and some input; `run` is `hanllama run` on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input = folder / "input"
        self.input.mkdir()
        (self.input / "a.txt").write_text("abcdefghij")
        self.recipe = folder / "small.yaml"
        self.recipe.write_text(RECIPE)
        self.output = folder / "out"
        self.verbs = folder / "test_verbs.py"
        self.verbs.write_text(VERBS)

    def arguments(self, *more: str) -> list[str]:
        given = ["run", str(self.recipe), "--output", str(self.output), *more]
        return given if "--input" in more else [*given, "--input", str(self.input)]

    def run(self, *more: str) -> list[str]:
        """Run the recipe in this process; the verbs that were called."""
        sys.modules.pop("test_verbs", None)
        importlib.invalidate_caches()
        before = len(self.calls())
        parsed = config.parse(pipeline.RunConfig, self.arguments(*more)[1:], "hanllama run")
        pipeline.run(parsed)
        return self.calls()[before:]

    def calls(self) -> list[str]:
        log = self.folder / "calls.log"
        return log.read_text().split() if log.exists() else []

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Run the recipe in a process of its own, through the command line's `main`."""
        code = (
            f"import sys; sys.path.insert(0, {str(self.folder)!r})\n"
            "sys.dont_write_bytecode = True\n"
            "from hanllama import cli\n"
            f"cli.COMMANDS.update({{k: cli.Command(*v) for k, v in {COMMANDS!r}.items()}})\n"
            f"sys.exit(cli.main({self.arguments(*more)!r}))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def set_stage(self, name: str, **options: object) -> None:
        """Change options of a stage in the recipe file."""
        found = yaml.safe_load(self.recipe.read_text())
        next(s for s in found["stages"] if s["name"] == name)["options"].update(options)
        self.recipe.write_text(yaml.safe_dump(found))


COMMANDS = {
    "make": ("test_verbs:MakeConfig", "test_verbs:make", "make"),
    "train": ("test_verbs:TrainConfig", "test_verbs:train", "train"),
    "write": ("test_verbs:WriteConfig", "test_verbs:write", "write"),
}
ALL = ["make", "make", "train", "write", "write"]
NOTHING = ["write"]  # `show` has no output, so it shows its text each time


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for verb, command in COMMANDS.items():
        monkeypatch.setitem(cli.COMMANDS, verb, cli.Command(*command))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits within a second must be seen
    monkeypatch.setitem(sys.modules, "test_verbs", None)  # so that teardown forgets the module
    return Bench(tmp_path)


# --- skipping ------------------------------------------------------------------------------------


def test_stages_run_in_order_into_numbered_folders(bench: Bench) -> None:
    assert bench.run() == ALL
    assert (bench.output / "01-gather" / "text.txt").read_text() == "abcdefghi"
    assert (bench.output / "02-shape" / "text.txt").read_text() == "abcd"
    assert (bench.output / "03-train" / "steps").read_text().split() == ["0", "1", "2"]
    assert (bench.output / "samples.txt").exists()


def test_a_second_run_does_nothing_again_and_says_so(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    capsys.readouterr()
    assert bench.run() == NOTHING
    shown = capsys.readouterr()
    assert shown.err.count("unchanged, skipped") == 4
    assert shown.out.count("unchanged") == 4 and f"report: {bench.output}/01-gather" in shown.out


@pytest.mark.parametrize(
    ("template", "typed", "expected"),
    [
        ("{{ messages }}", "/usr/bin/hanllama", "next: hanllama chat 'my run/b/model'"),
        ("", "venv/bin/hanllama", "next: venv/bin/hanllama generate 'my run/b/model' --prompt "),
    ],
)
def test_it_ends_with_the_command_that_talks_with_the_last_language_model(
    template: str, typed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    installed = typed if typed.startswith("/") else None
    monkeypatch.setattr(shutil, "which", lambda name: installed)
    monkeypatch.setattr(sys, "argv", [typed])
    for stage, kind in [("a", "CausalLM"), ("b", "CausalLM"), ("c", "SequenceClassification")]:
        folder = Path("my run") / stage / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"architectures": [f"LlamaFor{kind}"]}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        if not template:
            (folder / "tokenizer_config.json").unlink()
    outputs = [Path("my run") / stage for stage in ("a", "b", "c", "d")]
    ended = [
        pipeline.Outcome(recipe.Stage("x", "make", None, output, ()), True, 1.0)
        for output in [*outputs, None]
    ]
    lines = pipeline._summary(ended, 4.0).splitlines()
    assert lines[-1].startswith(expected)
    assert not any("next:" in line for line in pipeline._summary(ended[2:], 4.0).splitlines())


def test_a_changed_option_runs_its_stage_and_what_depends_on_it(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    bench.set_stage("shape", letters=5)
    assert bench.run() == ALL[1:]
    assert "letters was 4 and is 5" in capsys.readouterr().err
    assert (bench.output / "02-shape" / "text.txt").read_text() == "abcde"


def test_a_stage_with_the_same_result_leaves_the_later_ones_done(bench: Bench) -> None:
    bench.run()
    bench.set_stage("gather", shout=True)  # an option that happens to change no byte
    assert bench.run() == ["make", *NOTHING]


def test_one_changed_byte_of_the_input_is_noticed(bench: Bench) -> None:
    bench.run()
    (bench.input / "a.txt").write_text("Abcdefghij")
    assert bench.run() == ALL


def test_a_new_file_in_the_input_is_noticed(bench: Bench) -> None:
    bench.run()
    (bench.input / "b.txt").write_text("more")
    assert bench.run() == ["make", *NOTHING]  # beyond the letters that are kept


def test_touching_renaming_or_moving_files_changes_nothing(bench: Bench) -> None:
    bench.run()
    os.utime(bench.input / "a.txt", (1, 1))
    bench.input = bench.input.rename(bench.folder / "renamed")
    bench.output = bench.output.rename(bench.folder / "moved")
    assert bench.run() == NOTHING


def test_an_input_is_hashed_once_and_not_in_every_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hanllama.base import fs

    bench.run()
    real, hashed = fs.sha256, []
    monkeypatch.setattr(fs, "sha256", lambda path: hashed.append(path) or real(path))
    bench.run()
    assert bench.input / "a.txt" not in hashed
    (bench.input / "a.txt").write_text("0123456789")
    bench.run()
    assert hashed.count(bench.input / "a.txt") == 1


def test_changed_code_runs_again_but_a_comment_does_not(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    bench.verbs.write_text(VERBS.replace('"""Verbs for tests."""', '"""Other words."""  # hm'))
    assert bench.run() == NOTHING
    bench.verbs.write_text(VERBS.replace("[: config.letters]", "[-config.letters :]"))
    assert bench.run() == ALL
    assert "its code changed" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["the folder", "a file of it"])
def test_a_missing_output_is_made_again(bench: Bench, damage: str) -> None:
    bench.run()
    shape = bench.output / "02-shape"
    if damage == "the folder":
        shutil.rmtree(shape)
    else:
        (shape / "text.txt").unlink()
    assert bench.run() == ["make", *NOTHING]
    assert (shape / "text.txt").read_text() == "abcd"


def test_a_changed_output_file_is_made_again(bench: Bench) -> None:
    bench.run()
    (bench.output / "samples.txt").write_text("edited")
    assert bench.run() == ["write", *NOTHING]
    assert (bench.output / "samples.txt").read_text() == "abcd 0.1"


def test_a_file_named_by_an_option_counts_by_its_content(bench: Bench) -> None:
    extra = bench.folder / "extra.txt"
    extra.write_text("xyz")
    bench.set_stage("shape", inputs=[str(extra), "{gather}"])
    bench.run()
    assert bench.run() == NOTHING
    extra.write_text("uvw")
    assert bench.run() == ALL[1:]


def test_a_file_counts_by_its_bare_name_and_where_a_yaml_file_names_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    terms = bench.folder / "terms.txt"
    terms.write_text("xyz")
    (bench.folder / "mine.yaml").write_text("rules: [{sensitive_terms: {file: terms.txt}}]")
    for name in ("terms.txt", "mine.yaml"):
        bench.set_stage("shape", inputs=[name, "{gather}"])
        bench.run()
        assert bench.run() == NOTHING
        terms.write_text(name)
        assert bench.run()[0] == "make"


# --- killed --------------------------------------------------------------------------------------


def _wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_killed_run_goes_on_where_it_was(bench: Bench) -> None:
    steps = bench.output / "03-train" / "steps"
    slow = ("--set", "train.max_steps=40", "train.pause=0.05")
    first = bench.start(*slow)
    _wait_for(lambda: steps.exists() and len(steps.read_text().split()) >= 3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = steps.read_text().split()
    assert 3 <= len(done) < 40
    second = bench.start(*slow)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert err.count("unchanged, skipped") == 2 and "it was interrupted" in err
    assert bench.calls() == ["make", "make", "train", "train", "write", "write"]
    # Every step once: the training resumed from what the killed process had left.
    assert steps.read_text().split() == [str(i) for i in range(40)]
    assert "train" in out


def test_a_second_run_on_the_same_folder_is_refused_while_the_first_works(bench: Bench) -> None:
    first = bench.start("--set", "train.max_steps=400", "train.pause=0.05")
    _wait_for(lambda: (bench.output / "03-train" / "steps").exists())
    second = bench.start()
    _, err = second.communicate(timeout=30)
    first.kill()
    first.communicate()
    assert second.returncode == 2 and "another run is at work" in err
    assert bench.start().wait(30) == 0, "the lock goes with the process"


def test_an_interrupted_training_survives_a_change_of_code(bench: Bench) -> None:
    bench.run()
    record = bench.output / ".pipeline" / "train.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "state": "running"}))
    bench.verbs.write_text(VERBS + "\nNEW = 1\n")
    bench.run()
    assert not list(bench.output.glob("03-train.previous-*"))


def test_a_finished_training_on_other_data_is_set_aside_and_not_lost(bench: Bench) -> None:
    bench.run()
    (bench.output / "03-train" / "precious").write_text("days of work")
    bench.set_stage("shape", letters=5)
    bench.run()
    assert (bench.output / "03-train.previous-1" / "precious").read_text() == "days of work"
    assert not (bench.output / "03-train" / "precious").exists()
    bench.set_stage("shape", letters=6)
    bench.run()
    assert (bench.output / "03-train.previous-2").is_dir()


def test_a_finished_training_goes_on_where_the_new_options_allow_it(bench: Bench) -> None:
    bench.run()
    assert bench.run("--set", "train.max_steps=5") == ["train", "write", *NOTHING]
    assert (bench.output / "03-train" / "steps").read_text().split() == list("01234")
    assert not list(bench.output.glob("03-train.previous-*"))


def test_a_finished_training_that_cannot_go_on_is_set_aside(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run()
    assert bench.run("--set", "train.rate=0.2") == ["train", "train", "write", *NOTHING]
    assert "rate was 0.1 and is 0.2" in capsys.readouterr().err
    assert (bench.output / "03-train.previous-1" / "rate").read_text() == "0.1"
    assert (bench.output / "03-train" / "rate").read_text() == "0.2"


def test_a_refused_resume_says_how_to_begin_afresh(bench: Bench) -> None:
    bench.run()
    record = bench.output / ".pipeline" / "train.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "running"}))
    with pytest.raises(ResumeError, match=r"rate was 0\.1 and is 0\.2; --force train"):
        bench.run("--set", "train.rate=0.2")
    assert bench.run("--set", "train.rate=0.2", "--force", "train") == ["train", "write", *NOTHING]
    assert (bench.output / "03-train" / "rate").read_text() == "0.2"
    assert (bench.output / "03-train.previous-1" / "rate").read_text() == "0.1"


def test_a_failing_stage_leaves_the_earlier_ones_done(bench: Bench) -> None:
    broken = VERBS.replace('called("train")', 'called("train"); raise RuntimeError("no")')
    bench.verbs.write_text(broken)
    with pytest.raises(RuntimeError):
        bench.run()
    assert json.loads((bench.output / ".pipeline" / "shape.json").read_text())["state"] == "done"
    assert json.loads((bench.output / ".pipeline" / "train.json").read_text())["state"] != "done"


# --- choosing ------------------------------------------------------------------------------------


def test_until_stops_after_a_stage_and_force_runs_one_again(bench: Bench) -> None:
    assert bench.run("--until", "shape") == ["make", "make"]
    assert bench.run("--until", "shape", "--force", "shape") == ["make"]
    assert bench.run("--until", "shape", "--force", "all") == ["make", "make"]


def test_set_reads_values_as_the_option_wants_them(bench: Bench) -> None:
    bench.run("--set", "train.max_steps=5", "train.rate=1e-3", "shape.shout=true")
    assert (bench.output / "03-train" / "rate").read_text() == "0.001"
    assert len((bench.output / "03-train" / "steps").read_text().split()) == 5


def test_tiny_wins_over_the_recipe_and_set_over_both(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = {"train": {"loop": {"max_steps": 1}}, "make": {"letters": 2}}
    monkeypatch.setattr(recipe, "tiny_overlay", lambda: overlay)
    bench.run("--scale", "tiny", "--set", "shape.letters=1")
    assert (bench.output / "01-gather" / "text.txt").read_text() == "ab"
    assert (bench.output / "02-shape" / "text.txt").read_text() == "a"
    assert (bench.output / "03-train" / "steps").read_text().split() == ["0"]


def test_several_inputs_and_globs_become_a_list(bench: Bench) -> None:
    for name in ("x.txt", "y.txt"):
        (bench.folder / name).write_text(name[0])
    bench.run("--input", str(bench.input / "a.txt"), str(bench.folder / "[xy].txt"))
    assert (bench.output / "01-gather" / "text.txt").read_text() == "abcdefghi"
    bench.run("--input", str(bench.folder / "[xy].txt"))
    assert (bench.output / "01-gather" / "text.txt").read_text() == "xy"


def test_plain_braces_are_written_twice(bench: Bench) -> None:
    bench.set_stage("samples", output="{output}/{{x}}.txt")
    bench.run()
    assert (bench.output / "{x}.txt").exists()


# --- refused before anything runs ----------------------------------------------------------------

BAD = [
    ("verb: train", "verb: trian", r"stage 3 \(train\): unknown verb 'trian'; .*'train'"),
    ("verb: train", "verb: run", r"unknown verb 'run'"),
    ("letters: 4", "leters: 4", r"stage shape: unknown key 'leters'; did you mean 'letters'"),
    ("max_steps: 3", "max_step: 3", r"stage train: .*'loop.max_step'; did you mean"),
    ("letters: 4", "letters: four", r"stage shape: letters must be int, not 'four'"),
    ('"{gather}"', '"{train}"', r"stage shape: \{train\} is no earlier stage"),
    ('"{gather}"', '"{gahter}"', r"\{gahter\} .*did you mean 'gather'"),
    ('"{input}"', '"in.txt"', r"takes no --input"),
    ("name: shape", "name: gather", r"two stages are named 'gather'"),
    ("name: shape", "name: output", r"not input or output"),
    ("name: shape", "name: Shape!", r"stage 2: name must be"),
    ("options: {model", "option: {model", r"unknown key 'option'; did you mean 'options'"),
    ("data: ", "#", r"is not valid YAML"),
    ("stages:", "stage:", r"unknown key 'stage'; did you mean 'stages'"),
    (RECIPE, "stages: []", r"must be a list of stages"),
    (RECIPE, "- a", r"must hold `key: value` lines"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[b[1] for b in BAD])
def test_a_bad_recipe_is_refused_before_anything_runs(
    bench: Bench, old: str, new: str, message: str
) -> None:
    assert old in RECIPE
    bench.recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        bench.run()
    assert bench.calls() == [] and not bench.output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--until", "trian"], "no stage 'trian'; did you mean 'train'"),
        (["--force", "shap"], "no stage 'shap'; did you mean 'shape'"),
        (["--set", "shpe.letters=1"], "no stage is named 'shpe'; did you mean 'shape'"),
        (["--set", "shape.leters=1"], "unknown key 'leters'; did you mean 'letters'"),
        (["--set", "shape.letters"], "takes stage.option=value"),
        (["--set", "shape.letters=[1"], "not a YAML value"),
        (["--set", "shape.letters=many"], "letters must be int"),
        (["--input", "/nowhere/at/all"], "--input /nowhere/at/all does not exist"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(
    bench: Bench, arguments: list[str], message: str
) -> None:
    with pytest.raises(HanllamaError, match=message.replace("[", r"\[")):
        bench.run(*arguments)
    assert bench.calls() == [] and not bench.output.exists()


def test_a_recipe_that_needs_input_asks_for_it(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="needs --input"):
        pipeline.run(pipeline.RunConfig(recipe=str(bench.recipe), output=str(bench.output)))


def test_a_reference_to_something_never_made_names_the_stage(bench: Bench) -> None:
    bench.set_stage("samples", model="{train}/nothing")
    with pytest.raises(InputError, match=r"stage samples needs .*03-train/nothing"):
        bench.run()


# --- the shipped ones ----------------------------------------------------------------------------


def _hanllama(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hanllama", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_the_tiny_demo_runs_from_nothing_to_chats(tmp_path: Path) -> None:
    demo = _hanllama("run", "demo", "--scale", "tiny", "--output", str(tmp_path / "d"))
    said, _ = demo.communicate(timeout=600)
    assert demo.returncode == 0, said
    assert "of 300 samples parse" in said
    assert "-> not obeyed" in said or "-> obeyed" in said
    assert (tmp_path / "d" / "06-pretrain" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "d" / "10-sft" / "model" / "chat_template.jinja").is_file()
    assert (tmp_path / "d" / "11-chats" / "report.html").is_file()


@pytest.mark.slow
def test_novels_in_any_encoding_survive_a_kill_in_the_training(
    shared_data: Path, tmp_path: Path
) -> None:
    words = ["run", "novels-tiny", "--scale", "tiny", "--output", str(tmp_path / "n"), "--input",
             str(shared_data / "pretrain" / "novels"), str(shared_data / "messy")]  # fmt: skip
    words += ["--set", "pretrain.max_steps=200"]
    first = _hanllama(*words)
    _wait_for(lambda: bool(list(tmp_path.glob("n/04-pretrain/checkpoints/step-*"))), 300)
    first.kill()
    first.communicate()
    second = _hanllama(*words)
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0, said
    assert said.count("unchanged, skipped") == 3 and "it was interrupted" in said
    lines = (tmp_path / "n" / "04-pretrain" / "metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 200
    assert (tmp_path / "n" / "05-samples.jsonl").read_text().count("\n") == 3
