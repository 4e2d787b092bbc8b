"""`hanllama quality lm` and `classifier`: fit a model of quality.

The model folder holds percentiles of the scores of held-out text; the cleaning rules `perplexity`
and `quality_classifier` read their thresholds there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.base.errors import InputError
from hanllama.base.making import Making
from hanllama.corpus.quality import classifier, corpus, lm_fit, ngram_lm
from hanllama.corpus.quality import folder as model_folder
from hanllama.corpus.quality.folder import Reference
from hanllama.corpus.quality.ngram_lm import BITS, UNSEEN, LanguageModel
from hanllama.corpus.quality.options import ClassifierConfig, LmConfig
from hanllama.corpus.quality.symbols import passages

SHOWN_PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


# --- the language model --------------------------------------------------------------------------


def lm(config: LmConfig) -> None:
    """The command: fit a language model on text known to be good.

    Raises InputError when the output exists or there is too little text, ConfigError when numba is
    not installed.
    """
    with corpus.making(config.output, config.inputs, config.force) as made:
        _fit_lm(config, made)


def _fit_lm(config: LmConfig, made: Making) -> None:
    characters = lm_fit.CharacterCounts()
    for passage, heldout in _passages("characters", config):
        if not heldout:
            characters.add(passage)
    vocabulary = characters.vocabulary(2 ** BITS[config.order] - 3)
    counts = lm_fit.NgramCounts(config.order, vocabulary, config.max_ngrams)
    for passage, heldout in _passages("n-grams", config):
        if not heldout:
            counts.add(passage)
    counts.finish()
    if not counts.occurrences:
        raise InputError("no text is left to learn from; give more text, or lower --heldout")
    fitted = lm_fit.estimate(counts, len(vocabulary) + 2, config.min_count)
    facts: dict[str, Any] = {
        "order": config.order,
        "characters": vocabulary,
        "unseen": UNSEEN,
        "min_count": config.min_count,
        "forgotten_count": counts.forgotten,
        "symbols": counts.occurrences,
        "stored": fitted.stored,
        "discounts": fitted.discounts,
    }
    del counts
    bare = LanguageModel(config.order, vocabulary, fitted.arrays, Reference(0, ()), facts)
    scores = [bare.score(passage) for passage, heldout in _passages("held out", config) if heldout]
    nats, symbols = sum(s.nats for s in scores), sum(s.symbols for s in scores)
    reference = Reference.of([s.perplexity for s in scores if s.symbols])
    facts["heldout_perplexity"] = ngram_lm.Score(nats, symbols).perplexity
    with made.publish() as folder:
        model_folder.write(folder, ngram_lm.KIND, facts, reference, **fitted.arrays)
        stored = {f"{n}-grams stored": fitted.stored[n] for n in sorted(fitted.stored)}
        card = Card("Language model")
        card.section("Fit")
        card.facts(
            {
                "symbols learnt from": facts["symbols"],
                "characters": len(vocabulary),
                **stored,
                "held-out passages": reference.passages,
                "held-out perplexity of a symbol": facts["heldout_perplexity"],
            }
        )
        if facts["forgotten_count"]:
            card.note(
                f"n-grams seen {facts['forgotten_count']} times or less were dropped to save"
                " memory; a larger --max-ngrams keeps them"
            )
        _show_reference(card, reference, "perplexity")
        card.write(folder)
    card.print()
    print(f"the model is in {made.output}")


def _passages(title: str, config: LmConfig) -> Iterator[tuple[str, bool]]:
    """(passage, held out) of every document."""
    for document in corpus.documents(title, config.inputs, config.text_field):
        for passage in passages(document.text):
            yield passage, corpus.is_heldout(passage, config.heldout)


# --- the classifier ------------------------------------------------------------------------------


def fit_classifier(config: ClassifierConfig) -> None:
    """The command: fit a classifier on good and bad text.

    Raises InputError when the output exists or one kind has too little text, ConfigError when
    numba is not installed.
    """
    with corpus.making(config.output, [*config.good, *config.bad], config.force) as made:
        _fit_classifier(config, made)


def _fit_classifier(config: ClassifierConfig, made: Making) -> None:
    good, good_out, by_document = _divided("good", config.good, config)
    bad, bad_out, bad_by_document = _divided("bad", config.bad, config)
    weights, bias, losses = classifier.fit(good, bad, config.bits, config.seed)
    bare = classifier.Classifier(weights, bias, Reference(0, ()), {})
    good_scores = [bare.passage(p) for p in good_out]
    bad_scores = [bare.passage(p) for p in bad_out]
    verdict = classifier.judge(good_scores, bad_scores)
    reference = Reference.of(good_scores)
    facts = {
        "bias": bias,
        "passages": {"good": len(good), "bad": len(bad)},
        "heldout": {"good": len(good_out), "bad": len(bad_out)},
        "seed": config.seed,
        "losses": losses,
        "accuracy": verdict.accuracy,
        "auc": verdict.auc,
        "calibration_error": verdict.calibration_error,
    }
    with made.publish() as folder:
        model_folder.write(folder, classifier.KIND, facts, reference, weights=weights)
        card = Card("Quality classifier")
        card.section("Fit")
        card.facts(
            {
                "passages learnt from": f"{len(good):,} good, {len(bad):,} bad",
                "passages held out": f"{len(good_out):,} good, {len(bad_out):,} bad",
                "accuracy": f"{verdict.accuracy:.1%}",
                "AUC": f"{verdict.auc:.4f}",
                "calibration error": f"{verdict.calibration_error:.3f}",
            }
        )
        if not (by_document and bad_by_document):
            card.note(
                "few documents: passages were held out, not whole documents, so the model has"
                " learnt from their neighbours",
                "warning",
            )
        headings = ("score from", "passages", "mean score", "share of good ones")
        card.table(verdict.bins, headings, "Calibration, held out")
        _show_reference(card, reference, "score of good text")
        card.write(folder)
    card.print()
    print(f"the model is in {made.output}")


def _divided(
    kind: str, inputs: tuple[str, ...], config: ClassifierConfig
) -> tuple[list[str], list[str], bool]:
    """(passages to learn from, passages held out, whether whole documents were held out).

    A sample of fixed size is drawn while reading (reservoir sampling), so memory is bounded.
    """
    rng = random.Random(config.seed)
    learnt, out = _Sample(config.max_passages, rng), _Sample(config.max_passages, rng)
    for document in corpus.documents(kind, inputs, config.text_field):
        sample = out if corpus.is_heldout(document.text, config.heldout) else learnt
        for passage in passages(document.text):
            sample.add(passage)
    if learnt.kept and out.kept:
        return learnt.kept, out.kept, True
    everything = learnt.kept + out.kept
    held = [p for p in everything if corpus.is_heldout(p, config.heldout)]
    kept = [p for p in everything if not corpus.is_heldout(p, config.heldout)]
    if not held or not kept:
        raise InputError(
            f"{kind}: {len(everything)} passages are too few to learn from and to measure on;"
            " give more text"
        )
    return kept, held, False


class _Sample:
    """A random sample of at most `size` passages."""

    def __init__(self, size: int, rng: random.Random) -> None:
        self.size, self.rng = size, rng
        self.kept: list[str] = []
        self.seen = 0

    def add(self, passage: str) -> None:
        """Offer one passage."""
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append(passage)
        elif (place := self.rng.randrange(self.seen)) < self.size:
            self.kept[place] = passage


# --- both kinds ----------------------------------------------------------------------------------


def _show_reference(card: Card, reference: Reference, name: str) -> None:
    chart = report.chart(
        {name: (tuple(range(101)), reference.percentiles)},
        title=f"{name} by percentile of held-out passages",
        x="percentile",
        y=name,
    )
    card.add(chart)
    rows = [(f"{p} %", reference.at(p)) for p in SHOWN_PERCENTILES]
    card.table(rows, ("percentile", name), "held-out passages")


def kind_of(folder: str) -> str:
    """`lm` or `classifier`; InputError when the folder holds neither."""
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"model folder {folder} does not exist")
    kind = model_folder.facts_of(path)["kind"]
    if kind not in (ngram_lm.KIND, classifier.KIND):
        raise InputError(f"{folder} holds a quality model of unknown kind {kind!r}")
    return str(kind)


def score_line(entry: dict[str, Any]) -> bytes:
    """A score as one line of JSON."""
    return (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "replace")
