"""`hanllama tokenizer compare A B C`: several vocabularies, measured on the same text.

Definitions, over texts (samples) of UTF-8 bytes and Unicode characters; BOS and EOS do not count:

- tokens per character: tokens / characters. Colossal-LLaMA-2 calls it compression rate (in each row
  of its table, mean tokens per sample / rate gives the same characters per sample).
- mean tokens per sample: tokens / texts. bytes per token: bytes / tokens.
- byte share: the share of tokens that are unknown or spell a rare character in bytes. A byte-level
  BPE has no fallback; its share counts the tokens that hold a broken character.
- round-trip failures: texts that decode to something else.
- embedding parameters: vocabulary x width, for one matrix; untied models have two.
- speed: MB of text per second on this machine, one thread, the best of three passes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.base.config import Count, Natural, Texts, checked, option
from hanllama.base.making import Making, making
from hanllama.base.progress import duration
from hanllama.tokenizer import hf
from hanllama.tokenizer.audit import read_texts, sample_texts
from hanllama.tokenizer.import_ import opened
from hanllama.tokenizer.load import Tokenizer

# The example of the Baby-Llama2-Chinese project: a poem of the eighth century, with its ASCII
# commas. Llama-2 takes 37 pieces for it, that project's vocabulary 18.
SENTENCES = ("白日依山尽,黄河入海流。欲穷千里目,更上一层楼。",)
CHUNK_BYTES = 2**18  # encoded in one call, as a corpus is; Ctrl-C waits for one chunk
SPEED_BYTES = 2**22  # the speed is measured on so much of the texts


@checked
class TokenizerCompareConfig:
    """Options of `hanllama tokenizer compare`."""

    tokenizers: Texts = option(
        help="tokenizer or model folders, .model, tokenizer.json or tiktoken files",
        positional=True,
    )
    text: tuple[str, ...] = option((), help="text to measure on; a sample ships with hanllama")
    text_field: str = option("text", help="the field of JSON lines or Parquet that holds the text")
    sample_bytes: Natural = option(20_000_000, help="how much of the text to use; 0 means all")
    width: Count = option(512, help="hidden size for which the embedding's parameters are counted")
    sentence: tuple[str, ...] = option(SENTENCES, help="sentences to show cut into pieces")
    output: str = option("", help="a folder for compare.json and report.html")
    force: bool = option(False, help="replace the output folder if it exists")


@dataclass(frozen=True)
class Row:
    """One tokenizer's numbers, defined at the top of the file."""

    name: str
    vocabulary: int
    tokens_per_character: float
    tokens_per_sample: float
    bytes_per_token: float
    byte_share: float
    round_trip_failures: int
    megabytes_per_second: float
    embedding_parameters: int
    pieces: dict[str, list[str]]
    training_seconds: float | None = None


@dataclass
class Comparison:
    """The rows of one table, all measured on the same texts."""

    width: int = 512
    sentences: Sequence[str] = SENTENCES
    rows: list[Row] = field(default_factory=list)
    samples: int = 0
    characters: int = 0
    not_trained: dict[str, str] = field(default_factory=dict)  # algorithm -> why training failed

    def add(
        self,
        name: str,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        training_seconds: float | None = None,
    ) -> None:
        """Measure a tokenizer on `texts`, which must be the same for every row."""
        self.samples, self.characters = len(texts), sum(map(len, texts))
        size = sum(len(text.encode()) for text in texts)
        encoded = [tokenizer.encode_raw(chunk) for chunk in _chunks(texts)]
        ids = np.concatenate([ids for ids, _ in encoded])
        lengths = np.concatenate([lengths for _, lengths in encoded])
        failures = _failures(tokenizer, texts, ids, lengths)
        self.rows.append(
            Row(
                name=name,
                vocabulary=tokenizer.vocab_size,
                tokens_per_character=ids.size / max(self.characters, 1),
                tokens_per_sample=ids.size / max(len(texts), 1),
                bytes_per_token=size / max(ids.size, 1),
                byte_share=float(_spelt(tokenizer)[ids].mean()) if ids.size else 0.0,
                round_trip_failures=failures,
                megabytes_per_second=_speed(tokenizer, texts, size),
                embedding_parameters=tokenizer.vocab_size * self.width,
                pieces={s: pieces(tokenizer, s) for s in self.sentences},
                training_seconds=training_seconds,
            )
        )

    def as_dict(self) -> dict[str, Any]:
        """The content of compare.json."""
        return {
            "samples": self.samples,
            "characters": self.characters,
            "width": self.width,
            "tokenizers": [asdict(row) for row in self.rows],
            **({"not_trained": self.not_trained} if self.not_trained else {}),
        }

    def card(self) -> Card:
        """The numbers and the sentences in pieces; compare.json is `as_dict`."""
        texts = f"{self.samples:,} texts of {self.characters:,} characters; width {self.width}"
        card = Card("Tokenizers compared", texts)
        card.section("Numbers")
        headings = ["tokenizer", "vocabulary", "tokens/character", "tokens/sample", "bytes/token"]
        headings += ["byte share", "round-trip failures", "MB/s", "embedding parameters"]
        rows: list[tuple[Any, ...]] = [
            (
                row.name,
                row.vocabulary,
                f"{row.tokens_per_character:.3f}",
                f"{row.tokens_per_sample:,.1f}",
                f"{row.bytes_per_token:.2f}",
                f"{row.byte_share:.2%}",
                row.round_trip_failures,
                f"{row.megabytes_per_second:.1f}",
                row.embedding_parameters,
            )
            for row in self.rows
        ]
        if any(row.training_seconds for row in self.rows):
            headings += ["training"]
            times = [duration(row.training_seconds or 0.0) for row in self.rows]
            rows = [(*row, time) for row, time in zip(rows, times, strict=True)]
        card.table(rows, headings)
        for name, why in self.not_trained.items():
            card.note(f"{name} was not trained: {why}", "bad")
        card.section("Plots")
        for title, unit, values in (
            ("Tokens per character", "tokens", [r.tokens_per_character for r in self.rows]),
            ("Byte share", "%", [100 * r.byte_share for r in self.rows]),
            ("Embedding", "parameters", [r.embedding_parameters for r in self.rows]),
            ("Speed", "MB/s", [r.megabytes_per_second for r in self.rows]),
        ):
            named = {row.name: value for row, value in zip(self.rows, values, strict=True)}
            card.add(report.ranking(named, title=title, unit=unit))
        card.section("Sentences in pieces")
        for sentence in self.sentences:
            cut = [(row.name, row.pieces[sentence]) for row in self.rows]
            shown = [(name, len(parts), " ".join(parts)) for name, parts in cut]
            card.table(shown, ["tokenizer", "tokens", "pieces"], sentence)
        return card


def compare(options: TokenizerCompareConfig) -> Comparison:
    """Measure every tokenizer on the same texts and print the table.

    Raises InputError for a missing tokenizer or text and for an existing output folder.
    """
    with making(options.output, force=options.force) if options.output else nullcontext() as made:
        return _compare(options, made)


def _compare(options: TokenizerCompareConfig, made: Making | None) -> Comparison:
    texts = sample_texts("zh")
    if options.text:
        texts = read_texts(options.text, options.text_field, options.sample_bytes)
    comparison = Comparison(options.width, options.sentence)
    for short, name in zip(_short(options.tokenizers), options.tokenizers, strict=True):
        with opened(name) as tokenizer:
            comparison.add(short, tokenizer, texts)
    card = comparison.card()
    card.print()
    if made:
        with made.publish() as folder:
            card.write(folder, comparison.as_dict(), "compare.json")
        print(f"\nreport: {made.output / 'report.html'}")
    return comparison


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a text, readable: part of a character as `<0xE4>`."""
    ids, _ = tokenizer.encode_raw([text])
    return [shown(tokenizer.piece(int(i))) for i in ids]


def shown(piece: str) -> str:
    """A piece for display: spaces as `▁`, other white space and controls escaped."""
    spaced = piece.replace(" ", hf.SPACE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in spaced)


def _short(names: Sequence[str]) -> list[str]:
    """The file names without folder and suffix where that keeps them different."""
    short = [Path(n).stem if Path(n).is_file() else Path(n).name for n in names]
    return [s if short.count(s) == 1 else n for s, n in zip(short, names, strict=True)]


def _failures(tokenizer: Tokenizer, texts: Sequence[str], ids: Any, lengths: Any) -> int:
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    failures = 0
    for text, row in zip(texts, rows, strict=True):
        back = tokenizer.decode(row)
        # SentencePiece returns its own space, U+2581, as a space.
        failures += back != text and back != text.replace(hf.SPACE, " ")
    return failures


def _spelt(tokenizer: Tokenizer) -> Any:
    """[vocab_size] bool: true for a part of a character and for the unknown token."""
    mask = tokenizer.is_fallback()
    if not mask.any():
        for i in range(tokenizer.vocab_size):
            mask[i] = tokenizer.piece(i).startswith("<0x")
    return mask


def _speed(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> float:
    """MB per second of encoding, the best of three passes over at most 4 MB."""
    some, used = [], 0
    for text in texts:
        if used >= SPEED_BYTES:
            break
        some.append(text)
        used += len(text.encode())
    chunks = list(_chunks(some))
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for chunk in chunks:
            tokenizer.encode_raw(chunk)
        best = min(best, time.perf_counter() - began)
    return used / best / 1e6


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in groups of about `CHUNK_BYTES`; one empty group if there are none."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text.encode())
    yield chunk
