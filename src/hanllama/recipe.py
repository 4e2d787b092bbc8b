"""A recipe: a whole pipeline as data. All its options are checked before anything runs.

    name: novels
    description: {zh: …, en: …}
    stages:
      - name: clean              # {clean} in a later stage is this stage's output
        verb: clean              # any command of `hanllama --help`
        options: {inputs: "{input}"}
      - name: tokenizer
        verb: tokenizer train
        options: {inputs: "{clean}", vocab_size: 8000}

`{input}` stands for the path of `--input` (for all of them, if it is a whole value), `{output}` for
the run's folder. If a verb needs an output, it is `<output>/<nn>-<name>` unless the stage's options
give another; `{{` and `}}` are plain braces.

A recipe may state only its differences from another:

    extends: demo                # a shipped recipe, or a file beside this one
    until: sft                   # its stages up to this one; default: all
    stages:
      - name: pretrain           # an existing stage: these options override its own
        options: {loop: {max_steps: 4000}}
      - name: reward             # a new stage, added at the end
        verb: reward
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import yaml

from hanllama import cli
from hanllama.base import config
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest

FOLDER = Path(__file__).parent / "recipes"
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True)
class Stage:
    """One resolved stage, whose config is complete and valid.

    `output` is None for a stage that only shows something. `reads` are the paths that placeholders
    put into its options: the result depends on their content too.
    """

    name: str
    verb: str
    config: Any
    output: Path | None
    reads: tuple[str, ...]

    @property
    def modules(self) -> tuple[str, str]:
        """The modules of the verb's config class and of its function."""
        command = cli.COMMANDS[self.verb]
        return command.config.partition(":")[0], command.function.partition(":")[0]

    def run(self) -> None:
        """Run the verb in this process."""
        cli.resolve(cli.COMMANDS[self.verb].function)(self.config)


@dataclass(frozen=True)
class Recipe:
    """A recipe as written, before its stages are resolved."""

    name: str
    description: Mapping[str, str]
    stages: Sequence[Mapping[str, Any]]
    where: str

    @property
    def needs_input(self) -> bool:
        """Whether any option uses `{input}`."""
        return any("input" in _mentions(s.get("options") or {}) for s in self.stages)


def names() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(f.stem for f in FOLDER.glob("*.yaml") if not f.name.startswith("_"))


def read(name: str) -> Recipe:
    """Read the shipped recipe `name`, or the file at `name` if it ends in `.yaml` or `.yml`.

    Raises ConfigError for an unknown recipe and for a file that is not a recipe.
    """
    return _read(name, ())


def _read(name: str, below: tuple[str, ...]) -> Recipe:
    """`read`; `below` is the chain of paths that extend this recipe, to find a circle."""
    if name.endswith((".yaml", ".yml")):
        path, where = Path(name), f"recipe {name}"
    else:
        if name not in names():
            raise ConfigError(f"recipe {name!r} does not exist{nearest(name, names())}")
        path, where = FOLDER / f"{name}.yaml", f"recipe {name}"
    itself = str(path.resolve())
    if itself in below:
        raise ConfigError(f"{where} extends itself: {' -> '.join([*below, itself])}")
    found = config.read_yaml(path)
    _only(found, ("name", "description", "extends", "until", "stages"), where)
    stages = found.get("stages")
    if not isinstance(stages, list) or not stages:
        raise ConfigError(f"{where}: `stages` must be a list of stages")
    if extends := found.get("extends"):
        beside = str(extends).endswith((".yaml", ".yml"))
        base = str(path.parent / str(extends)) if beside else str(extends)
        stages = _extended(_read(base, (*below, itself)), found.get("until"), stages, where)
    elif "until" in found:
        raise ConfigError(f"{where}: `until` needs `extends`; add the recipe to extend")
    description = found.get("description") or {}
    if isinstance(description, str):
        description = {"en": description}
    if not isinstance(description, dict):
        raise ConfigError(f"{where}: `description` must be text, or zh: and en: with text")
    for number, stage in enumerate(stages, 1):
        _check_stage(stage, f"{where}, stage {number}")
    seen: set[str] = set()
    for stage in stages:
        if stage["name"] in seen:
            raise ConfigError(f"{where}: two stages are named {stage['name']!r}")
        seen.add(stage["name"])
    return Recipe(str(found.get("name") or path.stem), description, stages, where)


def tiny_overlay() -> dict[str, dict[str, Any]]:
    """The options that `--scale tiny` changes, by verb."""
    return config.read_yaml(FOLDER / "_tiny.yaml")


def resolve(
    recipe: Recipe,
    inputs: Sequence[str],
    output: Path,
    overlay: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str],
) -> list[Stage]:
    """Resolve every stage to a complete, valid config.

    Args:
        inputs: the paths for `{input}`.
        output: the path for `{output}`.
        overlay: options by verb that override the recipe's (`--scale tiny`).
        overrides: `stage.option=value` texts that override both.

    Raises ConfigError for any error in the recipe, naming stage and option.
    """
    if recipe.needs_input and not inputs:
        raise ConfigError(f"{recipe.where} needs --input: files or folders of text to begin with")
    if inputs and not recipe.needs_input:
        raise ConfigError(f"{recipe.where} makes its own text and takes no --input")
    changes = _overrides(overrides, recipe)
    values: dict[str, Sequence[str]] = {"input": inputs, "output": [str(output)]}
    stages = []
    for number, stage in enumerate(recipe.stages, 1):
        name, verb = stage["name"], stage["verb"]
        where = f"{recipe.where}, stage {name}"
        options = _merge(stage.get("options") or {}, overlay.get(verb, {}))
        cls = cli.resolve(cli.COMMANDS[verb].config)
        for key, text in changes.get(name, {}).items():
            options = _merge(options, _override(cls, key, text, where))
        output_option = next((o for o in config.options(cls) if o.key == "output"), None)
        if output_option and output_option.default is MISSING:
            options = {"output": f"{{output}}/{number:02d}-{name}", **options}
        reads: list[str] = []
        mine = config.load(cls, _substitute(options, values, where, reads), where)
        place = getattr(mine, "output", "")
        stages.append(Stage(name, verb, mine, Path(place) if place else None, tuple(reads)))
        if place:
            values[name] = [place]
    return stages


# --- reading -------------------------------------------------------------------------------------


def _check_stage(stage: Any, where: str) -> None:
    if not isinstance(stage, dict):
        raise ConfigError(f"{where}: must hold name, verb and options")
    _only(stage, ("name", "verb", "options"), where)
    name, verb = stage.get("name"), stage.get("verb")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in ("input", "output"):
        raise ConfigError(
            f"{where}: name must be small letters, digits and hyphens, and not input or output;"
            f" it is {name!r}"
        )
    known = [v for v in cli.COMMANDS if v != "run"]
    if verb not in known:
        raise ConfigError(f"{where} ({name}): unknown verb {verb!r}{nearest(str(verb), known)}")
    if not isinstance(stage.get("options") or {}, dict):
        raise ConfigError(f"{where} ({name}): options must hold `key: value` lines")


def _extended(
    base: Recipe, until: Any, stages: Sequence[Any], where: str
) -> list[Mapping[str, Any]]:
    """The stages of `base` up to `until`, with the changes and additions of `stages`."""
    names = [stage["name"] for stage in base.stages]
    if until is not None and until not in names:
        hint = nearest(str(until), names)
        raise ConfigError(f"{where}: {base.where} has no stage {until!r} to stop at{hint}")
    kept = names if until is None else names[: names.index(until) + 1]
    taken = {name: base.stages[names.index(name)] for name in kept}
    added, changed = [], set()
    for stage in stages:
        name = stage.get("name") if isinstance(stage, dict) else None
        if not isinstance(name, str) or name not in taken or name in changed:
            added.append(stage)
            continue
        _only(stage, ("name", "options"), f"{where}, stage {name} of {base.where}")
        before, options = taken[name].get("options") or {}, stage.get("options") or {}
        if not isinstance(options, dict):
            raise ConfigError(f"{where} ({name}): options must hold `key: value` lines")
        taken[name] = {**taken[name], "options": _merge(before, options)}
        changed.add(name)
    return [*taken.values(), *added]


def _only(mapping: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(str(key), list(known))}")


# --- resolving -----------------------------------------------------------------------------------


def _overrides(texts: Sequence[str], recipe: Recipe) -> dict[str, dict[str, str]]:
    """`pretrain.loop.max_steps=100` -> {"pretrain": {"loop.max_steps": "100"}}."""
    known = [s["name"] for s in recipe.stages]
    changes: dict[str, dict[str, str]] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        stage, dot, key = left.strip().partition(".")
        if not equals or not dot or not key:
            raise ConfigError(f"--set takes stage.option=value, not {text!r}")
        if stage not in known:
            raise ConfigError(f"--set {text}: no stage is named {stage!r}{nearest(stage, known)}")
        changes.setdefault(stage, {})[key] = value
    return changes


def _override(cls: type, key: str, text: str, where: str) -> dict[str, Any]:
    """One `--set` as a nested mapping; its text is read as YAML unless the option is a text."""
    option = config.find(cls, key, f"{where}, --set")
    value: Any = text
    if option.type is not str:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"{where}, --set {key}: {text!r} is not a YAML value") from None
    for part in reversed(option.key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings, `above` over `below`; `a-b` and `a_b` are one key."""
    merged = {str(k).replace("-", "_"): v for k, v in below.items()}
    for key, value in above.items():
        name = str(key).replace("-", "_")
        before = merged.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = _merge(before, value) if both else value  # type: ignore[arg-type]
    return merged


def _substitute(
    value: Any, values: Mapping[str, Sequence[str]], where: str, reads: list[str]
) -> Any:
    """Fill the placeholders of `value`, and append the resulting paths to `reads`."""
    if isinstance(value, Mapping):
        return {k: _substitute(v, values, where, reads) for k, v in value.items()}
    if isinstance(value, list):
        filled = [_substitute(v, values, where, reads) for v in value]
        # `["{input}", "more.txt"]` is one flat list for any number of inputs.
        return [item for v in filled for item in (v if isinstance(v, list) else [v])]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole and whole[1] is not None and len(_known(whole[1], values, where)) != 1:
        reads += values[whole[1]]
        return list(values[whole[1]])

    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        found = _known(match[1], values, where)
        if len(found) != 1:
            raise ConfigError(
                f"{where}: {{{match[1]}}} stands for {len(found)} paths and cannot be part of"
                f" {value!r}"
            )
        return found[0]

    text = _PLACEHOLDER.sub(fill, value)
    if set(_mentions(value)) - {"output"}:
        reads.append(text)
    return text


def _known(name: str, values: Mapping[str, Sequence[str]], where: str) -> Sequence[str]:
    if name not in values:
        raise ConfigError(
            f"{where}: {{{name}}} is no earlier stage with an output{nearest(name, list(values))};"
            " plain braces are written {{ and }}"
        )
    return values[name]


def _mentions(value: Any) -> list[str]:
    """The names of the placeholders in a value."""
    if isinstance(value, Mapping):
        return [name for v in value.values() for name in _mentions(v)]
    if isinstance(value, list):
        return [name for v in value for name in _mentions(v)]
    if isinstance(value, str):
        return [m[1] for m in _PLACEHOLDER.finditer(value) if m[1] is not None]
    return []
