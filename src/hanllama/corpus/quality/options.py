"""Options of the `hanllama quality` commands."""

from __future__ import annotations

from hanllama.base.config import Count, Natural, checked, option


@checked
class LmConfig:
    """Options of `hanllama quality lm`."""

    inputs: tuple[str, ...] = option(
        help="good text: folders, files or globs to learn from", positional=True
    )
    output: str = option(help="the model folder to write")
    order: int = option(4, ge=3, le=5, help="characters of the longest n-gram: 3, 4 or 5")
    min_count: Count = option(2, help="n-grams of 3 or more characters seen less often are dropped")
    max_ngrams: int = option(
        20_000_000,
        ge=1000,
        help="n-grams of the full order kept in memory; the rarest are dropped",
    )
    heldout: float = option(0.05, gt=0, lt=1, help="the share of passages kept out, to measure on")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    force: bool = option(False, help="replace the output folder")


@checked
class ClassifierConfig:
    """Options of `hanllama quality classifier`."""

    good: tuple[str, ...] = option(help="folders, files or globs of good text")
    bad: tuple[str, ...] = option(help="folders, files or globs of bad text")
    output: str = option(help="the model folder to write")
    bits: int = option(20, ge=10, le=26, help="the table has two to the power of this many weights")
    max_passages: Count = option(
        100_000, help="the most passages of each kind to learn from; of more, a random sample"
    )
    heldout: float = option(0.1, gt=0, lt=1, help="the share of documents kept out, to measure on")
    seed: int = option(0, help="seed of the sample and of the order of passages")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    force: bool = option(False, help="replace the output folder")


@checked
class ScoreConfig:
    """Options of `hanllama quality score`."""

    model: str = option(help="the model folder", positional=True)
    inputs: tuple[str, ...] = option(help="folders, files or globs to score", positional=True)
    output: str = option("", help="a .jsonl file for the score of every document")
    examples: Natural = option(5, help="documents shown at each end")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
