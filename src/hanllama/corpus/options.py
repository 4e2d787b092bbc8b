"""The options of every command that makes a corpus of records."""

from __future__ import annotations

from hanllama.base.config import Natural, Share, checked, option
from hanllama.reading.records import Fields


@checked
class CorpusConfig:
    """Where the corpus goes, how its records are read, and with how many processes."""

    output: str = option(help="the corpus folder to write")
    text_field: str = option("text", help="the field of records that is the text")
    id_field: str = option("id", help="the field that identifies a record")
    source_field: str = option("source", help="the field that says where a record came from")
    category_field: str = option("category", help="the field that labels a record")
    licence_field: str = option("licence", help="the field with the record's licence")
    max_quarantine_share: Share = option(
        0.05, help="fail when more than this share of the records cannot be read"
    )
    workers: Natural = option(0, help="processes; 0 means one per core")
    force: bool = option(False, help="replace the output folder")

    @property
    def fields(self) -> Fields:
        """The names of the record's fields."""
        return Fields(
            self.text_field,
            self.id_field,
            self.source_field,
            self.category_field,
            self.licence_field,
        )
