"""What `hanllama decontaminate` takes."""

from __future__ import annotations

from typing import Literal

from hanllama.base.config import Count, Natural, checked, option
from hanllama.base.errors import ConfigError


@checked
class DecontaminateConfig:
    """What `hanllama decontaminate` takes."""

    inputs: tuple[str, ...] = option(help="the corpus: folders, files or globs", positional=True)
    eval: tuple[str, ...] = option(help="folders or files of evaluation questions")
    output: str = option("", help="folder for the clean corpus and the findings; none: only print")
    remove: Literal["documents", "passages", "nothing"] = option(
        "documents",
        help="what the corpus in --output leaves out: documents that leak, their lines that match,"
        " or nothing (then only what was found is written)",
    )
    ngram: int = option(
        13, help="so many Han characters (or words of other scripts) in a row are an overlap"
    )
    shortest: int = option(
        8, help="a question shorter than ngram is searched for as a whole, down to this length"
    )
    minimum_share: float = option(
        0.3, gt=0, le=1, help="share of a question's n-grams in one document that makes it a leak"
    )
    common_questions: Count = option(
        20, help="n-grams that stand in more different questions than these do not count"
    )
    common_documents: Count = option(
        1000, help="n-grams that stand in more documents than these do not count"
    )
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    workers: Natural = option(0, help="processes; 0 means one per core")
    force: bool = option(False, help="replace the output folder")

    def __post_init__(self) -> None:
        if not 2 <= self.shortest <= self.ngram:
            raise ConfigError(
                f"shortest {self.shortest} must be 2 or more and at most ngram {self.ngram}"
            )
