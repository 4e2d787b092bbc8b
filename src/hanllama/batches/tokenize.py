"""`hanllama tokenize`: a corpus -> token shards, with a held-out split.

One pass over the corpus: worker processes parse and tokenize its pieces (books, runs of JSON
lines). A spool keeps the tokens, in memory or in a file, with a few hashes per document, from which
the held-out split is chosen at the end (`split.py`). Then the spool is copied into the two splits.
So the text is read and tokenized once, and memory does not grow with it.

One reader cuts the pieces and their results come back in order, so the shards are the same bytes
for any number of workers. The same command again continues a stopped or killed one (`spool.py`),
and does nothing if the shards were made from the same text, tokenizer and options.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama import __version__
from hanllama.base import fingerprint, fs, workers
from hanllama.base.config import Count, Natural, checked, option
from hanllama.base.errors import InputError, Interrupted
from hanllama.base.making import Making, making
from hanllama.base.progress import Progress, duration
from hanllama.batches import split as splitting
from hanllama.batches.shards import (
    MANIFEST,
    SHARD_TOKENS,
    TOKENIZER,
    ShardWriter,
    token_dtype,
    write_manifest,
)
from hanllama.batches.spool import Batch, Journal, Spool
from hanllama.reading import records
from hanllama.reading.records import Document, Piece, Reject
from hanllama.text import letters
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer, load_tokenizer

# Below this size a second process would not have started before the corpus is tokenized.
_SMALL_BYTES = 12_000_000
_SPOOL = ".spool"


@checked
class TokenizeConfig:
    """Options of `hanllama tokenize`."""

    inputs: tuple[str, ...] = option(help="files, folders or globs of text", positional=True)
    tokenizer: str = option(help="the tokenizer's folder, or a model's")
    output: str = option(help="the shards folder to write")
    holdout: float = option(0.01, ge=0, lt=0.5, help="share of characters to hold out, by document")
    seed: int = option(0, help="seed of the choice of held-out documents")
    workers: Natural = option(0, help="processes; 0 means one per core; the result is the same")
    shard_tokens: Count = option(SHARD_TOKENS, help="tokens after which the next file begins")
    text_field: str = option("text", help="the field of JSON lines or Parquet that holds the text")
    force: bool = option(False, help="replace the output folder if it exists")


def tokenize(options: TokenizeConfig) -> Path:
    """Tokenize a corpus and publish its shards folder, unless it already exists.

    Raises InputError for an empty corpus, a missing tokenizer, or an output that was made from
    something else or in which another run is at work.
    """
    worker = _Worker(options)
    with making(
        options.output,
        options.inputs,
        force=options.force,
        made_from=lambda: _made_from(options, worker.tokenizer),
        published=_published,
    ) as made:
        if not made.complete:
            _tokenize(options, worker, made)
    return made.output


def _tokenize(options: TokenizeConfig, worker: _Worker, made: Making) -> None:
    began = time.monotonic()
    if workers.forks():
        worker.load()  # once, for all forked processes; elsewhere each loads for itself
    pieces, size = _pieces(options.inputs)
    n_workers = workers.count(options.workers, size, _SMALL_BYTES)
    gc.freeze()  # or a collection in a fork would touch, and so copy, the loaded objects
    processes = workers.Workers[_Job, Batch](n_workers, _itself, (worker,))
    gc.unfreeze()
    with contextlib.closing(processes):
        worker.load()
        journal = Journal(made)
        sums: dict[str, str] = {}
        with made.publish(sums) as folder:
            results = functools.partial(processes.ordered, build=lambda: worker)
            spool, quarantine = _fill_spool(options, pieces, results, folder, journal)
            processes.close()  # frees their memory
            tokenizer = worker.tokenizer
            holdout = spool.sketch.choose(options.holdout)
            writers = _deal(options, tokenizer, folder, spool, holdout)
            spool.path.unlink(missing_ok=True)
            (folder / TOKENIZER).mkdir()
            copy_tokenizer(tokenizer.folder, folder / TOKENIZER)
            write_manifest(
                folder,
                writers,
                vocab_size=tokenizer.vocab_size,
                tokenizer_hash=tokenizer.hash,
                token_bytes=tokenizer.token_bytes(),
                facts=_facts(options, tokenizer, spool, holdout, quarantine)
                | {"made_from": made.made_from},
            )
            for writer in writers.values():
                sums |= writer.sums()
    _report(options, tokenizer, spool, holdout, quarantine, writers, time.monotonic() - began)


def _made_from(options: TokenizeConfig, tokenizer: Tokenizer) -> dict[str, str]:
    """Hashes of all that the shards depend on; hashing the text costs about 1 % of the run."""
    corpus = ""  # standard input cannot be read twice
    if list(options.inputs) != ["-"]:
        survey = records.survey([name for name in options.inputs if name != "-"])
        sums = []
        with Progress("fingerprint of the text", survey.size / 1e6, unit="MB") as progress:
            for path in survey.files:
                # The reader names and counts files that cannot be read.
                readable = path.is_file() and os.access(path, os.R_OK)
                sums.append((path.name, fs.sha256(path) if readable else ""))
                progress.advance(path.stat().st_size / 1e6 if readable else 0)
        corpus = fingerprint.of_json(sums)
    wanted = {name: getattr(options, name) for name in _DECIDING}
    return {
        "corpus": corpus,
        "options": fingerprint.of_json(wanted),
        "tokenizer": tokenizer.hash,
        "version": __version__,
    }


_DECIDING = ("holdout", "seed", "shard_tokens", "text_field")  # options that change the shards


def _published(output: Path) -> dict[str, str] | None:
    """The `made_from` of a finished shards folder; None when the folder is something else."""
    if not (output / MANIFEST).is_file() or not (output / fs.SUMS).is_file():
        return None
    found: dict[str, str] = fs.read_json(output / MANIFEST).get("made_from", {})
    # Standard input has no hash, so it equals nothing.
    return found if found.get("corpus") else None


# --- in a worker -----------------------------------------------------------------------------


_Job = tuple[list[Piece], int]  # the pieces, and the present `Sketch.kept_of`


class _Worker:
    """Parses and tokenizes pieces, in this process or another.

    A forked process inherits what `load` loaded. Another one loads it with its first job, so that
    an unreadable tokenizer is reported as an error of that job.
    """

    def __init__(self, options: TokenizeConfig) -> None:
        self.options = options

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options}

    def load(self) -> None:
        """Load the tokenizer and the tables, which the first job would load otherwise."""
        if self.options.holdout:
            letters.counted()
        assert self.is_fallback.size == self.tokenizer.vocab_size

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.options.tokenizer)

    @functools.cached_property
    def is_fallback(self) -> NDArray[np.bool_]:
        return self.tokenizer.is_fallback()

    def __call__(self, job: _Job) -> Batch:
        pieces, kept_of = job
        rejects: list[Reject] = []
        documents: list[Document] = []
        blank = 0
        for piece in pieces:
            for item in records.parse(piece, self.options.text_field):
                if isinstance(item, Reject):
                    rejects.append(item)
                elif _is_blank(item):
                    blank += 1
                else:
                    documents.append(item)
        texts = [d.text for d in documents]
        ids, lengths = self.tokenizer.encode_flat(texts)
        # The shard writer refuses ids outside the vocabulary; none may wrap before it sees them.
        assert ids.size == 0 or 0 <= int(ids.min()) <= int(ids.max()) < self.tokenizer.vocab_size
        sketch = None
        if self.options.holdout:
            sketch = splitting.sketch_part(documents, self.options.seed, kept_of)
        return Batch(
            rejects,
            blank,
            Counter(d.source.rsplit(":", 1)[0] for d in documents),
            ids.astype(token_dtype(self.tokenizer.vocab_size)),
            lengths,
            np.array([len(t.encode()) for t in texts], dtype=np.int64),
            sum(map(len, texts)),
            int(np.count_nonzero(self.is_fallback.take(ids))),
            sketch,
        )


def _itself(worker: _Worker) -> _Worker:
    """How another process makes the worker from its argument."""
    return worker


def _is_blank(document: Document) -> bool:
    return not document.text or document.text.isspace()


# --- one pass over the corpus ----------------------------------------------------------------


def _fill_spool(
    options: TokenizeConfig,
    pieces: Iterable[Piece],
    results: Callable[[Iterable[_Job]], Generator[Batch, None, None]],
    folder: Path,
    journal: Journal,
) -> tuple[Spool, records.Quarantine]:
    spool = Spool(folder / _SPOOL)
    quarantine = records.Quarantine(folder / "quarantine.jsonl")
    with quarantine, Progress("tokenize", unit="MB") as progress, contextlib.closing(journal):

        def take(batch: Batch) -> None:
            for reject in batch.rejects:
                quarantine.put(reject)
            spool.add(batch)
            progress.advance(int(batch.text_bytes.sum()) / 1e6, documents=spool.documents)

        for batch in journal.saved():
            take(batch)
        runs = itertools.islice(_jobs(pieces), spool.batches, None)
        jobs = ((job, spool.sketch.kept_of) for job in runs)
        with contextlib.closing(results(jobs)) as batches:
            try:
                for batch in batches:
                    take(batch)
                    if list(options.inputs) != ["-"]:
                        journal.add(batch)
            except Interrupted:
                journal.save()
                raise
    if not quarantine.count:
        (folder / "quarantine.jsonl").unlink()
    if not spool.documents:
        journal.made.remove()
        raise InputError(_nothing(options.inputs, quarantine, spool.blank))
    return spool, quarantine


def _pieces(inputs: Iterable[str]) -> tuple[Iterator[Piece], int]:
    """The corpus cut into pieces, and its size on disk (0 for standard input)."""
    survey = records.survey(list(inputs))
    return survey.pieces(), survey.size


def _jobs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield runs of pieces, each about `workers.JOB_BYTES` or a single larger piece."""
    job: list[Piece] = []
    size = 0
    for piece in pieces:
        job.append(piece)
        size += piece.held_bytes or piece.size
        if size >= workers.JOB_BYTES:
            yield job
            job, size = [], 0
    if job:
        yield job


# --- the spool -> shards ---------------------------------------------------------------------


def _deal(
    options: TokenizeConfig,
    tokenizer: Tokenizer,
    folder: Path,
    spool: Spool,
    holdout: splitting.Holdout,
) -> dict[str, ShardWriter]:
    """Copy the spooled documents, in the order of the corpus, into their splits."""
    names = ["train", "heldout"] if holdout.documents else ["train"]
    writers = {n: ShardWriter(folder, n, tokenizer.vocab_size, options.shard_tokens) for n in names}
    held_out = set(holdout.documents)
    first = 0
    for ids, lengths, text_bytes in spool.documents_by_batch():
        starts = np.concatenate([[0], np.cumsum(lengths)])
        here = sorted(held_out.intersection(range(first, first + lengths.size)))
        # The documents between two cuts go to the same split.
        cuts = sorted({0, lengths.size, *(n - first for n in here), *(n - first + 1 for n in here)})
        for low, high in itertools.pairwise(cuts):
            number = first + low
            if number in held_out and holdout.tail_characters:
                text = _document(options, number).text
                cut = splitting.cut_tail(text, holdout.tail_characters)
                for name, part in (("train", text[:cut]), ("heldout", text[cut:])):
                    (row,) = tokenizer.encode_documents([part])
                    writers[name].add(row, len(part.encode()))
            else:
                writers["heldout" if number in held_out else "train"].extend(
                    ids[starts[low] : starts[high]],
                    lengths[low:high],
                    int(text_bytes[low:high].sum()),
                )
        first += lengths.size
    return writers


def _document(options: TokenizeConfig, number: int) -> Document:
    """Read one document again, by its number among the documents that are not blank."""
    if list(options.inputs) == ["-"]:
        raise InputError("standard input cannot be read twice; give a file or --holdout 0")
    with records.Quarantine() as again:
        stream = records.read(list(options.inputs), again, options.text_field)
        kept = (d for d in stream if not _is_blank(d))
        for i, document in enumerate(kept):
            if i == number:
                return document
    raise InputError("the corpus changed while it was being read; run the command again")


# --- the manifest's facts and the printed report ---------------------------------------------


def _facts(
    options: TokenizeConfig,
    tokenizer: Tokenizer,
    spool: Spool,
    holdout: splitting.Holdout,
    quarantine: records.Quarantine,
) -> dict[str, Any]:
    return {
        "hanllama": __version__,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
        "adds_bos": tokenizer.adds_bos,
        "corpus": {
            "inputs": list(options.inputs),
            "documents": spool.documents,
            "characters": spool.characters,
            "bytes": spool.bytes,
            "blank_documents": spool.blank,
            "unusable_records": quarantine.count,
            "sources": dict(spool.sources),
        },
        "fallback_tokens": spool.fallbacks,
        "holdout": {
            "share": options.holdout,
            "seed": options.seed,
            "documents": list(holdout.documents),
            "tail_characters": holdout.tail_characters,
            "refused_as_copies": holdout.refused,
            "note": holdout.note,
        },
    }


def _report(
    options: TokenizeConfig,
    tokenizer: Tokenizer,
    spool: Spool,
    holdout: splitting.Holdout,
    quarantine: records.Quarantine,
    writers: dict[str, ShardWriter],
    seconds: float,
) -> None:
    if quarantine.count:
        print(
            f"unusable records  {quarantine.count:,} ({quarantine.summary()}), see quarantine.jsonl"
        )
    if spool.blank:
        print(f"blank documents   {spool.blank:,}, left out")
    for name, writer in writers.items():
        print(
            f"{name:<17} {writer.n_documents:,} documents, {writer.n_tokens:,} tokens,"
            f" {writer.n_bytes / 1e6:,.1f} MB"
        )
    if holdout.refused:
        print(f"not held out      {holdout.refused:,} documents that repeat another one")
    if holdout.note:
        print(f"note              {holdout.note}")
    print(f"characters/token  {spool.characters / spool.tokens:.3f}")
    print(
        f"unknown           {spool.fallbacks / spool.tokens:.3%} of tokens (characters spelt in"
        " bytes)"
    )
    print(f"speed             {spool.bytes / 1e6 / seconds:,.1f} MB/s, {duration(seconds)}")
    print(f"shards            {options.output}")


def _nothing(inputs: tuple[str, ...], quarantine: records.Quarantine, blank: int) -> str:
    why = "it holds no text"
    if quarantine.count:
        why = f"none of its records could be used: {quarantine.summary()}"
    elif blank:
        why = f"all of its {blank:,} documents are blank"
    return f"corpus {', '.join(inputs)} is empty: {why}"
