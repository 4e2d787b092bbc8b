"""Where the thresholds of the rules that judge documents come from.

    python benchmarks/rule_thresholds.py CORPUS...

Each CORPUS is a folder or a file of clean text of one kind. For every measure that has a threshold
the 99.9th percentile (of shares that must not be small: the 0.1st) over the documents of each
corpus is printed, and below it the default of the rule. The thresholds of repetition are 1.2 times
the highest percentile of all corpora, rounded up to 0.05; the script computes that as well.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hanllama.corpus.rules import (
    digit_symbol_ratio,
    han_ratio,
    punctuation_ratio,
    repeated_lines,
    repeated_ngrams,
)
from hanllama.corpus.rules._characters import count, word_points
from hanllama.corpus.rules._ngrams import repetition
from hanllama.reading import records

NGRAMS = [f"top_{n}" for n in repeated_ngrams.TOP]
NGRAMS += [f"duplicate_{n}" for n in repeated_ngrams.DUPLICATE]
LINES = ["lines", "line_characters", "paragraphs", "paragraph_characters"]
LOWEST = ["han", "pauses"]  # shares that must not be small
RATIOS = [*LOWEST, "punctuation", "digits and symbols"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+")
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for corpus in options.corpora:
        measures: dict[str, list[float]] = {name: [] for name in [*NGRAMS, *LINES, *RATIOS]}
        for document in records.read([corpus], records.Quarantine()):
            for name, value in measure(document.text):
                measures[name].append(value)
        found[Path(corpus).name.split(".")[0]] = measures
    lines, ngrams = repeated_lines.Rule(), repeated_ngrams.Rule()
    table(found, NGRAMS, {name: getattr(ngrams, name) for name in NGRAMS}, derived=True)
    table(found, LINES, {name: getattr(lines, name) for name in LINES}, derived=True)
    defaults = {
        "han": han_ratio.Rule().minimum,
        "pauses": punctuation_ratio.Rule().minimum,
        "punctuation": punctuation_ratio.Rule().maximum,
        "digits and symbols": digit_symbol_ratio.Rule().maximum,
    }
    table(found, RATIOS, defaults, derived=False)


def measure(text: str) -> Iterator[tuple[str, float]]:
    """Every measure that the rules would take of this document: of long enough ones alone."""
    words = word_points(text)
    if len(words) >= repeated_ngrams.Rule().shortest:
        shares = repetition(words, repeated_ngrams.TOP, repeated_ngrams.DUPLICATE)
        yield from zip(NGRAMS, np.concatenate(shares).tolist(), strict=True)
    for kind, parts in (
        ("line", repeated_lines.filled(text.split("\n"))),
        ("paragraph", repeated_lines.filled(repeated_lines.PARAGRAPH_END.split(text))),
    ):
        if len(parts) >= repeated_lines.Rule().fewest:
            share, characters = repeated_lines.repeated(parts)
            yield f"{kind}s", share
            yield f"{kind}_characters", characters
    kinds = count(text)
    if kinds.total >= han_ratio.Rule().shortest:
        yield "han", kinds.han / kinds.total
        yield "punctuation", kinds.punctuation / kinds.total
        yield "digits and symbols", (kinds.digits + kinds.symbols) / kinds.total
    if kinds.total >= punctuation_ratio.Rule().long:
        yield "pauses", (kinds.punctuation + text.count("\n")) / kinds.total


def table(
    found: dict[str, dict[str, list[float]]],
    names: list[str],
    defaults: dict[str, float],
    derived: bool,
) -> None:
    """One row a corpus, and the rows that follow from them."""
    print("\n| corpus | documents | " + " | ".join(names) + " |")
    print("| --- | --- |" + " --- |" * len(names))
    extremes: dict[str, list[float]] = {name: [] for name in names}
    for corpus, measures in found.items():
        cells = []
        for name in names:
            values = measures[name]
            if not values:
                cells.append("–")
                continue
            at = float(np.percentile(values, 0.1 if name in LOWEST else 99.9))
            extremes[name].append(at)
            cells.append(f"{at:.3f}")
        documents = max(len(measures[name]) for name in names)
        print(f"| {corpus} | {documents:,} | " + " | ".join(cells) + " |")
    if derived:
        limits = [math.ceil(round(max(extremes[n]) * 1.2 / 0.05, 6)) * 0.05 for n in names]
        print("| 1.2 x the highest | | " + " | ".join(f"{limit:.2f}" for limit in limits) + " |")
    print("| the default | | " + " | ".join(f"{defaults[n]:g}" for n in names) + " |")


if __name__ == "__main__":
    main()
