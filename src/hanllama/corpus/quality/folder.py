"""A model folder of the quality package: `quality.json`, arrays as `.npy`, `SHA256SUMS`.

No pickle: nothing in the folder can run code. Large arrays are memory maps, so worker processes
share one copy. `quality.json` holds the percentiles of the reference texts, so a rule with a
threshold stays a function of the text.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError

FORMAT = 1


@dataclass(frozen=True)
class Reference:
    """The scores of passages held out from fitting.

    Attributes:
        passages: how many passages.
        percentiles: [101] the score below which 0, 1, … 100 % of them lie.
    """

    passages: int
    percentiles: tuple[float, ...]

    @classmethod
    def of(cls, scores: list[float]) -> Reference:
        """The reference of these scores; InputError when there are none."""
        if not scores:
            raise InputError("no passage is left to measure on; give more text")
        return cls(len(scores), tuple(float(v) for v in np.percentile(scores, range(101))))

    def at(self, percentile: float) -> float:
        """The score at a percentile, by linear interpolation."""
        return float(np.interp(percentile, range(101), self.percentiles))

    def rank(self, score: float) -> float:
        """The percentile of a score."""
        return float(np.interp(score, self.percentiles, range(101)))


def write(
    folder: Path, kind: str, facts: dict[str, Any], reference: Reference, **arrays: Any
) -> None:
    """Write a model into an existing (unpublished) folder."""
    content = {"kind": kind, "format": FORMAT, **facts, "reference": asdict(reference)}
    fs.write_json(folder / "quality.json", content)
    for name, array in arrays.items():
        with fs.storage(folder / f"{name}.npy"):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)


def stamp(folder: Path) -> int:
    """A number that changes when the folder is rewritten; 0 when it does not exist."""
    marker = folder / fs.SUMS
    return marker.stat().st_mtime_ns if marker.is_file() else 0


def read(folder: Path, kind: str) -> tuple[dict[str, Any], Reference]:
    """(facts, reference) of a model of this kind, its checksums verified.

    Raises InputError for a folder that is missing or holds something else, CorruptError for a
    damaged one.
    """
    fs.verify_sums(folder)
    facts = facts_of(folder)
    if facts["kind"] != kind:
        raise InputError(f"{folder} holds a quality model of kind {facts['kind']}, not {kind}")
    reference = facts.pop("reference")
    return facts, Reference(reference["passages"], tuple(reference["percentiles"]))


def facts_of(folder: Path) -> dict[str, Any]:
    """The content of `quality.json`; InputError when the folder holds no quality model."""
    path = folder / "quality.json"
    if not path.is_file():
        raise InputError(f"{folder} is no quality model: it has no quality.json")
    facts = fs.read_json(path)
    if not isinstance(facts, dict) or "kind" not in facts or "reference" not in facts:
        raise InputError(f"{path} does not describe a quality model")
    if facts.get("format") != FORMAT:
        raise InputError(f"{path} has format {facts.get('format')}, this version reads {FORMAT}")
    return facts


def array(folder: Path, name: str, dtype: Any, dimensions: int) -> Any:
    """One array of a model, as a read-only memory map."""
    path = folder / f"{name}.npy"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read: {error}; fit the model again") from error
    if found.dtype != dtype or found.ndim != dimensions:
        raise CorruptError(f"{path} holds {found.dtype} of {found.ndim} dimensions; fit it again")
    return np.asarray(found)
