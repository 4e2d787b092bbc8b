"""The report card of a cleaning: the funnel as a table on the terminal, all of it as a page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from markupsafe import Markup

from hanllama.base import fs, report
from hanllama.base.report import Section
from hanllama.corpus.funnel import MAX_LISTED, Funnel, Lengths, Tally, bin_edges
from hanllama.reading import records
from hanllama.text.scripts import SCRIPTS

HEADINGS = ("stage", "documents", "characters", "of what was read", "documents changed", "dropped")


def write(funnel: Funnel, folder: Path) -> None:
    """Write `report.json` and `report.html` into the corpus folder."""
    fs.write_json(folder / "report.json", funnel.as_dict())
    report.write(folder / "report.html", "Cleaning", _sections(funnel))


def show(funnel: Funnel) -> None:
    """The funnel, the encodings and the languages, as tables on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for name in ("documents", "characters", "share", "changed"):
        table.add_column(name, justify="right")
    table.add_column("dropped")
    for stage, documents, characters, share, changed, drops in _rows(funnel):
        changes = f"{changed:,}" if changed else ""
        # Text, since a name from data may look like rich's markup.
        table.add_row(Text(stage), f"{documents:,}", f"{characters:,}", share, changes, Text(drops))
    console.print(table)
    kept = funnel.kept.scripts
    lines = {
        "encodings": _listed(funnel.encodings),
        "languages": _listed(kept.languages),
        "scripts": ", ".join(f"{name} {share}" for name, _, share in _script_rows(funnel)[:5]),
    }
    kinds = Counter(Path(name).suffix or Path(name).name for name in funnel.ignored)
    for name, counts in (("quarantined", funnel.quarantine), ("not read", kinds)):
        if counts:
            lines[name] = records.counted(counts)
    for name, line in lines.items():
        console.print(Text(f"{name}: {line}"))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.most_common())


def _rows(funnel: Funnel) -> list[tuple[str, int, int, str, int, str]]:
    """(stage, documents, characters, share of characters, changed, drops), from the top."""
    read = funnel.characters
    rows = [("read", funnel.documents, read, "100 %" if read else "-", 0, "")]
    for name, tally in funnel.stages():
        drops = ", ".join(f"{n:,} x {reason}" for reason, n in tally.dropped.most_common())
        share = _share(tally.characters_out, read)
        rows.append((name, tally.documents_out, tally.characters_out, share, tally.changed, drops))
    return rows


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


# --- the page ------------------------------------------------------------------------------------


def _sections(funnel: Funnel) -> list[Section]:
    kept = funnel.kept
    facts = {
        "files": funnel.n_files,
        "documents read": funnel.documents,
        "documents kept": kept.documents,
        "characters read": funnel.characters,
        "characters kept": kept.characters,
        "records in quarantine": funnel.quarantine.total(),
        "files of other kinds and links back to a folder, not read": len(funnel.ignored),
    }
    sections = [
        Section("Result", [report.facts(facts)]),
        Section("Funnel", [report.table(_rows(funnel), headings=HEADINGS)]),
        Section("Lengths", _lengths(funnel)),
        Section("Scripts and languages", _scripts(funnel)),
        Section("Shares", _groups(funnel)),
        Section("Encodings", _files(funnel)),
    ]
    if funnel.quarantine:
        table = report.table(funnel.quarantine.most_common(), headings=["reason", "records"])
        sections.append(Section("Quarantine", [table]))
    if funnel.listed:
        rows = [(entry["id"], entry["copy_of"]) for entry in funnel.listed]
        title = f"the first {len(rows):,}" if len(rows) == MAX_LISTED else ""
        table = report.table(rows, headings=["removed", "kept copy"], title=title)
        sections.append(Section("Exact duplicates", [table]))
    sections += _examples(funnel.rules)
    return sections


def _lengths(funnel: Funnel) -> list[Markup]:
    places = [p for lengths in (funnel.lengths, funnel.kept.lengths) for p in lengths.bins]
    first, last = max(min(places), 0), max(max(places), 0)
    return [
        _length_bars(lengths, first, last, title)
        for lengths, title in (
            (funnel.lengths, "documents as read"),
            (funnel.kept.lengths, "documents kept"),
        )
    ]


def _length_bars(lengths: Lengths, first: int, last: int, title: str) -> Markup:
    counts = [lengths.bins[place] for place in range(first, last + 1)]
    empty = lengths.bins[-1]
    return report.bars(
        bin_edges(first, last),
        counts,
        title=title,
        x="characters",
        y="documents",
        log_x=True,
        remark=f"{empty:,} empty" if empty else "",
    )


def _script_rows(funnel: Funnel) -> list[tuple[str, int, str]]:
    counts = funnel.kept.scripts.characters.tolist()
    rows = [(name, n, _share(n, sum(counts))) for name, n in zip(SCRIPTS, counts, strict=True) if n]
    return sorted(rows, key=lambda row: -row[1])


def _scripts(funnel: Funnel) -> list[Markup]:
    languages = funnel.kept.scripts.languages
    documents = [(name, n, _share(n, languages.total())) for name, n in languages.most_common()]
    return [
        report.table(_script_rows(funnel), headings=["script", "characters", "share"]),
        report.table(documents, headings=["language", "documents", "share"]),
    ]


def _groups(funnel: Funnel) -> list[Markup]:
    """By source always; by category and licence where a record states one."""
    blocks = []
    for name, group in funnel.kept.groups.items():
        rows = [
            (
                label or "(not stated)",
                documents,
                characters,
                _share(characters, funnel.kept.characters),
            )
            for label, documents, characters in group.rows()
        ]
        if name == "category" and set(group.counts) <= {""}:
            continue
        blocks.append(report.table(rows, headings=[name, "documents", "characters", "share"]))
    return blocks


def _files(funnel: Funnel) -> list[Markup]:
    rows = [
        (f.name, f.encoding or "none", f.documents, f.characters, f.quarantined)
        for f in funnel.files
    ]
    return [
        report.table(funnel.encodings.most_common(), headings=["encoding", "files"]),
        report.table(
            rows,
            headings=["file", "encoding", "documents", "characters", "quarantined"],
            title=f"the first {len(rows):,} files" if len(rows) < funnel.n_files else "",
        ),
    ]


def _examples(rules: list[tuple[str, dict[str, object], Tally]]) -> list[Section]:
    changes = [
        (name, change["id"], change["before"], change["after"])
        for name, _, tally in rules
        for change in tally.changes
    ]
    drops = [
        (name, reason, example["id"], example["beginning"])
        for name, _, tally in rules
        for reason, examples in tally.examples.items()
        for example in examples
    ]
    sections = []
    if changes:
        headings = ["rule", "document", "before", "after"]
        sections.append(Section("Changes, examples", [report.table(changes, headings=headings)]))
    if drops:
        headings = ["rule", "reason", "document", "its beginning"]
        table = report.table(drops, headings=headings)
        sections.append(Section("Dropped documents, examples", [table]))
    return sections
