"""Options of `hanllama decontaminate`."""

from __future__ import annotations

from typing import Literal

from hanllama.base.config import Count, Natural, checked, option
from hanllama.base.errors import ConfigError


@checked
class DecontaminateConfig:
    """Options of `hanllama decontaminate`."""

    inputs: tuple[str, ...] = option(help="the corpus: folders, files or globs", positional=True)
    eval: tuple[str, ...] = option(help="folders or files of evaluation questions")
    output: str = option("", help="folder for the clean corpus and the findings; none: only print")
    remove: Literal["documents", "passages", "nothing"] = option(
        "documents",
        help="remove leaking documents, only their matching lines, or nothing (then --output holds"
        " only the findings)",
    )
    ngram: int = option(
        13, help="Han characters (or words of other scripts) in a row that are compared"
    )
    shortest: int = option(
        8, help="a question shorter than ngram is searched for as a whole, down to this length"
    )
    minimum_share: float = option(
        0.3, gt=0, le=1, help="share of a question's n-grams in one document that makes it a leak"
    )
    common_questions: Count = option(
        20, help="n-grams in more different questions than this do not count"
    )
    common_documents: Count = option(1000, help="n-grams in more documents than this do not count")
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    workers: Natural = option(0, help="processes; 0 means one per core")
    force: bool = option(False, help="replace the output folder")

    def __post_init__(self) -> None:
        if not 2 <= self.shortest <= self.ngram:
            raise ConfigError(
                f"shortest {self.shortest} must be 2 or more and at most ngram {self.ngram}"
            )
