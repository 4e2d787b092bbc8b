"""`hanllama tokenize`: a corpus -> token shards, with a held-out split.

One pass over the corpus: documents are read, tokenized in batches and appended to a spool file,
and beside them go a few hashes a document from which, at the end, the held-out split is chosen
(`split.py`). Then the spool is dealt out to the two splits, a plain copy. So the text is read and
tokenized once, and memory does not grow with it.

The batches are cut by the reader and come back in order, so the shards are the same bytes for any
number of workers. Workers are threads: sentencepiece, the tokenizers library and numpy all work
outside the interpreter lock, and threads need no copies between processes.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama import __version__, fs, records
from hanllama.config import option
from hanllama.data import split as splitting
from hanllama.data.shards import (
    SHARD_TOKENS,
    TOKENIZER,
    Ids,
    ShardWriter,
    token_dtype,
    write_manifest,
)
from hanllama.errors import ConfigError, InputError
from hanllama.progress import Progress, duration
from hanllama.records import Document
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer, load_tokenizer

# Characters and documents in a batch: enough to outweigh a batch's fixed cost (about a
# millisecond), few enough that workers share a small corpus.
_BATCH_CHARACTERS = 2**18
_BATCH_DOCUMENTS = 4096
_SPOOL = ".spool"
# Sources that the manifest names; a corpus of a million files is named by its inputs.
_SOURCES = 1000


@dataclass(frozen=True)
class TokenizeConfig:
    """Options of `hanllama tokenize`."""

    inputs: tuple[str, ...] = option(help="files, folders or globs of text", positional=True)
    tokenizer: str = option(help="the tokenizer's folder, or a model's")
    output: str = option(help="the shards folder to write")
    holdout: float = option(0.01, help="share of the characters to hold out, by document")
    seed: int = option(0, help="of the choice of held-out documents")
    workers: int = option(0, help="threads; 0 means one per core; the result does not depend on it")
    shard_tokens: int = option(SHARD_TOKENS, help="tokens after which the next file begins")
    text_field: str = option("text", help="the field of JSON lines or Parquet that holds the text")
    force: bool = option(False, help="replace the output folder if it exists")

    def __post_init__(self) -> None:
        if not 0 <= self.holdout < 0.5:
            raise ConfigError(f"holdout must be at least 0 and less than 0.5, not {self.holdout}")
        if self.shard_tokens < 1:
            raise ConfigError(f"shard_tokens must be at least 1, not {self.shard_tokens}")
        if self.workers < 0:
            raise ConfigError(f"workers must not be negative, not {self.workers}")


def tokenize(options: TokenizeConfig) -> Path:
    """Tokenize a corpus and publish its shards folder.

    Raises InputError for an empty corpus, a missing tokenizer or an existing output.
    """
    output = Path(options.output)
    if output.exists() and not options.force:
        raise InputError(f"{output} exists already; choose another folder or give --force")
    tokenizer = load_tokenizer(options.tokenizer)
    began = time.monotonic()
    with fs.publish(output, replace=options.force) as folder:
        with records.Quarantine(folder / "quarantine.jsonl") as quarantine:
            spool = _fill_spool(options, tokenizer, folder / _SPOOL, quarantine)
        if not quarantine.count:
            (folder / "quarantine.jsonl").unlink()
        if not spool.documents:
            raise InputError(_nothing(options.inputs, quarantine, spool.blank))
        holdout = spool.sketch.choose(options.holdout)
        writers = _deal(options, tokenizer, folder, spool, holdout)
        (folder / _SPOOL).unlink()
        (folder / TOKENIZER).mkdir()
        copy_tokenizer(tokenizer.folder, folder / TOKENIZER)
        write_manifest(
            folder,
            writers,
            vocab_size=tokenizer.vocab_size,
            tokenizer_hash=tokenizer.hash,
            token_bytes=tokenizer.token_bytes(),
            facts=_facts(options, tokenizer, spool, holdout, quarantine),
        )
    _report(options, tokenizer, spool, holdout, quarantine, writers, time.monotonic() - began)
    return output


# --- one pass over the corpus ----------------------------------------------------------------


@dataclass
class _Batch:
    """Some documents, tokenized; made by a worker."""

    documents: list[Document]
    ids: Ids  # end to end, in the shards' own type
    lengths: NDArray[np.int64]
    text_bytes: NDArray[np.int64]
    fallbacks: int
    sketch: splitting.SketchPart | None


class _Spool:
    """The whole corpus as tokens in one file, and what is known of its documents."""

    def __init__(self, path: Path, dtype: np.dtype[Any], seed: int) -> None:
        self.path, self.dtype = path, dtype
        self.sketch = splitting.Sketch(seed)
        self.documents = self.characters = self.bytes = self.tokens = 0
        self.fallbacks = self.blank = 0
        self.sources: Counter[str] = Counter()
        self._lengths: list[NDArray[np.int64]] = []
        self._text_bytes: list[NDArray[np.int64]] = []

    def add(self, batch: _Batch, out: Any) -> None:
        with fs.storage(self.path):
            out.write(batch.ids.tobytes())
        if batch.sketch is not None:
            self.sketch.add(batch.documents, batch.sketch)
        self._lengths.append(batch.lengths)
        self._text_bytes.append(batch.text_bytes)
        self.documents += len(batch.documents)
        self.characters += sum(len(d.text) for d in batch.documents)
        self.bytes += int(batch.text_bytes.sum())
        self.tokens += int(batch.ids.size)
        self.fallbacks += batch.fallbacks
        for document in batch.documents:
            name = document.source.rsplit(":", 1)[0]
            if name in self.sources or len(self.sources) < _SOURCES:
                self.sources[name] += 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.concatenate(self._lengths)

    @property
    def text_bytes(self) -> NDArray[np.int64]:
        return np.concatenate(self._text_bytes)


def _fill_spool(
    options: TokenizeConfig, tokenizer: Tokenizer, path: Path, quarantine: records.Quarantine
) -> _Spool:
    spool = _Spool(path, token_dtype(tokenizer.vocab_size), options.seed)
    is_fallback = tokenizer.is_fallback()

    def work(documents: list[Document]) -> _Batch:
        texts = [d.text for d in documents]
        ids, lengths = tokenizer.encode_flat(texts)
        # The type was chosen to hold every id below vocab_size, and the shard writer checks that
        # none is above; here none may wrap on its way there.
        assert int(ids.min()) >= 0 and int(ids.max()) < tokenizer.vocab_size
        return _Batch(
            documents,
            ids.astype(spool.dtype),
            lengths,
            np.array([len(t.encode()) for t in texts], dtype=np.int64),
            int(np.count_nonzero(is_fallback[ids])),
            splitting.sketch_part(texts) if options.holdout else None,
        )

    stream = records.read(list(options.inputs), quarantine, text_field=options.text_field)
    batches = _batches(stream, spool)
    with (
        Progress("tokenize", unit="MB") as progress,
        fs.storage(path),
        open(path, "wb") as out,
    ):
        for batch in _in_order(work, batches, options.workers or os.cpu_count() or 1):
            spool.add(batch, out)
            progress.advance(int(batch.text_bytes.sum()) / 1e6, documents=spool.documents)
    return spool


def _batches(stream: Iterable[Document], spool: _Spool) -> Iterator[list[Document]]:
    """Runs of documents; blank ones are counted and left out."""
    batch: list[Document] = []
    characters = 0
    for document in stream:
        if not document.text or document.text.isspace():
            spool.blank += 1
            continue
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _in_order(
    work: Callable[[list[Document]], _Batch], batches: Iterable[list[Document]], workers: int
) -> Iterator[_Batch]:
    """`map(work, batches)` on some threads, reading ahead by two batches a worker."""
    if workers == 1:
        yield from map(work, batches)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="tokenize") as pool:
        waiting: deque[Future[_Batch]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(work, batch))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# --- the spool -> shards ---------------------------------------------------------------------


def _deal(
    options: TokenizeConfig,
    tokenizer: Tokenizer,
    folder: Path,
    spool: _Spool,
    holdout: splitting.Holdout,
) -> dict[str, ShardWriter]:
    """Copy the spooled documents, in the order of the corpus, into their splits."""
    names = ["train", "heldout"] if holdout.documents else ["train"]
    writers = {n: ShardWriter(folder, n, tokenizer.vocab_size, options.shard_tokens) for n in names}
    lengths, text_bytes = spool.lengths, spool.text_bytes
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.memmap(spool.path, dtype=spool.dtype, mode="r").view(np.ndarray)

    def copy(name: str, begin: int, end: int) -> None:
        # In steps, so that a corpus larger than memory is no array in memory.
        step = _BATCH_DOCUMENTS
        for low in range(begin, end, step):
            high = min(low + step, end)
            part = slice(low, high)
            writers[name].extend(
                tokens[starts[low] : starts[high]], lengths[part], int(text_bytes[part].sum())
            )

    at = 0
    for number in holdout.documents:
        copy("train", at, number)
        if holdout.tail_characters:
            text = _document(options, number).text
            cut = splitting.cut_tail(text, holdout.tail_characters)
            for name, part in (("train", text[:cut]), ("heldout", text[cut:])):
                (ids,) = tokenizer.encode_documents([part])
                writers[name].add(ids, len(part.encode()))
        else:
            copy("heldout", number, number + 1)
        at = number + 1
    copy("train", at, spool.documents)
    return writers


def _document(options: TokenizeConfig, number: int) -> Document:
    """Read one document again, by its number among those that are not blank."""
    if list(options.inputs) == ["-"]:
        raise InputError("standard input cannot be read twice; give a file or --holdout 0")
    with records.Quarantine() as again:
        stream = records.read(list(options.inputs), again, text_field=options.text_field)
        kept = (d for d in stream if d.text and not d.text.isspace())
        for i, document in enumerate(kept):
            if i == number:
                return document
    raise InputError("the corpus changed while it was being read; run the command again")


# --- what is said of it ----------------------------------------------------------------------


def _facts(
    options: TokenizeConfig,
    tokenizer: Tokenizer,
    spool: _Spool,
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
    spool: _Spool,
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
