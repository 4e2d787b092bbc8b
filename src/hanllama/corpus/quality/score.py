"""`hanllama quality score`: score a corpus before a rule drops anything by the model.

Prints the distribution and the documents at both ends; `--output` writes a line of JSON for every
document.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.base import fs
from hanllama.base.card import Card
from hanllama.base.errors import InputError
from hanllama.corpus.quality import classifier, corpus, ngram_lm
from hanllama.corpus.quality.commands import SHOWN_PERCENTILES, kind_of, score_line
from hanllama.corpus.quality.folder import Reference
from hanllama.corpus.quality.options import ScoreConfig

EXAMPLE_CHARACTERS = 100
BINS = 12  # of the histogram
BAR_CHARACTERS = 40


@dataclass
class Scores:
    """A score for each document, and the documents at both ends."""

    name: str  # of the score
    values: list[float] = field(default_factory=list)
    characters: int = 0
    ends: tuple[list[tuple[float, str, str]], list[tuple[float, str, str]]] = ([], [])

    def add(self, value: float, identity: str, text: str, examples: int) -> None:
        """Add one document; at each end the first of equal ones are kept."""
        self.values.append(value)
        self.characters += len(text)
        low, high = self.ends
        shown = (identity, " ".join(text[:400].split())[:EXAMPLE_CHARACTERS])
        for held, key in ((low, value), (high, -value)):
            if len(held) < examples or (held and key < held[-1][0]):
                bisect.insort(held, (key, *shown), key=lambda item: item[0])
                del held[examples:]


def score(config: ScoreConfig) -> Scores:
    """The command: print the distribution of scores and examples of both ends.

    Raises InputError when the folder holds no quality model or the input no document.
    """
    name, of_text, reference = _scorer(config.model)
    found = Scores(name)
    with _lines(config.output) as write:
        for document in corpus.documents("score", config.inputs, config.text_field):
            value = of_text(document.text)
            found.add(value, document.id, document.text, config.examples)
            write(
                {
                    "id": document.id,
                    "source": document.source,
                    name: value,
                    "percentile": reference.rank(value),
                    "characters": len(document.text),
                }
            )
    _card(found, reference).print()
    if config.output:
        print(f"{len(found.values):,} scores in {config.output}")
    return found


def _scorer(folder: str) -> tuple[str, Callable[[str], float], Reference]:
    """(name of the score, the function, the reference) of a model folder of either kind."""
    if kind_of(folder) == ngram_lm.KIND:
        model = ngram_lm.load(folder)
        return "perplexity", lambda text: model.score(text).perplexity, model.reference
    other = classifier.load(folder)
    return "quality", other.score, other.reference


@contextlib.contextmanager
def _lines(output: str) -> Iterator[Callable[[dict[str, Any]], object]]:
    """A function that writes entries to a .jsonl file, published when complete; or nowhere."""
    if not output:
        yield lambda entry: None
        return
    path = Path(output)
    if path.suffix != ".jsonl":
        raise InputError(f"output {output} must end in .jsonl")
    with fs.replacing(path) as beside, open(beside, "wb") as out:
        yield lambda entry: out.write(score_line(entry))


def _card(found: Scores, reference: Reference) -> Card:
    values = np.array(found.values)
    card = Card("Scores")
    card.say(f"{len(values):,} documents, {found.characters:,} characters; {found.name}:")
    percentiles = [(f"{p} %", np.percentile(values, p), reference.at(p)) for p in SHOWN_PERCENTILES]
    card.table(percentiles, ["percentile", "here", "reference"])
    log = found.name == "perplexity"
    counts, edges = np.histogram(np.log(np.maximum(values, 1e-9)) if log else values, BINS)
    bars = [
        (np.exp(low) if log else low, int(n), "#" * round(BAR_CHARACTERS * n / counts.max()))
        for n, low in zip(counts, edges[:-1], strict=True)
    ]
    card.table(bars, ["from", "documents", ""])
    for title, held in zip(("lowest", "highest"), found.ends, strict=True):
        rows = [(abs(key), identity, text) for key, identity, text in held]
        card.table(rows, [found.name, "document", "its beginning"], f"{title} {found.name}")
    return card
