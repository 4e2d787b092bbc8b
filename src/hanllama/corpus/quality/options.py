"""What the `hanllama quality` commands take."""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.config import option
from hanllama.base.errors import ConfigError


@dataclass(frozen=True)
class LmConfig:
    """What `hanllama quality lm` takes."""

    inputs: tuple[str, ...] = option(
        help="good text: folders, files or globs to learn from", positional=True
    )
    output: str = option(help="the model folder to write")
    order: int = option(4, help="characters of the longest n-gram: 3, 4 or 5")
    min_count: int = option(
        2, help="n-grams of three and more characters seen less often are not stored"
    )
    max_ngrams: int = option(
        20_000_000, help="longest n-grams held while counting; beyond, the rarest are forgotten"
    )
    heldout: float = option(0.05, help="the share of passages kept out, to measure on")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    force: bool = option(False, help="replace the output folder")

    def __post_init__(self) -> None:
        if self.order not in (3, 4, 5):
            raise ConfigError(f"order must be 3, 4 or 5, not {self.order}")
        if self.min_count < 1:
            raise ConfigError(f"min_count must be 1 or more, not {self.min_count}")
        if self.max_ngrams < 1000:
            raise ConfigError(f"max_ngrams must be 1000 or more, not {self.max_ngrams}")
        _check_heldout(self.heldout)


@dataclass(frozen=True)
class ClassifierConfig:
    """What `hanllama quality classifier` takes."""

    good: tuple[str, ...] = option(help="folders, files or globs of good text")
    bad: tuple[str, ...] = option(help="folders, files or globs of bad text")
    output: str = option(help="the model folder to write")
    bits: int = option(20, help="the table has two to the power of this many weights")
    max_passages: int = option(
        100_000, help="passages of each kind that are learnt from, drawn at random beyond"
    )
    heldout: float = option(0.1, help="the share of documents kept out, to measure on")
    seed: int = option(0, help="of the order in which passages are learnt from")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    force: bool = option(False, help="replace the output folder")

    def __post_init__(self) -> None:
        if not 10 <= self.bits <= 26:
            raise ConfigError(f"bits must be between 10 and 26, not {self.bits}")
        if self.max_passages < 1:
            raise ConfigError(f"max_passages must be 1 or more, not {self.max_passages}")
        _check_heldout(self.heldout)


@dataclass(frozen=True)
class ScoreConfig:
    """What `hanllama quality score` takes."""

    model: str = option(help="the model folder", positional=True)
    inputs: tuple[str, ...] = option(help="folders, files or globs to score", positional=True)
    output: str = option("", help="a .jsonl file for the score of every document")
    examples: int = option(5, help="documents shown at each end")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ConfigError(f"examples must be 0 or more, not {self.examples}")


def _check_heldout(share: float) -> None:
    if not 0 < share < 1:
        raise ConfigError(f"heldout must be between 0 and 1, not {share}")
