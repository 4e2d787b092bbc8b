"""What cleaning took away and why: counts per rule, the table and the report made of them.

Counts are sums, so the pieces of a corpus may be counted in any process and added in order; the
report holds nothing of the machine, the time or the number of workers, since the same corpus must
give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanllama import fs, report

MAX_EXAMPLES = 3  # dropped documents shown for each reason
MAX_LISTED = 1000  # duplicates listed; all are counted


@dataclass
class Tally:
    """What went through one rule."""

    documents_in: int = 0
    documents_out: int = 0
    characters_in: int = 0
    characters_out: int = 0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def kept(self, before: str, after: str) -> None:
        """A document left the rule, perhaps changed."""
        self.documents_in += 1
        self.documents_out += 1
        self.characters_in += len(before)
        self.characters_out += len(after)
        self.changed += before != after

    def dropped_for(self, reason: str, identity: str, text: str) -> None:
        """A document ended here."""
        self.documents_in += 1
        self.characters_in += len(text)
        self.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append({"id": identity, "beginning": text[:80]})

    def add(self, other: Tally) -> None:
        """The counts of a later piece."""
        self.documents_in += other.documents_in
        self.documents_out += other.documents_out
        self.characters_in += other.characters_in
        self.characters_out += other.characters_out
        self.changed += other.changed
        self.dropped += other.dropped
        for reason, examples in other.examples.items():
            shown = self.examples.setdefault(reason, [])
            shown += examples[: MAX_EXAMPLES - len(shown)]

    def as_dict(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "documents_in": self.documents_in,
            "documents_out": self.documents_out,
            "characters_in": self.characters_in,
            "characters_out": self.characters_out,
            "changed": self.changed,
            "dropped": dict(sorted(self.dropped.items())),
            "examples": self.examples,
        }


@dataclass
class FileTally:
    """What one file gave."""

    encoding: str = ""
    documents: int = 0
    characters: int = 0
    quarantined: int = 0


@dataclass
class Funnel:
    """Everything a cleaning counted."""

    rules: list[tuple[str, dict[str, Any], Tally]]  # name, parameters, counts
    files: dict[str, FileTally] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    quarantine: Counter[str] = field(default_factory=Counter)
    duplicates: Tally | None = field(default_factory=Tally)  # None: not looked for
    listed: list[dict[str, str]] = field(default_factory=list)
    parts: int = 0
    bytes_out: int = 0

    @property
    def read(self) -> tuple[int, int]:
        """(documents, characters) as read."""
        files = self.files.values()
        return sum(f.documents for f in files), sum(f.characters for f in files)

    @property
    def kept(self) -> tuple[int, int]:
        """(documents, characters) that were written."""
        stages = self._stages()
        return (stages[-1][1].documents_out, stages[-1][1].characters_out) if stages else self.read

    @property
    def encodings(self) -> Counter[str]:
        """How many files were in which encoding."""
        return Counter(f.encoding or "none" for f in self.files.values())

    def rows(self) -> list[tuple[str, int, int, str, int, str]]:
        """(stage, documents, characters, share of characters, changed, drops), from the top."""
        documents, characters = self.read
        rows = [("read", documents, characters, "100 %" if characters else "-", 0, "")]
        for name, tally in self._stages():
            drops = ", ".join(f"{n} x {reason}" for reason, n in tally.dropped.most_common())
            share = f"{100 * tally.characters_out / characters:.2f} %" if characters else "-"
            rows.append(
                (name, tally.documents_out, tally.characters_out, share, tally.changed, drops)
            )
        return rows

    def _stages(self) -> list[tuple[str, Tally]]:
        stages = [(name, tally) for name, _, tally in self.rules]
        if self.duplicates is not None:
            stages.append(("exact duplicates", self.duplicates))
        return stages

    def as_dict(self) -> dict[str, Any]:
        """The content of report.json."""
        read, kept = self.read, self.kept
        return {
            "read": {"files": len(self.files), "documents": read[0], "characters": read[1]},
            "rules": [
                {"rule": name, "parameters": parameters, **tally.as_dict()}
                for name, parameters, tally in self.rules
            ],
            "duplicates": None
            if self.duplicates is None
            else {
                "documents": self.duplicates.dropped.total(),
                "characters": self.duplicates.characters_in - self.duplicates.characters_out,
                "first": self.listed,
            },
            "kept": {
                "documents": kept[0],
                "characters": kept[1],
                "bytes": self.bytes_out,
                "parts": self.parts,
            },
            "quarantined": dict(sorted(self.quarantine.items())),
            "encodings": dict(sorted(self.encodings.items())),
            "files": {
                name: {
                    "encoding": file.encoding,
                    "documents": file.documents,
                    "characters": file.characters,
                    "quarantined": file.quarantined,
                }
                for name, file in self.files.items()
            },
            "ignored_files": self.ignored,
        }

    def write(self, folder: Path) -> None:
        """Write `report.json` and `report.html`."""
        fs.write_json(folder / "report.json", self.as_dict())
        report.write(folder / "report.html", "Cleaning", self._sections())

    def _sections(self) -> list[report.Section]:
        read, kept = self.read, self.kept
        facts = {
            "files": len(self.files),
            "documents read": read[0],
            "documents kept": kept[0],
            "characters read": read[1],
            "characters kept": kept[1],
            "records in quarantine": self.quarantine.total(),
            "files of other kinds, not read": len(self.ignored),
        }
        sections = [
            report.Section("Result", [report.facts(facts)]),
            report.Section(
                "Funnel",
                [
                    report.table(
                        self.rows(),
                        headings=[
                            "stage",
                            "documents",
                            "characters",
                            "of what was read",
                            "documents changed",
                            "dropped",
                        ],
                    )
                ],
            ),
            report.Section(
                "Encodings",
                [
                    report.table(self.encodings.most_common(), headings=["encoding", "files"]),
                    report.table(
                        [
                            (name, f.encoding or "none", f.documents, f.characters, f.quarantined)
                            for name, f in list(self.files.items())[:MAX_LISTED]
                        ],
                        headings=["file", "encoding", "documents", "characters", "quarantined"],
                    ),
                ],
            ),
        ]
        if self.quarantine:
            rows = self.quarantine.most_common()
            blocks = [report.table(rows, headings=["reason", "records"])]
            sections.append(report.Section("Quarantine", blocks))
        if self.listed:
            rows_ = [(entry["id"], entry["copy_of"]) for entry in self.listed]
            title = f"the first {len(rows_):,}" if len(rows_) == MAX_LISTED else ""
            blocks = [report.table(rows_, headings=["removed", "kept copy"], title=title)]
            sections.append(report.Section("Exact duplicates", blocks))
        drops = [
            (name, reason, example["id"], example["beginning"])
            for name, _, tally in self.rules
            for reason, examples in tally.examples.items()
            for example in examples
        ]
        if drops:
            headings = ["rule", "reason", "document", "its beginning"]
            blocks = [report.table(drops, headings=headings)]
            sections.append(report.Section("Dropped documents, examples", blocks))
        return sections

    def print(self) -> None:
        """The funnel and the encodings, as tables on stdout."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console()
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("stage")
        for name in ("documents", "characters", "share", "changed"):
            table.add_column(name, justify="right")
        table.add_column("dropped")
        for stage, documents, characters, share, changed, drops in self.rows():
            changes = f"{changed:,}" if changed else ""
            # Text, since a name from data may look like rich's markup.
            table.add_row(
                Text(stage), f"{documents:,}", f"{characters:,}", share, changes, Text(drops)
            )
        console.print(table)
        found = ", ".join(f"{name} {n:,}" for name, n in self.encodings.most_common())
        console.print(Text(f"encodings: {found}"))
        if self.quarantine:
            reasons = ", ".join(f"{n:,} x {reason}" for reason, n in self.quarantine.most_common(5))
            console.print(Text(f"quarantined: {reasons}"))
        if self.ignored:
            kinds = Counter(Path(name).suffix or Path(name).name for name in self.ignored)
            found = ", ".join(f"{n:,} x {kind}" for kind, n in kinds.most_common(5))
            console.print(Text(f"not read, no known kind of text: {found}"))
