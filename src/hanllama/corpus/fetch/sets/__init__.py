"""Named public data sets: one file each; a set's name is its file name with `-` for `_`.

A set file holds `SET = DataSet(...)`: where the set lies, which of its files are data, how its
records become ours (`layout`), its licence as its page states it, and what is worth knowing. A
layout is any function from a published record to a line of ours, so a set with a form of its own
brings its own function (`baike.py`). A file of your own works as well: give its path, ending in
`.py`, where the name would stand.

What became of a record is one of
- `{"text": ...}`, with `category` where the record has one: pretraining text;
- `{"messages": [{"role": ..., "content": ...}, ...]}`: a conversation;
- `{"prompt": [messages], "chosen": [messages], "rejected": [messages]}`: a preference (TRL's form).

Evaluation sets have no layout: their files are kept as published, which is how evaluation reads
them, and no training stage takes them by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hanllama.base import plugins
from hanllama.base.errors import ConfigError

PACKAGE = "hanllama.corpus.fetch.sets"

Layout = Callable[[Mapping[str, Any]], dict[str, Any]]


class Misfit(Exception):
    """A record that is not of the published form; its text says what is missing."""


@dataclass(frozen=True)
class DataSet:
    """What is known of a public data set.

    Attributes:
        repo: its name on Hugging Face; empty where it is only on ModelScope.
        modelscope: its name on ModelScope; empty where none is known.
        files: globs of the data files, as in `fnmatch` over the path inside the repository.
        layout: a published record -> our line; None keeps the files as they are.
        stage: what it is for.
        licence: as its page states it; "none stated" where it states none.
        size: of the files to download, in words.
        languages: ISO codes.
        zh, en: what it is, in one line each.
        verified: what was checked of all this, and against what.
        notes: gates, traps, what to do with it.
        modelscope_files: the globs there, where they differ.
    """

    repo: str
    files: tuple[str, ...]
    layout: Layout | None
    stage: Literal["pretrain", "sft", "preference", "eval"]
    licence: str
    size: str
    languages: tuple[str, ...]
    zh: str
    en: str
    verified: str
    notes: str = ""
    modelscope: str = ""
    modelscope_files: tuple[str, ...] = ()


def names() -> list[str]:
    """The names of the sets that come with hanllama, sorted."""
    return [name.replace("_", "-") for name in plugins.names(PACKAGE)]


def load(name: str) -> DataSet:
    """The set called `name`, or the one in the file at `name` when it ends in `.py`.

    Raises ConfigError that names the nearest when there is none.
    """
    if name.endswith(".py"):
        module = plugins.load(PACKAGE, name)
    elif name in names():
        module = plugins.load(PACKAGE, name.replace("-", "_"))
    else:
        raise ConfigError(f"data set {name!r} is not known{plugins.nearest(name, names())}")
    found = getattr(module, "SET", None)
    if not isinstance(found, DataSet):
        raise ConfigError(f"{name} holds no `SET = DataSet(...)`")
    return found
