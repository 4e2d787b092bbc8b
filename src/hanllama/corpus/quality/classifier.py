"""A small classifier of good and bad text: hashed character n-grams, logistic regression.

fastText's classifier (Joulin et al. 2017) with one weight for each hashed n-gram; for two classes
this equals a hidden layer. A text is cut into passages of about 2,000 characters. A passage's score
is the logistic function of the mean weight of its n-grams; a text's score is the mean over its
passages, weighted by length.

The seed determines the fit: AdaGrad over passages in a shuffled order, both classes with equal
total weight.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.corpus.quality import folder as model_folder
from hanllama.corpus.quality.folder import Reference
from hanllama.corpus.quality.symbols import folds, passages
from hanllama.text.letters import code_points

KIND = "classifier"
ORDERS = 3  # n-grams of 1 to 3 characters: a word and its neighbour
EPOCHS = 5
LEARNING_RATE = 0.3


@dataclass(frozen=True)
class Classifier:
    """Scores texts between 0 (bad) and 1 (good).

    Attributes:
        weights: [2**bits] float32. bias: added for every passage.
        reference: scores of good passages held out from fitting.
    """

    weights: Any
    bias: float
    reference: Reference
    facts: dict[str, Any]

    def score(self, text: str) -> float:
        """The score of a text; 0.5 for a blank one."""
        scores = [(self.passage(p), len(p)) for p in passages(text)]
        total = sum(length for _, length in scores)
        return sum(score * length for score, length in scores) / total if total else 0.5

    def passage(self, text: str) -> float:
        """The score of one passage."""
        from hanllama.corpus.quality import kernels

        bits = int(self.weights.size).bit_length() - 1
        z = kernels.logit(places(text, bits), self.weights, self.bias)
        return 1.0 / (1.0 + math.exp(-max(min(z, 500.0), -500.0)))


def load(folder: str) -> Classifier:
    """The model of a folder, read once per process and again when the folder is rewritten.

    Raises InputError and CorruptError, see `folder.read`.
    """
    return _load(Path(folder), model_folder.stamp(Path(folder)))


@functools.lru_cache(maxsize=4)
def _load(path: Path, stamp: int) -> Classifier:
    facts, reference = model_folder.read(path, KIND)
    weights = model_folder.array(path, "weights", np.float32, 1)
    return Classifier(weights, float(facts["bias"]), reference, facts)


def places(text: str, bits: int) -> Any:
    """The features of a passage, as places in a table of 2**bits weights."""
    from hanllama.corpus.quality import kernels

    return kernels.features(kernels.compact(code_points(text), folds()), ORDERS, bits)


def fit(good: list[str], bad: list[str], bits: int, seed: int) -> tuple[Any, float, list[float]]:
    """(weights, bias, mean loss of each epoch) from passages of both kinds."""
    from hanllama.corpus.quality import kernels

    found = [places(text, bits) for text in (*good, *bad)]
    starts = np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64)
    labels = np.arange(len(found)) < len(good)
    counts = np.where(labels, len(good), len(bad))
    example_weights = len(found) / (2.0 * counts)
    weights = np.zeros(1 << bits, np.float32)
    # As if a gradient of 0.01 came first: the first step of a rare feature stays small.
    squares = np.full(1 << bits, 1e-4, np.float32)
    bias = np.zeros(2)  # the bias, and the sum of its squared gradients
    rng = np.random.default_rng(seed)
    flat = np.concatenate(found)
    losses = [
        kernels.train_epoch(
            rng.permutation(len(found)),
            flat,
            starts,
            labels,
            example_weights,
            weights,
            squares,
            bias,
            LEARNING_RATE,
        )
        for _ in range(EPOCHS)
    ]
    return weights, float(bias[0]), losses


# --- measuring the classifier --------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Figures of the classifier, measured on passages held out from fitting.

    Attributes:
        accuracy: at a score of 0.5, the mean over both classes.
        auc: the chance that a good passage scores higher than a bad one.
        calibration_error: mean distance between score and share of good passages, over ten bins.
        bins: (lowest score, passages, mean score, share of good passages).
    """

    accuracy: float
    auc: float
    calibration_error: float
    bins: list[tuple[float, int, float, float]]


def judge(good_scores: list[float], bad_scores: list[float]) -> Verdict:
    """Accuracy, AUC and calibration; the classes count equally, as in fitting."""
    good, bad = np.array(good_scores), np.array(bad_scores)
    scores = np.concatenate([good, bad])
    is_good = np.arange(len(scores)) < len(good)
    weight = np.where(is_good, 0.5 / len(good), 0.5 / len(bad))
    bins, error = [], 0.0
    for low in range(10):
        inside = np.minimum((scores * 10).astype(int), 9) == low
        if not inside.any():
            continue
        mass = float(weight[inside].sum())
        mean = float((weight[inside] * scores[inside]).sum() / mass)
        share = float(weight[inside & is_good].sum() / mass)
        error += mass * abs(mean - share)
        bins.append((low / 10, int(inside.sum()), mean, share))
    accuracy = float(((good >= 0.5).mean() + (bad < 0.5).mean()) / 2)
    return Verdict(accuracy, auc(good, bad), error, bins)


def auc(high: Any, low: Any) -> float:
    """The chance that a value of `high` exceeds one of `low`; ties count half (Mann-Whitney)."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / 2 / len(ordered))
