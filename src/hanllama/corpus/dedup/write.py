"""The last pass: the documents that stay, as the parts of a corpus.

The scan has noted where each value of a line stands and what was cut, so nothing is checked, parsed
or hashed again: lines that stay as they are copied from the bytes of the input. Only a document
that lost lines, an odd line and a file of another format are read as text once more.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hanllama.base import workers
from hanllama.base.progress import Progress
from hanllama.corpus.dedup import plain_lines, scan
from hanllama.corpus.dedup.arena import Arena, joined
from hanllama.corpus.dedup.clusters import Fates, Names
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.plain_lines import Lines
from hanllama.corpus.dedup.spans import Span
from hanllama.corpus.dedup.summary import Summary
from hanllama.corpus.dedup.work import Store, Work, changed, save
from hanllama.corpus.parts import Parts
from hanllama.reading import records
from hanllama.reading.records import Document, Piece, Quarantine, Reject, document_line

BEGINNING = 80  # characters of a text that are shown in clusters.jsonl


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

    Returns the sha256 of the parts by their names.

    Raises InputError when the input is not what was scanned.
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
            parts.write_run(written.lines.data, written.sizes)
            names.add(written.names)
            summary.characters_kept += written.characters
            summary.emptied += written.emptied
            progress.advance(written.text_bytes / 1e6, documents=parts.documents)
        summary.documents_kept = parts.documents
    return parts.sums


@dataclass(frozen=True)
class _Known:
    """A job, and where the store has what the scan learnt of it.

    Attributes:
        documents: how many it has.
        lines: [parts] how many of each the store knows.
        first_line, first_cut: the job's first row in the store.
        cuts: how many it has.
        text_bytes: of its texts.
    """

    job: scan.Job
    documents: int
    lines: list[int]
    first_line: int
    first_cut: int
    cuts: int
    text_bytes: int


def _known(files: list[list[Path]], store: Store) -> Iterator[_Known]:
    """The jobs with what the scan has counted: so a span learns the number of its first line."""
    documents, part_lines = store.jobs, store.whole("part_lines").tolist()
    sums = store.whole("job_sums").tolist()
    part = line = cut = 0
    number_in_file, path = 1, ""
    for place, job in enumerate(scan.numbered(files, documents)):
        of_parts = part_lines[part : part + len(job.parts)]
        if len(of_parts) < len(job.parts):
            raise changed()
        parts: list[Piece | Span] = []
        for one, (n_lines, _) in zip(job.parts, of_parts, strict=True):
            if isinstance(one, Span):
                number_in_file = number_in_file if one.source.path == path else 1
                parts.append(replace(one, first=number_in_file))
                number_in_file, path = number_in_file + n_lines, one.source.path
            else:
                parts.append(one)
        n_cuts, n_bytes = sums[place]
        known = [n for _, n in of_parts]
        yield _Known(replace(job, parts=parts), documents[place], known, line, cut, n_cuts, n_bytes)
        part, line, cut = part + len(parts), line + sum(known), cut + n_cuts


# --- in the worker processes ---------------------------------------------------------------------


@dataclass
class _Written:
    """What stays of a job.

    Attributes:
        text_bytes: of all its texts.
        lines, sizes: what is written of them, end to end, and the bytes of each line.
        names: of the documents that clusters.jsonl shows.
        emptied: documents that went because nothing but boilerplate was in them.
    """

    text_bytes: int
    lines: NDArray[np.uint8]
    sizes: list[int]
    names: list[bytes]
    characters: int
    emptied: int
    rejects: list[Reject]


class _Writer:
    """A job's documents that stay, as lines of a corpus."""

    def __init__(self, config: DedupConfig, scanned: Path, work: Path) -> None:
        self.fields = config.fields
        self.store = Store(scanned)
        self.arena = Arena()
        self.removed = np.load(work / "removed.npy")
        self.shown = np.load(work / "shown.npy")

    def __call__(self, known: _Known) -> _Written:
        first, count = known.job.first, known.documents
        self.arena.clear()
        stays = np.ones(count, dtype=bool)
        stays[_within(self.removed, first, count)] = False
        emptied = stays & self.store.run("emptied", first, first + count)
        stays &= ~emptied
        characters = self.store.run("counts", first, first + count)[:, 2]
        cut = (known.first_cut, known.first_cut + known.cuts)
        output = _Output(
            stays,
            _within(self.shown, first, count),
            self.store.run("cut_document", *cut) - first,
            self.store.run("cut", *cut).astype(np.int64),
        )
        line = known.first_line
        for part, n_lines in zip(known.job.parts, known.lines, strict=True):
            if n_lines:
                sizes = self.store.run("line_bytes", line, line + n_lines)
                places = self.store.run("places", line, line + n_lines)
                self._lines(plain_lines.surveyed(part, sizes, places, self.arena), output)
                line += n_lines
            else:
                for piece in plain_lines.pieces(part):
                    output.take(records.parse(piece, self.fields))
        if output.number != count:
            raise changed()
        return _Written(
            known.text_bytes,
            joined(output.chunks),
            output.sizes,
            output.names,
            int(characters[stays].sum(dtype=np.int64)),
            int(emptied.sum()),
            output.rejects,
        )

    def _lines(self, lines: Lines | None, output: _Output) -> None:
        if lines is None:
            raise changed()
        for run, plain in lines.runs():
            if plain:
                output.copy(lines, run)
            else:
                output.take(lines.parsed(run.start, self.fields))


def _within(documents: NDArray[np.int64], first: int, count: int) -> NDArray[np.int64]:
    """Those of some ascending documents that a job has, counted from its first."""
    span = np.searchsorted(documents, [first, first + count])
    return documents[slice(*span)] - first


class _Output:
    """The documents of a job in order.

    Args:
        stays: [documents]
        shown: documents that clusters.jsonl shows, ascending.
        cut, spans: [cuts] the document, ascending, and [cuts, 2] what is cut out of its text, in
            bytes.
    """

    def __init__(
        self,
        stays: NDArray[np.bool_],
        shown: NDArray[np.int64],
        cut: NDArray[np.int64],
        spans: NDArray[np.int64],
    ) -> None:
        self.stays, self.shown, self.cut, self.spans = stays, shown, cut, spans
        self.number = 0  # of documents seen
        self.chunks = list[bytes | NDArray[np.uint8]]()
        self.sizes = list[int]()
        self.names = list[bytes]()
        self.rejects = list[Reject]()

    def copy(self, lines: Lines, run: range) -> None:
        """Plain lines."""
        first, self.number = self.number, self.number + len(run)
        if self.number > len(self.stays):
            raise changed()
        bounds = np.searchsorted(self.cut, np.arange(first, self.number + 1))
        data, sizes = lines.corpus_lines(run, self.stays[first : self.number], self.spans, bounds)
        self.chunks.append(data)
        self.sizes += sizes
        for number in (_within(self.shown, first, len(run)) + first).tolist():
            line = run.start + number - first
            try:
                self._name(lines.document(line, self._cut(lines.text(line), number)))
            except (json.JSONDecodeError, UnicodeDecodeError):
                raise changed() from None

    def take(self, items: Iterator[Document | Reject]) -> None:
        """What the general reader gives."""
        for item in items:
            if isinstance(item, Reject):
                self.rejects.append(item)
                continue
            number, self.number = self.number, self.number + 1
            if self.number > len(self.stays):
                raise changed()
            document = replace(item, text=self._cut(item.text, number))
            if self.stays[number]:
                line = document_line(document)
                self.chunks.append(line)
                self.sizes.append(len(line))
            if len(_within(self.shown, number, 1)):
                self._name(document)

    def _cut(self, text: str, number: int) -> str:
        """The text without what the scan has cut."""
        low, high = np.searchsorted(self.cut, [number, number + 1])
        if low == high:
            return text
        kept = scan.without(text.encode("utf-8"), self.spans[low:high])
        try:
            return kept.decode("utf-8")
        except UnicodeDecodeError:
            raise changed() from None

    def _name(self, document: Document) -> None:
        beginning = " ".join(document.text[: 2 * BEGINNING].split())[:BEGINNING]
        # JSON, since every character, U+0000 too, may stand in each of them.
        self.names.append(json.dumps((document.id, document.source, beginning)).encode())
