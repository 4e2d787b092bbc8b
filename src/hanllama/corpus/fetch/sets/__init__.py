"""Named public data sets: one file each; a set's name is its file name with `-` for `_`.

A set file holds `SET = DataSet(...)`: where the set lies, which of its files are data, how its
records become ours (`layout`), its licence as its page states it, and what is worth knowing. A
layout is the name of one in `talks` or any function from a published record to a line of ours, so a
set with a form of its own brings its own function (`baike.py`). A file of your own works as well:
give its path, ending in `.py`, where the name would stand.

What became of a record is one of
- `{"text": ...}`, with `category` where the record has one: pretraining text;
- `{"messages": [{"role": ..., "content": ...}, ...]}`: a conversation;
- `{"prompt": [messages], "chosen": [messages], "rejected": [messages]}`: a preference (TRL's form).

Evaluation sets have no layout: their files are kept as published, which is how evaluation reads
them, and no training stage takes them by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hanllama.base import plugins
from hanllama.base.errors import ConfigError
from hanllama.talks.conversations import form
from hanllama.talks.conversations.form import Conversation, Record, Unusable
from hanllama.talks.conversations.reader import fitting, problem
from hanllama.talks.preferences.form import refusal

PACKAGE = "hanllama.corpus.fetch.sets"

Layout = Callable[[Record], dict[str, Any]]


@dataclass(frozen=True)
class Text:
    """The layout of pretraining text: one field is the text.

    Attributes:
        headings: fields that stand on lines of their own before it, where they are not empty.
        category: the field to keep as the document's category.
    """

    field: str
    headings: tuple[str, ...] = ()
    category: str = ""

    def __call__(self, record: Record) -> dict[str, Any]:
        heads = [str(record[name]).strip() for name in self.headings if record.get(name)]
        line = {"text": "\n".join([*filter(None, heads), text(record, self.field)])}
        if self.category and record.get(self.category):
            line["category"] = str(record[self.category])
        return line


def text(record: Record, field: str) -> str:
    """The text in a field; Unusable when it is missing, empty or no text."""
    value = form.text(record, field)
    if not value.strip():
        raise Unusable(f"field {field!r} is missing or empty")
    return value


@dataclass(frozen=True)
class DataSet:
    """What is known of a public data set.

    Attributes:
        repo: its name on Hugging Face; empty where it is only on ModelScope.
        modelscope: its name on ModelScope; empty where none is known.
        files: globs of the data files, as in `fnmatch` over the path inside the repository.
        layout: a published record -> our line, or the name of a layout of conversations or
            preferences; None keeps the files as they are.
        stage: what it is for.
        licence: as its page states it; "none stated" where it states none.
        size: of the files to download, in words.
        languages: ISO codes.
        zh, en: what it is, in one line each.
        verified: what was checked of all this, and against what.
        notes: gates, traps, what to do with it.
        modelscope_files: the globs there, where they differ.
        fields: what a named layout calls a field -> what the set calls it; all others are left out.
    """

    repo: str
    files: tuple[str, ...]
    layout: Layout | str | None
    stage: Literal["pretrain", "sft", "preference", "eval"]
    licence: str
    size: str
    zh: str
    en: str
    verified: str
    notes: str = ""
    modelscope: str = ""
    modelscope_files: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("zh",)
    fields: Mapping[str, str] = field(default_factory=dict)

    def line(self, record: Any) -> dict[str, Any]:
        """A published record as our line; Unusable with the reason why it makes none."""
        if not isinstance(self.layout, str):
            assert self.layout is not None
            if not isinstance(record, Mapping):
                raise Unusable("not a JSON object")
            return self.layout(record)
        if self.fields and isinstance(record, Mapping):
            record = {n: record[theirs] for n, theirs in self.fields.items() if theirs in record}
        noun = "preference" if self.stage == "preference" else "conversation"
        layout = plugins.load(f"hanllama.talks.{noun}s.layouts", self.layout)
        fitting({self.layout: layout}, record, noun)
        if noun == "preference":
            pair = layout.preference(record)
            reason = refusal(pair)
        else:
            pair = Conversation(layout.messages(record))
            reason = problem(pair.messages)
        if reason:
            raise Unusable(reason)
        line: dict[str, Any] = pair.record()
        return line


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
