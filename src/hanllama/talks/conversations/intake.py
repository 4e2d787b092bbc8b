"""What every reader of records in layouts does: find the layout, count, keep what does not fit.

The layout of a file is found from its records, each by itself: the one that fitted the last record
is asked first, so a file of one layout costs one question a record, and a file in which layouts
are mixed is read as well. Layouts are told apart by their fields alone, and no two fit the same
record.
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
from hanllama.talks.conversations.form import Message, Record, Unusable

T = TypeVar("T")
Labels = dict[str, str]
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_IN_MEMORY_BYTES = 16 * 2**20
_LABELS = ("id", "source", "category")
_SHOWN_FIELDS = 8


class LayoutReader:
    """Records of any layout of a folder, from files, folders, globs or `-`.

    Args:
        inputs: what to read.
        layout: a layout by name, or a `.py` file of one's own, where it is not to be found out.
        fill: what stands for `{{name}}` in the messages, by name.

    Attributes:
        quarantine: counts what cannot be used, by reason.
        layouts: file -> layout -> records of it.
        usable: records that were used.
        notes: what was changed or is worth knowing, in words -> how often.

    All of them are of the last reading: to iterate again begins again. Raises InputError when an
    input is missing, ConfigError for a layout that does not exist.
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
        """What `use` makes of each record; the record it refuses goes to the quarantine."""
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
        if not isinstance(record, Mapping):
            raise Unusable("not a JSON object")
        for name in [last, *self._layouts] if last else self._layouts:
            if self._layouts[name].fits(record):
                return name
        fields = ", ".join(sorted(str(name)[:40] for name in record)[:_SHOWN_FIELDS]) or "none"
        wanted = next(iter(self._layouts)) if len(self._layouts) == 1 else ""
        asked = f"layout {wanted}" if wanted else f"no layout of {self.NOUN}s"
        raise Unusable(f"{asked} {'does not fit' if wanted else 'fits'} the fields {fields}")

    def _put(self, reject: Reject) -> None:
        self.quarantine.put(reject)
        self._kept.write(records.reject_line(reject))

    def filled_text(self, text: str) -> str:
        """The text with `{{name}}` filled in; names that nobody gave are noted."""

        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if name in self._fill:
                self._filled.add(name)
                return self._fill[name]
            self.notes[f"placeholder {match[0]} not filled"] += 1
            return match[0]

        return _PLACEHOLDER.sub(replaced, text) if "{{" in text else text

    # --- what became of it ---

    @property
    def size(self) -> int:
        """Bytes on disk of all inputs; 0 for standard input."""
        return self._rows.size

    @property
    def done(self) -> int:
        """Bytes of them that were read so far."""
        return self._rows.done

    @property
    def ignored(self) -> list[str]:
        """Texts that lie beside the records in the given folders."""
        return self._rows.ignored

    def check(self, max_quarantine_share: float) -> None:
        """Raise InputError when nothing could be used, or too much could not."""
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
        """The counts in lines to show: each file with its layouts, then what was put aside."""
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


def parse_fill(given: Sequence[str]) -> dict[str, str]:
    """`("name=小汉", "author=某人")` -> what `fill` takes; ConfigError for another form."""
    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"fill {entry!r} is not of the form name=value")
        found[name] = value
    return found


def _labels(row: Row, layout: ModuleType) -> Labels:
    """`id`, `source`, `category` of a record; in some layouts such a field is something else."""
    labels = {"id": f"{row.place}:{row.line}", "source": row.place, "category": ""}
    for name in getattr(layout, "LABELS", _LABELS):
        value = row.value.get(name)
        if isinstance(value, str | int) and str(value).strip() and _is_unicode(str(value)):
            labels[name] = str(value)
    return labels


def check_unicode(messages: Sequence[Message]) -> None:
    """Unusable when a text holds half a surrogate pair, which no encoding can write."""
    for message in messages:
        if isinstance(message["content"], str) and not _is_unicode(message["content"]):
            raise Unusable("a text that holds half a surrogate pair")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
