"""Options of `hanllama dedup`."""

from __future__ import annotations

from typing import Literal

from hanllama.base.config import Count, Share, Texts, checked, option
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest
from hanllama.corpus.options import CorpusConfig

KEEP_ORDERS = ("input", "clean", "longer", "han")
MAX_SLOTS = 4096  # of a MinHash sketch: near_loops.minhash has bits for no more


@checked
class DedupConfig(CorpusConfig):
    """Options of `hanllama dedup`."""

    inputs: Texts = option(
        help="folders, files or globs: one corpus each, the preferred one first", positional=True
    )
    exact_documents: bool = option(True, help="keep one of documents equal apart from white space")
    exact_lines: bool = option(False, help="remove lines that many documents share (boilerplate)")
    line_characters: Count = option(20, help="the fewest characters of a boilerplate line")
    line_documents: Count = option(10, help="a line in more documents than this is boilerplate")
    line_keep: Literal["none", "first"] = option("none", help="which copy of such a line stays")
    method: Literal["minhash", "simhash", "none"] = option(
        "minhash", help="how near duplicates are found"
    )
    threshold: float = option(
        0.3, gt=0, le=1, help="minhash: the least Jaccard similarity of near duplicates"
    )
    bands: Count = option(152, help="minhash: bands of a sketch; more find more and cost more")
    rows: Count = option(4, help="minhash: slots of a band; more compare fewer unlike documents")
    distance: int = option(
        3, ge=0, le=8, help="simhash: bits of 64 that may differ; for more, minhash"
    )
    shingle: Count = option(5, help="consecutive letters of a shingle (Han, letters, digits)")
    min_letters: Count = option(50, help="shorter documents are only compared exactly")
    containment: Share = option(
        0.8, help="drop a document when another holds this share of its chapters; 0: never"
    )
    chapter_letters: Count = option(4000, help="letters of a chapter, for containment")
    chapter_share: float = option(
        0.5, gt=0, le=1, help="the share of a chapter's shingles that makes it contained"
    )
    keep: tuple[str, ...] = option(
        KEEP_ORDERS,
        help="which copy stays: earlier input, cleaner (fewest broken characters), longer, more"
        " Han; then the first",
    )
    memory: int = option(1024, ge=64, help="MiB for sorting, shared by all workers")

    def __post_init__(self) -> None:
        if "-" in self.inputs:
            raise ConfigError(
                "dedup reads its input more than once, so it cannot be -; save it to a file"
            )
        if self.bands * self.rows > MAX_SLOTS:
            raise ConfigError(
                f"bands x rows is {self.bands * self.rows}; a sketch has at most {MAX_SLOTS} slots"
            )
        for name in self.keep:
            if name not in KEEP_ORDERS:
                raise ConfigError(f"keep knows no {name!r}{nearest(name, list(KEEP_ORDERS))}")

    @property
    def letters_matter(self) -> bool:
        """Whether any stage needs the letters of a text."""
        return self.method != "none" or self.containment > 0
