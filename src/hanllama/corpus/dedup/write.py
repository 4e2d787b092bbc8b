"""The last pass: write the documents that stay as the parts of a corpus.

The input is read in the same jobs as in the scan, so a document has the same number, and the scan's
cuts apply to its bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import workers
from hanllama.base.progress import Progress
from hanllama.corpus.dedup import scan, spans
from hanllama.corpus.dedup.clusters import Fates, Names
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.spans import Span
from hanllama.corpus.dedup.summary import Summary
from hanllama.corpus.dedup.work import Store, Work, changed, save
from hanllama.corpus.parts import Parts
from hanllama.reading import records
from hanllama.reading.records import Document, Piece, Quarantine, Reject

BEGINNING = 80  # characters of a text shown in clusters.jsonl


def write(
    folder: Path,
    work: Work,
    config: DedupConfig,
    files: list[list[Path]],
    fates: Fates,
    summary: Summary,
    names: Names,
    n_workers: int,
) -> dict[str, str]:
    """Write the parts and the quarantine; the counts go into the summary.

    Returns name -> sha256 of the parts. Raises InputError when the input has changed since the
    scan.
    """
    save(work.folder / "removed.npy", fates.document)
    save(work.folder / "shown.npy", fates.shown)
    store = Store(work.stages["scan"])
    arguments = (config, work.stages["scan"], work.folder)
    with (
        contextlib.closing(
            workers.ordered(_known(files, store), n_workers, _Writer, arguments)
        ) as results,
        Progress("write", sum(meta["bytes"] for meta in store.metas) / 1e6, "MB") as progress,
        Quarantine(folder / "quarantine.jsonl") as quarantine,
        Parts(folder, summed=True) as parts,
    ):
        for written in results:
            for reject in written.rejects:
                quarantine.put(reject)
            parts.write_run(written.lines, written.sizes)
            names.add(written.names)
            summary.characters_kept += written.characters
            summary.emptied += written.emptied
            progress.advance(written.text_bytes / 1e6, documents=parts.documents)
        summary.documents_kept = parts.documents
    return parts.sums


@dataclass(frozen=True)
class _Known:
    """A job with the counts of the scan.

    Attributes:
        documents: the number of its documents.
        cuts: (start, stop) of its rows in the store's cuts.
        text_bytes: of its texts.
    """

    job: scan.Job
    documents: int
    cuts: tuple[int, int]
    text_bytes: int


def _known(files: list[list[Path]], store: Store) -> Iterator[_Known]:
    """The jobs, with the number of its first line in each span."""
    lines = iter(store.whole("part_lines").tolist())
    number, path, cut = 1, "", 0
    jobs = scan.numbered(files, store.jobs)
    for job, documents, sums in zip(jobs, store.jobs, store.whole("job_sums"), strict=True):
        parts: list[Piece | Span] = []
        for part in job.parts:
            here, n_lines = part.source.path, next(lines, -1)
            if n_lines < 0:
                raise changed()
            number, path = number if here == path else 1, here
            parts.append(replace(part, first=number) if isinstance(part, Span) else part)
            number += n_lines
        n_cuts, text_bytes = sums.tolist()
        yield _Known(replace(job, parts=parts), documents, (cut, cut + n_cuts), text_bytes)
        cut += n_cuts


# --- in the worker processes ---------------------------------------------------------------------


@dataclass
class _Written:
    """The kept documents of a job.

    Attributes:
        text_bytes: of all its texts.
        lines, sizes: the corpus lines end to end, and the bytes of each.
        names: of the documents that clusters.jsonl shows.
        characters: of the kept texts.
        emptied: documents dropped because they hold only boilerplate.
    """

    text_bytes: int
    characters: int
    emptied: int
    lines: bytes = b""
    sizes: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


class _Writer:
    """Turns a job into the corpus lines of its kept documents."""

    def __init__(self, config: DedupConfig, scanned: Path, work: Path) -> None:
        spans.hold_memory()
        self.fields = config.fields
        self.store = Store(scanned)
        self.removed = np.load(work / "removed.npy")
        self.shown = np.load(work / "shown.npy")

    def __call__(self, known: _Known) -> _Written:
        first, count = known.job.first, known.documents
        stays = np.ones(count, dtype=bool)
        stays[_within(self.removed, first, count)] = False
        emptied = stays & self.store.run("emptied", first, first + count)
        stays &= ~emptied
        characters = self.store.run("counts", first, first + count)[:, 2]
        written = _Written(
            known.text_bytes, int(characters[stays].sum(dtype=np.int64)), int(emptied.sum())
        )
        cuts = self.store.run("cut", *known.cuts)
        cut_in = self.store.run("cut_document", *known.cuts) - first
        bounds = np.searchsorted(cut_in, np.arange(count + 1)).tolist()
        shown = set(_within(self.shown, first, count).tolist())
        lines = []
        number = 0
        for item in self._items(known.job):
            if isinstance(item, Reject):
                written.rejects.append(item)
                continue
            if number == count:
                raise changed()
            low, high = bounds[number : number + 2]
            if low < high:
                item.text = _without(item.text, cuts[low:high])
            if stays[number]:
                lines.append(records.document_line(item))
            if number in shown:
                written.names.append(_name(item))
            number += 1
        if number != count:
            raise changed()
        written.lines, written.sizes = b"".join(lines), [len(line) for line in lines]
        return written

    def _items(self, job: scan.Job) -> Iterator[Document | Reject]:
        for part in job.parts:
            for piece in spans.pieces(part):
                yield from records.parse(piece, self.fields)


def _within(documents: NDArray[np.int64], first: int, count: int) -> NDArray[np.int64]:
    """The documents of this job among `documents` (ascending), counted from its first."""
    span = np.searchsorted(documents, [first, first + count])
    return documents[slice(*span)] - first


def _without(text: str, cuts: NDArray[Any]) -> str:
    try:
        return scan.without(text.encode("utf-8"), cuts).decode("utf-8")
    except UnicodeDecodeError:
        raise changed() from None


def _name(document: Document) -> bytes:
    beginning = " ".join(document.text[: 2 * BEGINNING].split())[:BEGINNING]
    # JSON, since each field may hold any character, U+0000 too.
    return json.dumps((document.id, document.source, beginning)).encode()
