"""Reading and cleaning as steps of a datatrove pipeline, for more than one machine.

datatrove brings the executors (local, Slurm, Ray), the retries and the bookkeeping of tasks. A task
is a share of the input's files. It reads and cleans as `hanllama clean` does, so the documents are
the same. `hanllama dedup` then finds duplicates across the parts that the tasks wrote.

    pipeline = [
        ReadDocuments(["raw"], quarantine="quarantine"),
        CleanDocuments(["webnovel"]),
        JsonlWriter("corpus", "part-${rank}.jsonl", compression=None, adapter=corpus_line),
    ]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hanllama.base.errors import ConfigError
from hanllama.corpus import ruleset
from hanllama.corpus.cleaner import Rules
from hanllama.reading import records
from hanllama.reading.records import Fields, Quarantine, Reject

try:
    from datatrove.data import Document, DocumentsPipeline
    from datatrove.pipeline.base import PipelineStep
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter
except ImportError as error:  # pragma: no cover (the tests need it)
    raise ConfigError("datatrove is not installed: pip install 'hanllama[datatrove]'") from error


class ReadDocuments(PipelineStep):  # type: ignore[misc]
    """Reads any format and encoding, as `hanllama clean` does; each task reads its share of files.

    Args:
        inputs: folders, files or globs that every task sees under the same path.
        fields: the names of the record's fields.
        quarantine: a folder for unusable records, one file per task; None only counts them.
    """

    type = "📖 - READER"
    name = "🏮 hanllama"

    def __init__(
        self,
        inputs: Sequence[str],
        fields: Fields | None = None,
        quarantine: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.inputs = list(inputs)
        self.fields = fields or Fields()
        self.quarantine = Path(quarantine) if quarantine else None

    def run(
        self, data: DocumentsPipeline | None = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The documents of files rank, rank + world_size, …"""
        if data:
            yield from data
        path = self.quarantine and self.quarantine / f"quarantine-{rank:05d}.jsonl"
        with Quarantine(path) as quarantine:
            for file in records.files(self.inputs)[rank::world_size]:
                for piece in records.pieces(file):
                    with self.track_time():
                        found = list(records.parse(piece, self.fields))
                    for item in found:
                        if isinstance(item, Reject):
                            quarantine.put(item)
                            self.stat_update(f"rejected_{item.reason}")
                            continue
                        self.stat_update("documents")
                        metadata = asdict(item)
                        text, identity = metadata.pop("text"), metadata.pop("id")
                        yield Document(text=text, id=identity, metadata=metadata)


class CleanDocuments(BaseFilter):  # type: ignore[misc]
    """Applies rules to each document; drops are counted as `dropped_RULE: REASON`.

    Args:
        rules: as for `hanllama clean --rules`: presets, names, YAML and `.py` files, or
            `{name: {parameter: value}}`.
        exclusion_writer: a datatrove writer for dropped documents.
    """

    type = "🔻 - FILTER"
    name = "🏮 hanllama rules"

    def __init__(
        self, rules: Sequence[Any] = ("default",), exclusion_writer: DiskWriter | None = None
    ) -> None:
        super().__init__(exclusion_writer)
        self.steps = ruleset.expand(rules)  # refuses wrong rules before anything starts
        self._rules: Rules | None = None

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Clean the text in place; (False, reason) when a rule drops the document."""
        if self._rules is None:  # built in the task's process: compiled rules do not travel
            self._rules = Rules(self.steps)
        document = records.Document(doc.text, doc.id)
        dropped = self._rules.apply(document)
        doc.text = document.text
        if dropped is None:
            return True
        rule, drop = dropped
        return False, f"{rule}: {drop.reason}"


def corpus_line(writer: DiskWriter, document: Document) -> dict[str, Any]:
    """A document as a line of a hanllama corpus, for a JsonlWriter's `adapter`."""
    entry = {"text": document.text, "id": document.id}
    for name in ("source", "category", "licence"):
        if value := document.metadata.get(name):
            entry[name] = value
    return entry
