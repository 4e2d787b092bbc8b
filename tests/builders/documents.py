"""How the tests of reading read: every document, and every record that was rejected."""

from __future__ import annotations

from pathlib import Path

from hanllama.reading import records
from hanllama.reading.records import Document, Fields, Quarantine, Reject

SENTENCE = "那一年冬天来得很早，河面结了一层薄冰，老船工把船拖上岸，说等开春再下水。"


class Kept(Quarantine):
    """A quarantine whose rejects can be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.rejects: list[Reject] = []

    def put(self, reject: Reject) -> None:
        super().put(reject)
        self.rejects.append(reject)


def read(*inputs: Path | str, fields: Fields | str = "text") -> tuple[list[Document], list[Reject]]:
    """The documents and the rejects of the inputs."""
    with Kept() as quarantine:
        documents = list(records.read([str(i) for i in inputs], quarantine, fields=fields))
    assert quarantine.count == len(quarantine.rejects)
    return documents, quarantine.rejects
