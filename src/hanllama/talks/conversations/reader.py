"""Conversations of any layout -> one stream of `Conversation`.

    reader = ConversationReader(["sft/", "more.jsonl.gz"], fill={"name": "小汉"})
    for conversation in reader: ...
    reader.check(0.05); reader.write_quarantine(folder); print(reader.summary())

The layout is found for each record from its fields; no two layouts fit the same record. The layout
of the last record is tried first, so a file of one layout costs one test per record, and a file may
mix layouts.

A conversation that `tokenizer.chat.problem` refuses is quarantined with the reason and never
repaired, with one exception: messages after the last answer teach nothing, so they are left out and
counted.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from hanllama.base import fs, plugins
from hanllama.base.errors import ConfigError, InputError
from hanllama.reading import records
from hanllama.reading.records import Quarantine, Reject
from hanllama.reading.rows import Row, Rows
from hanllama.talks.conversations.form import (
    Conversation,
    Message,
    Record,
    Unusable,
    is_unicode,
    made_from,
)
from hanllama.tokenizer import chat

T = TypeVar("T")
Labels = dict[str, str]
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_IN_MEMORY_BYTES = 16 * 2**20
_LABELS = ("id", "source", "category")
_SHOWN_FIELDS = 8
TAIL = "messages after the last answer left out"


class LayoutReader:
    """Records of any layout of a folder, from files, folders, globs or `-`.

    Args:
        inputs: the files, folders and globs to read.
        layout: a layout by name, or a user's `.py` file; "" finds it for each record.
        fill: name -> the text that replaces `{{name}}` in the messages.

    Attributes:
        quarantine: counts unusable records, by reason.
        layouts: file -> layout -> number of records.
        usable: number of records that were used.
        notes: changes and other notes, in words -> how often.

    Each iteration begins again and counts anew. Raises InputError when an input is missing,
    ConfigError for an unknown layout.
    """

    PACKAGE: ClassVar[str]
    NOUN: ClassVar[str]

    def __init__(
        self, inputs: Sequence[str], *, layout: str = "", fill: Mapping[str, str] | None = None
    ) -> None:
        names = [layout] if layout else plugins.names(self.PACKAGE)
        self._layouts = {name: plugins.load(self.PACKAGE, name) for name in names}
        self._inputs = [str(name) for name in inputs]
        self._rows = Rows(self._inputs)
        self._fill = dict(fill or {})
        self._begin()

    def _begin(self) -> None:
        self.quarantine = Quarantine()
        self.layouts: dict[str, Counter[str]] = {}
        self.usable = 0
        self.notes: Counter[str] = Counter()
        self._filled: set[str] = set()
        self._kept = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 (lives on)

    # --- reading ---

    def _read(self, use: Callable[[ModuleType, Record, Labels], Iterable[T]]) -> Iterator[T]:
        """Yield the results of `use` for each record; a refused record goes to the quarantine."""
        self._begin()
        last = ""
        for row in self._rows:
            if isinstance(row, Reject):
                self._put(row)
                continue
            try:
                last = self._layout_of(row.value, last)
                layout = self._layouts[last]
                made = list(use(layout, row.value, _labels(row, layout)))
            except Unusable as reason:
                self._put(row.reject(str(reason)))
                continue
            self.layouts.setdefault(row.file, Counter())[last] += 1
            self.usable += 1
            yield from made
        for name in sorted(self._fill.keys() - self._filled):
            self.notes[f"fill {name}=…: {{{{{name}}}}} occurs nowhere"] += 1

    def _layout_of(self, record: Any, last: str) -> str:
        return fitting(self._layouts, record, self.NOUN, last)

    def _put(self, reject: Reject) -> None:
        self.quarantine.put(reject)
        self._kept.write(records.reject_line(reject))

    def filled_text(self, text: str) -> str:
        """The text with `{{name}}` filled in; names without a value are noted."""

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if name in self._fill:
                self._filled.add(name)
                return self._fill[name]
            self.notes[f"placeholder {match[0]} not filled"] += 1
            return match[0]

        return _PLACEHOLDER.sub(replaced, text) if "{{" in text else text

    # --- counts and reports ---

    @property
    def size(self) -> int:
        """Bytes on disk of all inputs; 0 for standard input."""
        return self._rows.size

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self._rows.done

    @property
    def ignored(self) -> list[str]:
        """Other text files in the given folders, which are not read."""
        return self._rows.ignored

    def check(self, max_quarantine_share: float) -> None:
        """Raise InputError when no record is usable, or too many are not."""
        where, bad = ", ".join(self._inputs), self.quarantine.count
        if not self.usable:
            raise InputError(
                f"{where}: no {self.NOUN} that can be used ({self.quarantine.summary()}); the"
                f" layouts are {', '.join(self._layouts)}"
            )
        total = self.usable + bad
        if bad > max_quarantine_share * total:
            raise InputError(
                f"{where}: {bad:,} of {total:,} records cannot be used"
                f" ({self.quarantine.summary()}), more than the share of"
                f" {max_quarantine_share:g} allowed: repair the input or raise"
                " --max-quarantine-share"
            )

    def write_quarantine(self, folder: Path) -> Path | None:
        """Write `quarantine.jsonl` (file, line, reason, the record's beginning) if there is any."""
        if not self.quarantine.count:
            return None
        path = folder / "quarantine.jsonl"
        with fs.storage(path), open(path, "wb") as out:
            self._kept.seek(0)
            shutil.copyfileobj(self._kept, out)
        self._kept.seek(0, 2)
        return path

    def facts(self) -> dict[str, Any]:
        """The counts for a manifest or report."""
        return {
            "used": self.usable,
            "quarantined": self.quarantine.count,
            "reasons": dict(self.quarantine.reasons.most_common()),
            "layouts": {file: dict(found) for file, found in self.layouts.items()},
            "notes": dict(self.notes.most_common()),
            "ignored": self.ignored,
        }

    def summary(self) -> str:
        """The counts in lines to print: each file with its layouts, then the quarantine."""
        lines = []
        for file, found in self.layouts.items():
            shown = ", ".join(f"{n:,} {name}" for name, n in found.most_common())
            lines.append(f"{file}: {shown}")
        lines.append(f"{self.usable:,} {self.NOUN}s, {self.quarantine.count:,} quarantined")
        for reason, n in self.quarantine.reasons.most_common():
            lines.append(f"  {n:,} x {reason}")
        lines += [f"  note: {n:,} x {note}" for note, n in self.notes.most_common()]
        lines += [f"  ignored: {name}" for name in self.ignored]
        return "\n".join(lines)


class ConversationReader(LayoutReader):
    """The conversations of files; for arguments and counts see `LayoutReader`."""

    PACKAGE = "hanllama.talks.conversations.layouts"
    NOUN = "conversation"

    def __iter__(self) -> Iterator[Conversation]:
        return self._read(self._conversations)

    def _conversations(
        self, layout: ModuleType, record: Record, labels: Labels
    ) -> Iterator[Conversation]:
        messages = layout.messages(record)
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        whole = messages[: answers[-1] + 1] if answers else messages
        if reason := problem(whole):
            raise Unusable(reason)
        if len(whole) < len(messages):
            self.notes[TAIL] += 1
        whole = [{**message, "content": self.filled_text(message["content"])} for message in whole]
        yield Conversation(whole, **labels, made_from=made_from(record))


def problem(messages: list[Message]) -> str | None:
    """Why a conversation cannot be trained on; None if it can."""
    if not all(is_unicode(m["content"]) for m in messages if isinstance(m["content"], str)):
        return "a text that holds half a surrogate pair"
    if reason := chat.problem(messages):
        return reason
    if not isinstance(messages[0]["content"], str):
        return "the system's content is not text"
    if not any(message["role"] == "assistant" for message in messages):
        return "no answer of the assistant"
    return None


def fitting(layouts: Mapping[str, ModuleType], record: Any, noun: str, last: str = "") -> str:
    """The name of the layout that fits a record, `last` tried first; Unusable if none does."""
    if not isinstance(record, Mapping):
        raise Unusable("not a JSON object")
    for name in [last, *layouts] if last else layouts:
        if layouts[name].fits(record):
            return name
    fields = ", ".join(sorted(str(name)[:40] for name in record)[:_SHOWN_FIELDS]) or "none"
    if len(layouts) == 1:
        raise Unusable(f"layout {next(iter(layouts))} does not fit the fields {fields}")
    raise Unusable(f"no layout of {noun}s fits the fields {fields}")


def parse_fill(given: Sequence[str]) -> dict[str, str]:
    """`("name=小汉", "author=某人")` -> a dict for `fill`; ConfigError for another form."""
    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"fill {entry!r} is not of the form name=value")
        found[name] = value
    return found


def _labels(row: Row, layout: ModuleType) -> Labels:
    """`id`, `source`, `category` of a record, as far as the layout has them as labels."""
    labels = {"id": f"{row.place}:{row.line}", "source": row.place, "category": ""}
    for name in getattr(layout, "LABELS", _LABELS):
        value = row.value.get(name)
        if isinstance(value, str | int) and str(value).strip() and is_unicode(str(value)):
            labels[name] = str(value)
    return labels
