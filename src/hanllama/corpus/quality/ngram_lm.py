"""A character n-gram language model: how surprising is a text, given the reference text?

Interpolated modified Kneser-Ney (Chen & Goodman 1998) over characters, without words: a segmenter
would add its own errors exactly where a text is bad. The stored probabilities are interpolated
already, so a score is a few look-ups. The probabilities of every context add up to one: all unseen
characters share one symbol, whose probability is divided equally among `UNSEEN` characters.

`LanguageModel` scores; `lm_fit.py` fits.
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
from hanllama.corpus.quality.symbols import LINE_END, folds
from hanllama.text.letters import code_points

KIND = "lm"
UNSEEN = 100_000  # about the number of Unicode's characters outside any vocabulary
BITS = {3: 21, 4: 16, 5: 12}  # of a symbol: an n-gram is packed into 64


@dataclass(frozen=True, slots=True)
class Score:
    """The surprise of a text or line: `nats` over `symbols` (characters and line ends)."""

    nats: float
    symbols: int

    @property
    def perplexity(self) -> float:
        """The perplexity of a symbol; 1 for an empty text."""
        return math.exp(self.nats / self.symbols) if self.symbols else 1.0


class LanguageModel:
    """Scores texts.

    Attributes:
        order: characters of the longest n-gram.
        characters: the vocabulary without line end and unknown.
        reference: perplexities of passages held out from fitting.
    """

    def __init__(
        self,
        order: int,
        characters: str,
        arrays: dict[str, Any],
        reference: Reference,
        facts: dict[str, Any],
    ) -> None:
        self.order, self.characters, self.reference = order, characters, reference
        self.facts = facts
        self._numbers = numbers(characters)
        self._unigrams = arrays["unigrams"]
        self._slots = arrays["slots"]
        sizes = np.asarray(arrays["sizes"])
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self._masks = (np.maximum(sizes, 1) - 1).astype(np.uint64)

    def lines(self, text: str) -> tuple[Any, Any]:
        """(nats, symbols) of each line that is not blank, in order."""
        from hanllama.corpus.quality import kernels

        costs, lengths = kernels.line_costs(
            kernels.compact(code_points(text), folds()),
            self._numbers,
            self._unigrams,
            self._slots,
            self._starts,
            self._masks,
            BITS[self.order],
            self.order,
            round(math.log(UNSEEN) * kernels.SCALE),
        )
        return costs / kernels.SCALE, lengths

    def line_perplexities(self, text: str) -> list[float]:
        """The perplexity of each line that is not blank, in order."""
        nats, symbols = self.lines(text)
        return [math.exp(value) for value in nats / symbols]

    def score(self, text: str) -> Score:
        """The score of the whole text."""
        nats, symbols = self.lines(text)
        return Score(float(nats.sum()), int(symbols.sum()))


def load(folder: str) -> LanguageModel:
    """The model of a folder, read once per process and again when the folder is rewritten.

    Raises InputError and CorruptError, see `folder.read`.
    """
    return _load(Path(folder), model_folder.stamp(Path(folder)))


@functools.lru_cache(maxsize=4)
def _load(path: Path, stamp: int) -> LanguageModel:
    facts, reference = model_folder.read(path, KIND)
    arrays = {
        "unigrams": model_folder.array(path, "unigrams", np.int64, 2),
        "slots": model_folder.array(path, "slots", np.uint64, 2),
        "sizes": model_folder.array(path, "sizes", np.int64, 1),
    }
    return LanguageModel(facts["order"], facts["characters"], arrays, reference, facts)


def numbers(characters: str) -> Any:
    """[0x110000] uint32: the symbol of a folded code point; 1 for unknown."""
    from hanllama.corpus.quality.kernels import END, UNKNOWN

    table = np.full(0x110000, UNKNOWN, np.uint32)
    table[LINE_END] = END
    table[[ord(c) for c in characters]] = np.arange(2, 2 + len(characters))
    return table
