"""Typed configuration: one frozen dataclass per command, filled from YAML, then from `--flags`.

A command's dataclass is the only place where an option exists: the command line, `--help`, YAML
files, recipes and the tables in `docs/` all read it. msgspec checks types and ranges; this file
adds positional arguments, `--a-b` for `--a_b`, `--leaf` for the only `--group.leaf` of that name,
and errors that name the nearest key.

    @checked
    class CleanConfig:
        inputs: tuple[str, ...] = option(help="files or folders to read", positional=True)
        workers: Natural = option(0, help="processes; 0 means one per core")
        bits: int = option(20, ge=10, le=26, help="size of the table")
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest

T = TypeVar("T")

# Common ranges by name; `option(ge=…)` states another.
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Texts = Annotated[tuple[str, ...], Meta(min_length=1)]


def option(default: Any = MISSING, *, help: str, positional: bool = False, **bounds: Any) -> Any:
    """A dataclass field with its help text. Without a default the option is required.

    Args:
        default: the value if the option is not given.
        help: one line for `--help` and the tables in `docs/`.
        positional: words without a flag fill it.
        bounds: `ge`, `gt`, `le`, `lt`: a range without a name like `Count`.
    """
    metadata = {"help": help, "positional": positional}
    if bounds:
        metadata["range"] = Meta(**bounds)
    if default is not MISSING and is_dataclass(default):
        own: Any = type(default)()  # type: ignore[misc]
        assert default == own, "a group has its class's defaults: subclass it for others"
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def checked(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that refuses a number outside its range.

    A subclass changes an inherited default with `name: type = value`; help and range stay.

    Making an object raises ConfigError with the field, its range and the value.
    """
    inherited, after = _inherited(cls), getattr(cls, "__post_init__", None)
    for name, field in inherited.items():
        if name in vars(cls):
            new = vars(cls)[name]
            own = new if isinstance(new, dataclasses.Field) else dataclasses.field(default=new)
            own.metadata = types.MappingProxyType({**field.metadata, **own.metadata})
            setattr(cls, name, own)

    def check(self: Any) -> None:
        for field, hint, limit in _hints(type(self)):  # type: ignore[arg-type]
            if limit:
                _convert(hint, limit, getattr(self, field.name), field.name)
        if after:
            after(self)

    cls.__post_init__ = check  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=bool(inherited))(cls)


@dataclass(frozen=True)
class Option:
    """One leaf of a config: its dotted key, type, default (MISSING if required) and help."""

    key: str
    type: Any
    default: Any
    help: str
    positional: bool

    @property
    def flag(self) -> str:
        """The option as typed: `--optim.learning-rate`; `--from` for a field `from_`."""
        return _flag(self.key)

    @property
    def type_name(self) -> str:
        """The type in words: `int`, `a|b`, `list of text`."""
        return _type_name(self.type)


def options(cls: type, prefix: str = "") -> list[Option]:
    """All leaf options: required, then the class's own, then inherited; groups by dotted keys."""
    hints = typing.get_type_hints(cls)
    inherited = _inherited(cls)
    found: list[Option] = []
    for field in sorted(fields(cls), key=lambda f: (not _required(f), f.name in inherited)):
        hint, key = hints[field.name], prefix + field.name
        if isinstance(hint, type) and is_dataclass(hint):
            found += options(hint, key + ".")
            continue
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        text = field.metadata.get("help", "")
        found.append(Option(key, hint, default, text, bool(field.metadata.get("positional"))))
    return found


def parse(cls: type[T], argv: Sequence[str], command: str) -> T:
    """Fill `cls` from `--config FILE` (YAML) and then from flags.

    Args:
        cls: a frozen dataclass whose fields were made by `option`.
        argv: the words after the command's name on the command line.
        command: the command's name, for messages: `hanllama clean`.

    Raises ConfigError for an unknown key, a value of the wrong type or a missing required option.
    """
    known = options(cls)
    values: dict[str, Any] = {}
    flags = _flags(known, list(argv), command)
    for path in flags.pop("config", []):
        for key, value in _flatten(read_yaml(Path(path)), cls, path).items():
            values[key] = value
    by_key = {o.key: o for o in known}
    for key, texts in flags.items():
        values[key] = _items(texts, by_key[key].type) if _is_list(by_key[key].type) else texts[0]
    return _build(cls, values, command)


def load(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Fill `cls` from a nested mapping (a recipe's stage, a saved config); `where` names it."""
    return _build(cls, _flatten(mapping, cls, where), where)


def find(cls: type, key: str, where: str) -> Option:
    """The option of `cls` called `key`, or the only one whose last part is `key`.

    Raises ConfigError with the nearest name if there is none.
    """
    by_key = {o.key: o for o in options(cls)}
    name = key.replace("-", "_")
    name = f"{name}_" if f"{name}_" in by_key else name  # a Python keyword: `from_`
    leaves = [k for k in by_key if k.rsplit(".", 1)[-1] == name]
    if name not in by_key and len(leaves) == 1:
        name = leaves[0]
    if name not in by_key:
        raise ConfigError(f"{where}: unknown key {key!r}{nearest(name, list(by_key))}")
    return by_key[name]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError if it is missing, not YAML or not a mapping."""
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"config file {path} must hold `key: value` lines")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain nested values, for YAML or JSON."""
    result: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            result[field.name] = to_dict(value)
        else:
            result[field.name] = list(value) if isinstance(value, tuple) else value
    return result


def to_yaml(config: Any) -> str:
    """The config as YAML that `--config` reads back to an equal config."""
    import yaml

    return yaml.safe_dump(to_dict(config), allow_unicode=True, sort_keys=False)


def help_text(cls: type, command: str, summary: str) -> str:
    """The text of `--help`."""
    known = options(cls)
    positional = [o for o in known if o.positional]
    usage = " ".join(
        [command, *(_usage(o) for o in positional), "[--config FILE] [--option value]"]
    )
    lines = [f"usage: {usage}", "", summary, "", "options:"]
    rows = [(f"{o.flag} {o.type_name}", _help_cell(o)) for o in known]
    rows.append(("--config FILE", "a YAML file with any of these options; flags come after it"))
    rows.append(("--debug", "show the traceback of an error"))
    width = min(max(len(left) for left, _ in rows), 38)
    for left, right in rows:
        gap = "\n" + " " * (width + 4) if len(left) > width else " " * (width + 2 - len(left))
        lines.append(f"  {left}{gap}{right}")
    return "\n".join(lines) + "\n"


def markdown_table(cls: type) -> str:
    """The option table of the docs."""
    rows = ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    for o in options(cls):
        default = "required" if o.default is MISSING else f"`{_show(o.default)}`"
        type_name = o.type_name.replace("|", " \\| ")
        meaning = o.help.replace("|", "\\|")
        rows.append(f"| `{o.flag}` | {type_name} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


# --- from the command line -------------------------------------------------------------------


def _flags(known: list[Option], argv: list[str], command: str) -> dict[str, list[str]]:
    """The command line as {key: texts}; bare words fill the positional options."""
    by_key = {o.key: o for o in known}
    found: dict[str, list[str]] = {}
    words = []
    while argv:
        word = argv.pop(0)
        if re.match(r"-[A-Za-z]", word):
            raise ConfigError(f"{command}: unknown option {word}; options begin with --")
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        key, negated = _resolve(name.replace("-", "_"), by_key, command)
        is_bool = key != "config" and _is_bool(by_key[key].type)
        texts = [value] if equals else []
        while not equals and argv and not _is_flag(argv[0]):
            if is_bool and argv[0].lower() not in _BOOL_WORDS:
                break  # `--stream MODEL`: the word after a switch is a positional argument
            texts.append(argv.pop(0))
            if key == "config" or not _is_list(by_key[key].type):
                break
        if is_bool and not texts:
            texts = ["false" if negated else "true"]
        elif not texts or negated:
            raise ConfigError(f"{command}: --{name} {'takes no' if texts else 'needs a'} value")
        if key in found and (key == "config" or _is_list(by_key[key].type)):
            found[key] += texts
        else:
            found[key] = texts
    positional = [o for o in known if o.positional]
    for index, o in enumerate(positional):
        rest = len(positional) - index - 1
        take = max(len(words) - rest, 0) if _is_list(o.type) else min(1, len(words))
        if take:
            found[o.key] = words[:take] + (found.get(o.key, []) if _is_list(o.type) else [])
        words = words[take:]
    if words:
        raise ConfigError(f"{command}: unexpected argument {words[0]!r}; see --help")
    return found


def _items(words: list[str], hint: Any) -> list[Any]:
    """The items of a list option: its words, with a word that is a JSON list as its items.

    A JSON list of numbers counts only for a list of numbers: otherwise `[1]` is a text.
    """
    allowed = (int, float) if get_args(hint)[0] in (int, float) else (str, dict)
    items: list[Any] = []
    for word in words:
        listed: Any
        try:
            listed = json.loads(word) if word.startswith("[") else None
        except (json.JSONDecodeError, RecursionError):
            listed = None
        is_list = listed is not None and all(isinstance(item, allowed) for item in listed)
        items += listed if is_list else [word]
    return items


_BOOL_WORDS = {"true": True, "yes": True, "false": False, "no": False}


def _is_flag(word: str) -> bool:
    return word.startswith("--") and len(word) > 2


def _resolve(name: str, by_key: Mapping[str, Option], command: str) -> tuple[str, bool]:
    """A typed flag -> (key, negated): the exact key, `no_x`, or the only leaf of that name."""
    if f"{name}_" in by_key:  # a field that is a Python keyword: `from_`
        return f"{name}_", False
    if name == "config" or name in by_key:
        return name, False
    leaves = [key for key in by_key if key.rsplit(".", 1)[-1] == name]
    if len(leaves) == 1:
        return leaves[0], False
    if name.startswith("no_"):
        key, _ = _resolve(name[3:], by_key, command)
        if key != "config" and _is_bool(by_key[key].type):
            return key, True
    shown = [o.flag.removeprefix("--") for o in by_key.values()]
    raise ConfigError(
        f"{command}: unknown option --{name.replace('_', '-')}"
        f"{nearest(name.replace('_', '-'), shown)}"
    )


# --- from YAML ---------------------------------------------------------------------------------


def _flatten(mapping: Mapping[str, Any], cls: type, where: str, prefix: str = "") -> dict[str, Any]:
    """A nested mapping -> {dotted key: value}; ConfigError names the key nearest to a wrong one."""
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = str(key).replace("-", "_")
        name = f"{name}_" if f"{name}_" in known else name
        if name not in known:
            raise ConfigError(f"{where}: unknown key {prefix + str(key)!r}{nearest(name, known)}")
        hint = hints[name]
        if isinstance(hint, type) and is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {prefix + name} must hold `key: value` lines")
            flat.update(_flatten(value, hint, where, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


# --- from values to objects ----------------------------------------------------------------------


def _build(cls: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Convert and check every value, and make the dataclass."""
    arguments: dict[str, Any] = {}
    for field, hint, limit in _hints(cls):  # type: ignore[arg-type]
        key = prefix + field.name
        if isinstance(hint, type) and is_dataclass(hint):
            arguments[field.name] = _build(hint, values, where, key + ".")
        elif key in values:
            arguments[field.name] = _convert(
                hint, limit, _read(values[key], hint), f"{where}: {key}"
            )
        elif _required(field):
            raise ConfigError(f"{where}: {_flag(key)} is required ({field.metadata['help']})")
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


@functools.cache
def _hints(cls: Any) -> list[tuple[dataclasses.Field[Any], Any, Meta | None]]:
    """The fields with their types and ranges, if any."""
    plain, full = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
    found = []
    for field in fields(cls):
        parts = (full[field.name], *get_args(full[field.name]))  # `Count`, or `Count | None`
        limits = [limit for part in parts for limit in getattr(part, "__metadata__", ())]
        limit = field.metadata.get("range") or next(iter(limits), None)
        found.append((field, plain[field.name], limit))
    return found


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _inherited(cls: type) -> dict[str, dataclasses.Field[Any]]:
    bases = filter(is_dataclass, reversed(cls.__mro__[1:]))
    return {field.name: field for base in bases for field in fields(base)}


def _convert(hint: Any, limit: Meta | None, value: Any, key: str) -> Any:
    """Convert a value to a type; ConfigError if it has another type or is out of range."""
    try:
        made = msgspec.convert(value, hint)
        if isinstance(value, float) and not isinstance(made, float):
            raise msgspec.ValidationError  # 2.0 is no whole number
        if limit and made is not None:
            msgspec.convert(made, Annotated[type(made), limit])
            if made == math.inf:  # msgspec accepts no infinite upper bound
                raise msgspec.ValidationError
        return made
    except msgspec.ValidationError as error:
        words = f"{_type_name(hint)} {_range(limit)}" if limit else _type_name(hint)
        raise ConfigError(f"{key} must be {words}, not {value!r}") from error


def _read(value: Any, hint: Any) -> Any:
    """Read a text (a flag's, or YAML's `1e-3`) as the scalar of a type; else leave it unchanged."""
    if _is_list(hint) and isinstance(value, str | list | tuple):
        items = [value] if isinstance(value, str) else value
        return [_read(item, get_args(hint)[0]) for item in items]
    kinds = get_args(hint) or (hint,)
    if not isinstance(value, str) or str in kinds:
        return value
    if type(None) in kinds and value in ("none", "null", "~"):  # the help's word, or YAML's
        return None
    for kind in kinds:
        if kind in _READ:
            with suppress(ValueError, KeyError):
                return _READ[kind](value)
    return value


_READ: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: _BOOL_WORDS[text.lower()], int: int, float: float
}  # fmt: skip


# --- words for types -----------------------------------------------------------------------------


def _flag(key: str) -> str:
    return "--" + key.rstrip("_").replace("_", "-")


def _is_list(hint: Any) -> bool:
    return get_origin(hint) in (tuple, list)


def _is_bool(hint: Any) -> bool:
    return hint is bool


def _type_name(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return "|".join(str(a) for a in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(a) for a in get_args(hint) if a is not type(None))
    if origin in (tuple, list):
        return f"list of {_type_name(get_args(hint)[0])}"
    if origin is dict:
        return "mapping"
    return {"str": "text", "bool": "true|false", "Any": "value"}.get(
        getattr(hint, "__name__", ""), getattr(hint, "__name__", str(hint))
    )


def _range(limit: Meta) -> str:
    """A range in words: `from 0 to 1`, `of 1 or more`."""
    if limit.min_length is not None:
        return f"with {limit.min_length} or more"
    low = f"from {limit.ge}" if limit.ge is not None else f"above {limit.gt}"
    if limit.le is not None:
        return f"{low} to {limit.le}"
    if limit.lt is not None:
        return f"{low} to below {limit.lt}"
    return low if limit.ge is None else f"of {limit.ge} or more"


def _usage(o: Option) -> str:
    name = o.key.upper()
    return f"{name} [{name} ...]" if _is_list(o.type) else name


def _help_cell(o: Option) -> str:
    if o.default is MISSING:
        return f"{o.help} (required)"
    if o.default in (None, "", ()):
        return o.help
    return f"{o.help} (default: {_show(o.default)})"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(str(v) for v in value)
    if isinstance(value, float):
        return re.sub(r"e-0*", "e-", f"{value:g}")
    return "none" if value in (None, "") else str(value)
