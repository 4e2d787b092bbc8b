"""`hanllama run RECIPE`: a whole pipeline, each stage only if something changed.

A stage is done if its fingerprint equals the recorded one and its output still exists. The
fingerprint covers its resolved config, the content of its inputs and its code, so a renamed folder
or a nicer chart costs nothing, and a new rule cleans again. Content counts, not time: if a stage
runs again with the same result, the later ones stay done.

A record is written before a stage begins (`running`) and after it ended (`done`), each in one
step. So after a kill, the interrupted stage runs again and finds its checkpoints, and the stages
before it are skipped. New results replace old ones, except a training's: it resumes, or its folder
is moved aside.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hanllama import recipe
from hanllama.base import config, fs
from hanllama.base.card import aligned
from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError, InputError, ResumeError
from hanllama.base.fingerprint import Contents, of_code
from hanllama.base.making import differences, flat
from hanllama.base.plugins import nearest
from hanllama.base.progress import duration
from hanllama.recipe import Stage

# Options for the place of a result and the division of the work. They never change the result
# (the promise clean_same and its siblings).
NEUTRAL = ("output", "force", "workers", "threads")


@checked
class RunConfig:
    """Options of `hanllama run`."""

    recipe: str = option(help="a recipe's name, or a path to one (.yaml)", positional=True)
    input: tuple[str, ...] = option((), help="files or folders of text that the recipe begins with")
    output: str = option("", help="the run's folder; default: runs/<recipe> (-tiny)")
    scale: Literal["full", "tiny"] = option("full", help="tiny: the same stages, small sizes")
    set: tuple[str, ...] = option((), help="changes, as stage.option=value")
    until: str = option("", help="stop after this stage")
    force: tuple[str, ...] = option((), help="stages to run again even if unchanged; or all")


@dataclass(frozen=True)
class Outcome:
    """The end of one stage, for the summary."""

    stage: Stage
    ran: bool
    seconds: float


def run(options: RunConfig) -> None:
    """Run a recipe.

    Raises ConfigError and InputError for a wrong recipe, option or input before the first stage
    begins, and later any error of a stage.
    """
    chosen = recipe.read(options.recipe)
    tiny = options.scale == "tiny"
    output = Path(options.output or f"runs/{chosen.name}{'-tiny' if tiny else ''}")
    overlay = recipe.tiny_overlay() if tiny else {}
    inputs = _existing(options.input)
    stages = recipe.resolve(chosen, inputs, output, overlay, options.set)
    names = [s.name for s in stages]
    for name in (*options.force, *([options.until] if options.until else [])):
        if name not in names and not (name == "all" and name in options.force):
            raise ConfigError(f"{chosen.where} has no stage {name!r}{nearest(name, names)}")
    if options.until:
        stages = stages[: names.index(options.until) + 1]

    _say(f"recipe {chosen.name} ({len(stages)} stages) -> {output}")
    for text in chosen.description.values():
        _say(f"  {text}")
    journal = _Journal(output)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with fs.alone(journal.folder / "run", shown=output):
        for number, stage in enumerate(stages, 1):
            forced = stage.name in options.force or "all" in options.force
            label = f"[{number}/{len(stages)}] {stage.name}"
            outcomes.append(_run_stage(stage, journal, forced, label, inputs))
    print(_summary(outcomes, time.monotonic() - began))


def _run_stage(
    stage: Stage, journal: _Journal, forced: bool, label: str, inputs: list[str]
) -> Outcome:
    wanted = journal.fingerprint(stage, inputs)
    record = journal.record(stage)
    why = "forced" if forced else journal.why(stage, record, wanted)
    if not why:
        _say(f"{label}: done already and unchanged, skipped")
        return Outcome(stage, False, 0.0)
    _say(f"{label}: {stage.verb} ({why})")
    finished, before = record.get("state") == "done", record.get("fingerprint", wanted)
    goes_on = (
        not forced
        and before["inputs"] == wanted["inputs"]
        and (before["code"] == wanted["code"] or not finished)
    )
    ready = _make_room(stage, goes_on)
    journal.write(ready, {"state": "running", "fingerprint": wanted})
    began = time.monotonic()
    try:
        ready.run()
    except ResumeError as error:
        if not finished:
            raise ResumeError(
                f"{error}; --force {stage.name} moves the earlier result aside and begins this"
                " stage again"
            ) from error
        # The verb cannot go on from an earlier, complete result with another config.
        _say(f"  {error}")
        _set_aside(ready)
        ready.run()
    seconds = time.monotonic() - began
    journal.write(
        ready,
        {
            "state": "done",
            "fingerprint": wanted,
            "result": journal.result(ready),
            "seconds": round(seconds, 3),
        },
    )
    return Outcome(ready, True, seconds)


def _make_room(stage: Stage, goes_on: bool) -> Stage:
    """Prepare a stage whose output may exist.

    A verb with a `force` option replaces its result. A verb without one (a training) resumes or
    refuses; if its input or code changed, the earlier folder is moved aside.
    """
    if stage.output is None or not stage.output.exists():
        return stage
    if "force" in {f.name for f in dataclasses.fields(stage.config)}:
        return dataclasses.replace(stage, config=dataclasses.replace(stage.config, force=True))
    if not goes_on:
        _set_aside(stage)
    return stage


def _set_aside(stage: Stage) -> None:
    """Move a stage's folder aside; it is never deleted, since it may have cost days."""
    if stage.output is None or not stage.output.is_dir():
        return
    number = 1
    while (aside := stage.output.with_name(f"{stage.output.name}.previous-{number}")).exists():
        number += 1
    with fs.storage(aside):
        os.replace(stage.output, aside)
    _say(f"  the earlier {stage.output} is kept as {aside}")


class _Journal:
    """`<output>/.pipeline/`: the record of each stage's last run."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / ".pipeline"
        self.contents = Contents(self.folder / "hashes.json")

    def record(self, stage: Stage) -> dict[str, Any]:
        """The stage's record; empty if it never began."""
        path = self.folder / f"{stage.name}.json"
        return fs.read_json(path) if path.is_file() else {}

    def write(self, stage: Stage, record: dict[str, Any]) -> None:
        """Replace the stage's record in one step."""
        fs.write_json(self.folder / f"{stage.name}.json", {"verb": stage.verb, **record})

    def fingerprint(self, stage: Stage, inputs: list[str]) -> dict[str, Any]:
        """The config, inputs and code of a stage, independent of the place of the run's folder.

        Raises InputError for a missing input.
        """
        resolved = config.to_dict(stage.config)
        for key in NEUTRAL:
            resolved.pop(key, None)
        read: dict[str, str] = {}
        for path in (*stage.reads, *self._named_files(resolved)):
            read[self._portable(path, inputs)] = self._content(path, stage)
        return {
            "config": _map_texts(resolved, lambda text: self._portable(text, inputs)),
            "inputs": read,
            "code": of_code(*stage.modules),
        }

    def why(self, stage: Stage, record: dict[str, Any], wanted: dict[str, Any]) -> str:
        """Why a stage must run, in words; empty if it is done."""
        if stage.output is None:
            return "shows its result each time"
        if not record:
            return "first time"
        before = record.get("fingerprint", {})
        options = flat(before.get("config", {})), flat(wanted["config"])
        changes = [words for _, words in differences(*options)]
        if before.get("inputs") != wanted["inputs"]:
            changes.append("its input changed")
        if before.get("code") != wanted["code"]:
            changes.append("its code changed")
        if changes:
            return "; ".join(changes)
        if record.get("state") != "done":
            return "it was interrupted"
        if self.result(stage) != record.get("result"):
            return "its output is missing or was changed"
        return ""

    def result(self, stage: Stage) -> str:
        """An identity of a stage's output: the checksums of a folder, the content of a file.

        A run folder without `SHA256SUMS` only has to exist: its checkpoints may be deleted to save
        space, and each of its models is verified when it is opened.
        """
        if stage.output is None:
            return ""
        if stage.output.is_dir() and not (stage.output / fs.SUMS).is_file():
            return "a folder"
        try:
            return self.contents.of(stage.output)
        except InputError:
            return "missing"

    def _named_files(self, resolved: dict[str, Any]) -> list[str]:
        """The option values that are the user's own paths: a base model, a rule in a `.py` file.

        A YAML file may name further files (a list of terms for a rule).
        """
        found: list[str] = []

        def look(text: str) -> str:
            # A bare name may be a file, but for a folder it could be any word.
            path_like = os.sep in text.strip(os.sep) or os.path.isfile(text)
            # `reads` covers the inputs inside the run's folder; the rest of it is output.
            inside = text.startswith(str(self.output))
            if path_like and not inside and os.path.exists(text) and text not in found:
                found.append(text)
                if text.endswith((".yaml", ".yml")):
                    _map_texts(_yaml(Path(text)), look)
            return text

        _map_texts(resolved, look)
        return found

    def _content(self, path: str, stage: Stage) -> str:
        try:
            return self.contents.of(Path(path))
        except InputError as error:
            raise InputError(
                f"stage {stage.name} needs {path}: {error}; to make it again, give --force with the"
                " stage that writes it"
            ) from None

    def _portable(self, text: str, inputs: list[str]) -> str:
        if text in inputs:
            return f"{{input {inputs.index(text) + 1}}}"
        root = str(self.output)
        return "{output}" + text[len(root) :] if text.startswith(root + os.sep) else text


# --- small parts -----------------------------------------------------------------------------


def _existing(inputs: tuple[str, ...]) -> list[str]:
    """The inputs with globs expanded; InputError names a missing one."""
    found: list[str] = []
    for text in inputs:
        matches = [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True))
        if not matches:
            raise InputError(f"--input {text} does not exist")
        found += matches
    return found


def _yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None  # its real reader reports the error


def _map_texts(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {k: _map_texts(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_map_texts(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def _summary(outcomes: list[Outcome], seconds: float) -> str:
    rows = [
        (
            f"  {o.stage.name}",
            duration(o.seconds) if o.ran else "unchanged",
            str(o.stage.output) if o.stage.output else "(shown above)",
        )
        for o in outcomes
    ]
    lines = ["", f"done in {duration(seconds)}", *aligned(rows)]
    reports = [o.stage.output / "report.html" for o in outcomes if o.stage.output]
    lines += [f"report: {path}" for path in reports if path.is_file()]
    return "\n".join([*lines, *_next(outcomes)])


def _next(outcomes: list[Outcome]) -> list[str]:
    """The command to talk with the last trained language model."""
    from hanllama.tokenizer import chat

    for folder in (o.stage.output / "model" for o in reversed(outcomes) if o.stage.output):
        described = folder / "config.json"
        known = fs.read_json(described) if described.is_file() else {}
        if "LlamaForCausalLM" not in known.get("architectures", ()):
            continue  # a reward model, or no model
        answers = chat.of_folder(folder) is not None
        words = (
            ["chat", str(folder)] if answers else ["generate", str(folder), "--prompt", "从前，"]
        )
        return ["next: " + shlex.join([_program(), *words])]
    return []


def _program() -> str:
    """The name under which this command was called: `make demo` runs it by its path."""
    typed = Path(sys.argv[0])
    by_path = typed.name == "hanllama" and not shutil.which("hanllama")
    return str(typed) if by_path else "hanllama"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
