"""What `hanllama dedup` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hanllama.base.config import option
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest
from hanllama.reading.records import Fields

KEEP_ORDERS = ("input", "clean", "longer", "han")
MAX_SLOTS = 4096  # of a MinHash sketch: what kernels.minhash has bits for


@dataclass(frozen=True)
class DedupConfig:
    """What `hanllama dedup` takes."""

    inputs: tuple[str, ...] = option(
        help="folders, files or globs: one corpus each, the preferred one first", positional=True
    )
    output: str = option(help="the corpus folder to write")
    exact_documents: bool = option(
        True, help="keep one of documents that are equal but for white space"
    )
    exact_lines: bool = option(False, help="remove lines that many documents share (boilerplate)")
    line_characters: int = option(20, help="the fewest characters of a line that is looked at")
    line_documents: int = option(10, help="a line is boilerplate in more documents than these")
    line_keep: Literal["none", "first"] = option(
        "none", help="which occurrence of a boilerplate line stays"
    )
    method: Literal["minhash", "simhash", "none"] = option(
        "minhash", help="how near duplicates are found"
    )
    threshold: float = option(
        0.3, help="minhash: the Jaccard similarity of character shingles from which two are near"
    )
    bands: int = option(152, help="minhash: bands of a sketch; more find more and cost more")
    rows: int = option(4, help="minhash: slots of a band; more look at fewer unlike documents")
    distance: int = option(3, help="simhash: the bits of 64 that may differ")
    shingle: int = option(5, help="consecutive letters of a shingle (Han, letters, digits)")
    min_letters: int = option(50, help="shorter documents are compared exactly only")
    containment: float = option(
        0.8, help="drop what another document holds by this share of its chapters; 0: do not look"
    )
    chapter_letters: int = option(4000, help="letters of a chapter, for containment")
    chapter_share: float = option(
        0.5, help="the share of a chapter's shingles that makes it contained"
    )
    keep: tuple[str, ...] = option(
        KEEP_ORDERS,
        help="which copy stays: earlier input, cleaner (fewest broken characters), longer, more"
        " Han; then the first",
    )
    text_field: str = option("text", help="the field of JSON and Parquet records that is the text")
    id_field: str = option("id", help="the field that identifies a record")
    source_field: str = option("source", help="the field that says where a record is from")
    category_field: str = option("category", help="the field that is a record's category")
    licence_field: str = option("licence", help="the field that is a record's licence")
    max_quarantine_share: float = option(
        0.05, help="fail when more than this share of the records cannot be read"
    )
    memory: int = option(1024, help="MiB for sorting, shared by all workers")
    workers: int = option(0, help="processes; 0 means one per core")
    force: bool = option(False, help="replace the output folder")

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ConfigError("inputs is empty; name a folder, a file or a glob")
        if "-" in self.inputs:
            raise ConfigError("dedup reads its input more than once, so it cannot be -; save it")
        for name in ("threshold", "containment", "chapter_share", "max_quarantine_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {value}")
        if self.threshold == 0 or self.chapter_share == 0:
            raise ConfigError("threshold and chapter_share must be above 0")
        for name in (
            "line_characters", "line_documents", "bands", "rows", "shingle", "min_letters",
            "chapter_letters",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.bands * self.rows > MAX_SLOTS:
            raise ConfigError(
                f"bands x rows is {self.bands * self.rows}; a sketch has at most {MAX_SLOTS} slots"
            )
        if not 0 <= self.distance <= 8:
            raise ConfigError(
                f"distance must be 0 to 8 of 64 bits, not {self.distance}: beyond, unrelated texts"
                " meet; use --method minhash"
            )
        if self.memory < 64:
            raise ConfigError(f"memory must be 64 MiB or more, not {self.memory}")
        if self.workers < 0:
            raise ConfigError(f"workers must be 0 or more, not {self.workers}")
        for name in self.keep:
            if name not in KEEP_ORDERS:
                raise ConfigError(f"keep knows no {name!r}{nearest(name, list(KEEP_ORDERS))}")

    @property
    def letters_matter(self) -> bool:
        """Whether anything looks at letters; equal texts have equal ones."""
        return self.method != "none" or self.containment > 0

    @property
    def fields(self) -> Fields:
        """Which field of a record is what."""
        return Fields(
            self.text_field,
            self.id_field,
            self.source_field,
            self.category_field,
            self.licence_field,
        )
