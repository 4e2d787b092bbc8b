"""Named public data sets: one file each; a set's name is its file name with `-` for `_`.

A set file holds `SET = DataSet(...)`: the repository, its data files, the conversion of its records
(`layout`), the licence stated on its page, and notes. A layout is the name of one in `talks`, or a
function from a published record to a line of ours (as in `baike.py`). A file of your own also
works: give its path, ending in `.py`, in place of the name.

A record becomes one of
- `{"text": ...}`, with `category` if the record has one: pretraining text;
- `{"messages": [{"role": ..., "content": ...}, ...]}`: a conversation;
- `{"prompt": [messages], "chosen": [messages], "rejected": [messages]}`: a preference (TRL's form).

Evaluation sets have no layout. Evaluation reads their files as published, and no training stage
takes them by accident.
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
        headings: fields that go on separate lines before the text, unless they are empty.
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
    """The text of a field; Unusable when it is missing, empty or not text."""
    value = form.text(record, field)
    if not value.strip():
        raise Unusable(f"field {field!r} is missing or empty")
    return value


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes:
        repo: its name on Hugging Face; empty for a set on ModelScope only.
        modelscope: its name on ModelScope; empty when none is known.
        files: globs of the data files, as in `fnmatch` over the path inside the repository.
        layout: a function from a published record to our line, or the name of a layout of
            conversations or preferences; None keeps the files as they are.
        stage: its use.
        licence: as its page states it, or "none stated".
        size: of the files to download, in words.
        languages: ISO codes.
        zh, en: its description in one line.
        verified: where these facts come from; nothing was downloaded to check them.
        notes: gates, traps, advice.
        modelscope_files: the globs on ModelScope, if they differ.
        fields: a named layout's field -> the set's field; other fields are left out.
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
        """A published record as our line; Unusable, with the reason, when it has none."""
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

    Raises ConfigError, with the nearest name, when there is none.
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
