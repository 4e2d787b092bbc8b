"""The report card of made tasks: what was kept and why not, and how different the kept ones are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hanllama.base import report
from hanllama.text.similarity import symbols_of

SHOWN = 30
SAMPLES = 12


def distinct(texts: Sequence[str], n: int) -> float:
    """The share of different n-grams of characters among all (distinct-n, Li et al. 2016)."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        symbols = symbols_of(text)
        grams.update(tuple(symbols[i : i + n]) for i in range(len(symbols) - n + 1))
    return len(grams) / grams.total() if grams else 0.0


def write_report(
    path: Path,
    *,
    teacher: str,
    instructions: Sequence[str],
    answers: Sequence[str],
    with_input: int,
    similarity: Sequence[float],
    sizes: Sequence[int],
    reasons: Mapping[str, int],
    remarks: Sequence[str],
) -> None:
    """Write `report.html`.

    Args:
        similarity: of each kept task, ROUGE-L to the nearest before it.
        sizes: tasks kept after each request.
        reasons: dropped, by reason.
    """
    beginnings = Counter("".join(symbols_of(text)[:2]) for text in instructions)
    step = max(len(instructions) // SAMPLES, 1)
    facts = {
        "kept": len(instructions),
        "dropped": sum(reasons.values()),
        "with an input": with_input,
        "distinct-2 of instructions": distinct(instructions, 2),
        "different beginnings (2 characters)": len(beginnings),
    }
    samples = [
        report.text(f"{instruction}\n\n{answer}")
        for instruction, answer in list(zip(instructions, answers, strict=True))[::step][:SAMPLES]
    ]
    requests = list(range(1, len(sizes) + 1))
    sections = [
        report.Section("Tasks", [report.facts(facts), *remarks]),
        report.Section(
            "Dropped",
            [report.table(sorted(reasons.items(), key=lambda r: -r[1]), headings=("reason", "n"))],
        ),
        report.Section(
            "Diversity",
            [
                report.histogram(
                    similarity, title="ROUGE-L to the nearest task before", x="ROUGE-L"
                ),
                report.table(
                    beginnings.most_common(SHOWN),
                    headings=("beginning", "tasks"),
                    title="the most frequent beginnings",
                ),
                report.chart(
                    {"kept": (requests, sizes)}, title="tasks kept", x="request", y="tasks"
                ),
            ],
        ),
        report.Section(
            "Lengths",
            [
                report.histogram(
                    [len(t) for t in instructions], title="instructions", x="characters"
                ),
                report.histogram([len(t) for t in answers], title="answers", x="characters"),
            ],
        ),
        report.Section("Samples", samples),
    ]
    report.write(path, "Self-instruct", sections, f"tasks written by {teacher}")
