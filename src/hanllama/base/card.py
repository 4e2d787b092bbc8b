"""A report card: a command states its findings once, for the terminal and the report page.

Facts, tables, counts and notes go to the terminal and the page; pictures and samples (`report.py`)
only to the page; `say` only to the terminal. Everything from data is escaped in both places. JSON
is written beside the page, since its keys are a format that others read.

    card = Card("Cleaning")
    card.section("Funnel")
    card.table(rows, ["stage", "documents"])
    card.section("Lengths", report.histogram(lengths, title="documents", x="characters"))
    card.write(folder, values)      # report.json and report.html
    card.print()
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hanllama.base import fs, report
from hanllama.base.pager import visible
from hanllama.base.report import Level, is_numeric, number, share

COUNTED = 5  # names of a count that the terminal shows; the page lists all


class Card:
    """The findings of a command, in the order shown.

    Attributes:
        title, subtitle: of the page.
        sections: (heading, blocks) of the page; a section without blocks is left out.
        lines: of the terminal.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self.sections: list[tuple[str, list[Markup | str]]] = []
        self.lines: list[str] = []

    def section(self, title: str, *blocks: Markup | str) -> None:
        """Begin a section of the page with `blocks`; later additions go into it."""
        self.sections.append((title, []))
        self.add(*blocks)

    def add(self, *blocks: Markup | str) -> None:
        """Add pictures, samples or long tables to the page only; plain text is escaped."""
        if not self.sections:
            self.sections.append((self.title, []))
        self.sections[-1][1].extend(block for block in blocks if block)

    def say(self, *lines: str) -> None:
        """Add lines to the terminal only."""
        self.lines += [visible(line) for line in lines]

    def facts(self, values: Mapping[str, Any]) -> None:
        """Add the main numbers, by name."""
        self.add(report.facts(values))
        self.lines += aligned(list(values.items()))

    def note(self, text: str, level: Level = "info") -> None:
        """Add a verdict or remark of one sentence."""
        self.add(report.note(text, level))
        self.say(text)

    def table(
        self, rows: Iterable[Sequence[Any]], headings: Sequence[str], title: str = ""
    ) -> None:
        """Add rows under headings; nothing if there are no rows."""
        kept = list(rows)
        self.add(report.table(kept, headings=headings, title=title))
        if kept:
            self.say(*([f"\n{title}"] if title else []))
            self.lines += aligned(kept, headings)

    def counts(self, name: str, counts: Mapping[str, int], unit: str) -> None:
        """Add counts by name, the largest first; nothing if there are none."""
        total = sum(counts.values())
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        rows = [(label, n, share(n, total)) for label, n in ordered]
        self.add(report.table(rows, headings=(name, unit, "share")))
        if rows:
            # A name may hold a comma ("Han, both").
            shown = [f"{n:,} x {label} ({part})" for label, n, part in rows[:COUNTED]]
            more = [f"{len(rows) - COUNTED} more"] if len(rows) > COUNTED else []
            self.say(f"{name}: {'; '.join(shown + more)}")

    def print(self) -> None:
        print("\n".join(self.lines))

    def write(self, folder: Path, values: object = None, name: str = "report.json") -> None:
        """Write `report.html` and the `values`, if any, as JSON, each in one step."""
        if values is not None:
            fs.write_json(folder / name, values)
        fs.write_text(folder / "report.html", self.page())

    def page(self) -> str:
        """One self-contained HTML file: no external resource, everything from data escaped."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("hanllama.base", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        template = environment.get_template("report.html.jinja")
        sections = [(title, blocks) for title, blocks in self.sections if blocks]
        return template.render(title=self.title, subtitle=self.subtitle, sections=sections)


def aligned(rows: Sequence[Sequence[Any]], headings: Sequence[str] = ()) -> list[str]:
    """Rows as lines for a terminal: columns as wide as their widest cell, numbers at the right.

    A Chinese character is two columns wide.
    """
    cells = [[" ".join(visible(number(v)).split("\n")) for v in row] for row in rows]
    if headings:
        cells.insert(0, list(headings))
    columns = list(zip(*cells, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    right = [is_numeric(column[bool(headings) :]) for column in columns]
    lines = []
    for row in cells:
        padding = [" " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True)]
        lines.append(
            "  ".join(
                pad + cell if is_right else cell + pad
                for cell, pad, is_right in zip(row, padding, right, strict=True)
            ).rstrip()
        )
    return lines


def _width(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
