"""The report card of a cleaning: the funnel, scripts, encodings, examples of changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from markupsafe import Markup

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.base.report import share
from hanllama.corpus.funnel import MAX_LISTED, Funnel, bin_edges

HEADINGS = ("stage", "documents", "characters", "of what was read", "changed", "dropped")


def card(funnel: Funnel) -> Card:
    """The card of all counts; report.json is `funnel.as_dict()`."""
    kept = funnel.kept
    card = Card("Cleaning")
    facts = {
        "files": funnel.n_files,
        "documents read": funnel.documents,
        "documents kept": kept.documents,
        "characters read": funnel.characters,
        "characters kept": kept.characters,
        "records in quarantine": funnel.quarantine.total(),
        "files of other kinds and links back to a folder, not read": len(funnel.ignored),
    }
    card.section("Result", report.facts(facts))
    card.section("Funnel")
    card.table(_stages(funnel), HEADINGS)
    card.section("Lengths", *_lengths(funnel))
    card.section("Scripts and languages")
    characters = kept.scripts.as_dict()["characters"]
    card.counts("script", {name: n for name, n in characters.items() if n}, "characters")
    card.counts("language", kept.scripts.languages, "documents")
    card.section("Shares", *_groups(funnel))
    card.section("Encodings")
    card.counts("encoding", funnel.encodings, "files")
    card.add(_files(funnel))
    card.section("Not read")
    card.counts("quarantined", funnel.quarantine, "records")
    kinds = Counter(Path(name).suffix or Path(name).name for name in funnel.ignored)
    card.counts("not read", kinds, "files")
    copies = [(entry["id"], entry["copy_of"]) for entry in funnel.listed]
    title = f"the first {len(copies):,}" if len(copies) == MAX_LISTED else ""
    table = report.table(copies, headings=["removed", "kept copy"], title=title)
    card.section("Exact duplicates", table)
    changes = [
        (name, change["id"], change["before"], change["after"])
        for name, _, tally in funnel.rules
        for change in tally.changes
    ]
    table = report.table(changes, headings=["rule", "document", "before", "after"])
    card.section("Changes, examples", table)
    drops = [
        (name, reason, example["id"], example["beginning"])
        for name, _, tally in funnel.rules
        for reason, examples in tally.examples.items()
        for example in examples
    ]
    table = report.table(drops, headings=["rule", "reason", "document", "its beginning"])
    card.section("Dropped documents, examples", table)
    return card


def _stages(funnel: Funnel) -> list[tuple[str, int, int, str, int, str]]:
    """The rows under HEADINGS."""
    read = funnel.characters
    rows = [("read", funnel.documents, read, share(read, read), 0, "")]
    for name, tally in funnel.stages():
        drops = ", ".join(f"{n:,} x {reason}" for reason, n in tally.dropped.most_common())
        left = tally.characters_out
        rows.append((name, tally.documents_out, left, share(left, read), tally.changed, drops))
    return rows


def _lengths(funnel: Funnel) -> list[Markup]:
    both = {"documents as read": funnel.lengths, "documents kept": funnel.kept.lengths}
    places = [place for lengths in both.values() for place in lengths.bins]
    first, last = max(min(places), 0), max(max(places), 0)
    return [
        report.bars(
            bin_edges(first, last),
            [lengths.bins[place] for place in range(first, last + 1)],
            title=title,
            x="characters",
            y="documents",
            log_x=True,
            remark=f"{lengths.bins[-1]:,} empty" if lengths.bins[-1] else "",
        )
        for title, lengths in both.items()
    ]


def _groups(funnel: Funnel) -> list[Markup]:
    """Tables by source and licence, and by category when a record states one."""
    whole = funnel.kept.characters
    return [
        report.table(
            [(label or "(not stated)", n, size, share(size, whole)) for label, n, size in g.rows()],
            headings=[name, "documents", "characters", "share"],
        )
        for name, g in funnel.kept.groups.items()
        if name != "category" or set(g.counts) - {""}
    ]


def _files(funnel: Funnel) -> Markup:
    rows = [
        (f.name, f.encoding or "none", f.documents, f.characters, f.quarantined)
        for f in funnel.files
    ]
    return report.table(
        rows,
        headings=["file", "encoding", "documents", "characters", "quarantined"],
        title=f"the first {len(rows):,} files" if len(rows) < funnel.n_files else "",
    )
