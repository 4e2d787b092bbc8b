"""`hanllama tokenizer train`: a corpus -> a tokenizer folder, by any algorithm.

Lines are the training sentences; a corpus larger than `sample_bytes` is sampled line by line in one
pass and bounded memory. The algorithms are files in `algorithms/`; the default is BPE with byte
fallback, which every back end reads the same way. Several algorithms are trained on one sample,
each into its own folder, and compared in one table. If one of them cannot be trained, the others
are still published, and the command ends with an error.

The ids are the same for every model: <unk> 0, <s> 1, </s> 2, <pad> 3, then the chat control
tokens, the user's symbols, bytes and pieces. Chat templates use the control tokens; no typed text
produces them.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hanllama import __version__
from hanllama.base import config, fs, plugins
from hanllama.base.config import Natural, checked, option
from hanllama.base.errors import ConfigError, HanllamaError, InputError, StorageError
from hanllama.base.making import making
from hanllama.base.progress import Progress
from hanllama.reading import records
from hanllama.tokenizer import chat, hf, own_process, words
from hanllama.tokenizer.algorithms import Algorithm, Settings
from hanllama.tokenizer.audit import tell_unusable
from hanllama.tokenizer.compare import Comparison
from hanllama.tokenizer.load import Tokenizer, load_tokenizer

ALGORITHMS = "hanllama.tokenizer.algorithms"
CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>")
FIXED_PIECES = 4 + len(CONTROL_TOKENS) + 256  # special tokens and bytes
MEASURED_CHARACTERS = 1_000_000  # part of its own sample, for the table at the end
# These options do not change the tokenizer, so they are not recorded: same input, same folder.
_NO_EFFECT = ("output", "threads", "force")

# The defaults of each preset. `none` is this project's own choice: a vocabulary that leaves a small
# model most of its parameters, and single digits (as Llama has). `baby-llama2` repeats the settings
# of the Baby-Llama2-Chinese project.
PRESETS: dict[str, dict[str, Any]] = {
    "none": {
        "vocab_size": 16384,
        "character_coverage": 0.9995,
        "max_sentence_length": 16384,
        "cut_long_lines": True,
        "split_digits": True,
    },
    "baby-llama2": {
        "vocab_size": 32000,
        "character_coverage": 0.9995,
        "max_sentence_length": 2657,
        "cut_long_lines": False,
        "split_digits": False,
    },
}


@checked
class TokenizerTrainConfig:
    """Options of `hanllama tokenizer train`."""

    inputs: tuple[str, ...] = option(help="files, folders or globs of text", positional=True)
    output: str = option(help="the tokenizer folder to write")
    preset: Literal["none", "baby-llama2"] = option(
        "none", help="settings of a known project; other options override them"
    )
    vocab_size: int | None = option(None, help="pieces, special tokens and bytes included")
    algorithm: tuple[str, ...] = option(
        ("bpe",),
        help="bpe, unigram, char, word, byte_bpe, wordpiece; several are trained and compared",
    )
    character_coverage: float | None = option(
        None, ge=0.98, le=1, help="share of the text whose characters get pieces, not bytes"
    )
    max_sentence_length: Natural | None = option(
        None, help="the longest line to train on, in UTF-8 bytes; longer ones are counted"
    )
    cut_long_lines: bool | None = option(
        None, help="cut longer lines into several instead of leaving them out"
    )
    split_digits: bool | None = option(None, help="every digit is a piece of its own")
    user_symbols: tuple[str, ...] = option((), help="texts that are always one piece")
    words: str = option("", help="a file of words, one a line; pieces do not cross their borders")
    chat_template: str = option("", help="a chat template to put in the folder: chatml, llama2, …")
    sample_bytes: Natural = option(
        50_000_000, help="train on a random sample of lines of this size; 0 means all of them"
    )
    seed: Natural = option(0, help="seed of the sample")
    threads: Natural = option(0, help="0 means one per core; the result does not depend on it")
    text_field: str = option("text", help="the field of JSON lines or Parquet that holds the text")
    force: bool = option(False, help="replace the output folder if it exists")

    def __post_init__(self) -> None:
        fixed = FIXED_PIECES + len(self.user_symbols)
        if self.vocab_size is not None and self.vocab_size <= fixed:
            raise ConfigError(
                f"vocab_size {self.vocab_size} is too small: 256 bytes and {fixed - 256} special"
                f" tokens alone take {fixed}, and every character needs one more"
            )
        if not self.algorithm:
            raise ConfigError("algorithm is empty; name one of " + ", ".join(algorithms()))
        for name in self.algorithm:
            plugins.load(ALGORITHMS, name)
        folders = [_folder_of(name) for name in self.algorithm]
        if twice := [name for name in folders if folders.count(name) > 1]:
            raise ConfigError(f"algorithm: {twice[0]!r} stands twice, and each has its own folder")
        for number, symbol in enumerate(self.user_symbols):
            if why := _unfit(symbol, self.user_symbols[:number]):
                raise ConfigError(f"user_symbols: number {number + 1} ({symbol!r}) {why}")
        if self.chat_template:
            chat.source(self.chat_template)

    def setting(self, name: str) -> Any:
        """The value of an option, or the preset's if it was not given."""
        value = getattr(self, name)
        return PRESETS[self.preset][name] if value is None else value


def _unfit(symbol: str, before: Sequence[str]) -> str | None:
    """Why a text cannot be a user symbol; None if it can.

    SentencePiece and transformers spell a space within a symbol differently, so no symbol has one.
    """
    if not symbol or " " in symbol or hf.SPACE in symbol:
        return "holds a space" if symbol else "is empty"
    if symbol in before:
        return "stands twice"
    fixed = (*CONTROL_TOKENS, "<unk>", "<s>", "</s>", "<pad>")
    is_special = symbol in fixed or re.fullmatch("<0x[0-9A-F]{2}>", symbol)
    return "is special" if is_special else None


def _folder_of(algorithm: str) -> str:
    """The folder name of one of several algorithms: its name, or the stem of its file."""
    return Path(algorithm).stem if algorithm.endswith(".py") else algorithm


def algorithms() -> list[str]:
    """The names that `--algorithm` takes."""
    return plugins.names(ALGORITHMS)


def train(options: TokenizerTrainConfig) -> Path:
    """Train a tokenizer by each algorithm named, and publish the folder.

    Raises InputError for an empty corpus or an existing output, ConfigError for a vocabulary that
    is too small for the corpus's characters or larger than the corpus supports, Interrupted on
    Ctrl-C and SIGTERM, HanllamaError if some of several algorithms failed (the others are
    published first).
    """
    output = Path(options.output)
    known = words.read(Path(options.words)) if options.words else ()
    with making(output, options.inputs, force=options.force) as made:
        with records.Quarantine() as quarantine:
            sample = sample_lines(options, quarantine)
            sample.words = known
        _tell(sample, options, quarantine)
        comparison = Comparison()
        with made.publish() as folder:
            if len(options.algorithm) > 1:
                _train_each(folder, sample, options, comparison)
            else:
                _train_only(folder, sample, options, comparison)
    comparison.card().print()
    print(f"tokenizer           {output}")
    if comparison.not_trained:
        names = list(comparison.not_trained)
        raise HanllamaError(
            f"{len(names)} of {len(options.algorithm)} algorithms could not be trained:"
            f"{_reasons(comparison)}\n"
            f"the others are in {output} and compared in {output / 'report.html'}; train"
            f" {' '.join(names)} alone, with options that avoid the reason, into another --output,"
            " or all again with --force"
        )
    return output


def _tell(
    sample: LineSample, options: TokenizerTrainConfig, quarantine: records.Quarantine
) -> None:
    tell_unusable(quarantine)
    print(f"corpus              {sample.documents:,} documents, {sample.total_bytes / 1e6:,.1f} MB")
    print(f"trained on          {len(sample.lines):,} lines, {sample.bytes / 1e6:,.1f} MB")
    if sample.too_long:
        limit = options.setting("max_sentence_length")
        done = "cut                " if options.setting("cut_long_lines") else "left out           "
        print(f"{done} {sample.too_long:,} lines longer than {limit:,} bytes")
    sys.stdout.flush()  # training may take long


def _train_only(
    folder: Path, sample: LineSample, options: TokenizerTrainConfig, comparison: Comparison
) -> None:
    """Train by the one algorithm named, into the folder itself."""
    (name,) = options.algorithm
    try:
        _train_one(folder, name, sample, options, comparison)
    except ConfigError as error:
        raise ConfigError(f"algorithm {name}: {error}") from error


def _train_each(
    folder: Path, sample: LineSample, options: TokenizerTrainConfig, comparison: Comparison
) -> None:
    """Train by every algorithm into its own folder, and compare the results.

    A failed algorithm leaves its reason in the comparison, and no folder. Raises ConfigError if all
    fail.
    """
    for name in options.algorithm:
        place = folder / _folder_of(name)
        place.mkdir()
        try:
            _train_one(place, name, sample, options, comparison)
        except StorageError:
            raise  # the next one would fail as well
        except HanllamaError as error:  # the supported sizes differ between algorithms
            shutil.rmtree(place)
            comparison.not_trained[name] = str(error)
    if not comparison.rows:
        raise ConfigError(f"no algorithm could be trained:{_reasons(comparison)}")
    comparison.card().write(folder, comparison.as_dict(), "compare.json")


def _reasons(comparison: Comparison) -> str:
    return "".join(f"\n  algorithm {n}: {why}" for n, why in comparison.not_trained.items())


def _train_one(
    folder: Path,
    name: str,
    sample: LineSample,
    options: TokenizerTrainConfig,
    comparison: Comparison,
) -> None:
    """Train by one algorithm into a folder, open the result and measure it."""
    began = time.monotonic()
    try:
        settings = settings_of(options)
        own_process.call(_train_there, name, folder, sample.lines, sample.words, settings)
    except (own_process.Died, MemoryError) as error:
        why = str(error) if isinstance(error, own_process.Died) else "out of memory"
        raise ConfigError(
            f"{why}; lower --sample-bytes (the sample has {sample.bytes:,} bytes)"
        ) from error
    if options.chat_template:
        fs.write_text(folder / chat.FILE, chat.source(options.chat_template))
    tokenizer = load_tokenizer(folder)
    _record(folder, name, tokenizer, sample, options)
    seconds = time.monotonic() - began
    comparison.add(name, tokenizer, sample.part(MEASURED_CHARACTERS), seconds)


def _train_there(
    name: str,
    folder: Path,
    lines: Sequence[str],
    known_words: Sequence[str],
    settings: Settings,
) -> None:
    """Train by the algorithm `name` into a folder, on lines cut at the known words."""
    module: Algorithm = plugins.load(ALGORITHMS, name)  # type: ignore[assignment]
    module.train(folder, words.cut(lines, known_words), settings)


def settings_of(options: TokenizerTrainConfig) -> Settings:
    return Settings(
        vocab_size=options.setting("vocab_size"),
        character_coverage=options.setting("character_coverage"),
        split_digits=options.setting("split_digits"),
        control_tokens=CONTROL_TOKENS,
        user_symbols=options.user_symbols,
        threads=options.threads or os.cpu_count() or 1,
    )


def _record(
    folder: Path,
    name: str,
    tokenizer: Tokenizer,
    sample: LineSample,
    options: TokenizerTrainConfig,
) -> None:
    """Write training.json: the settings and the corpus that made the tokenizer."""
    kept = {k: v for k, v in config.to_dict(options).items() if k not in _NO_EFFECT}
    fs.write_json(
        folder / "training.json",
        {
            "hanllama": __version__,
            "algorithm": name,
            "config": kept,
            "settings": {name: options.setting(name) for name in PRESETS["none"]},
            "corpus": sample.facts(),
            "unusable_records": sample.unusable,
            "tokenizer_hash": tokenizer.hash,
        },
    )


@dataclass
class LineSample:
    """A uniform sample of at most `limit_bytes` of a stream's lines.

    Every line draws a random priority; the lines of lowest priority that fit together are kept.
    So the sample is a function of the stream and the seed, one pass is enough, and memory is
    bounded.
    """

    limit_bytes: int  # 0: everything
    seed: int
    bytes: int = 0
    documents: int = 0
    seen: int = 0
    total_bytes: int = 0
    total_characters: int = 0
    too_long: int = 0
    unusable: int = 0  # records
    words: tuple[str, ...] = ()  # the lines are cut at the borders of these before training
    _heap: list[tuple[float, int, str, int]] = field(default_factory=list)
    _all: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, line: str, size: int) -> None:
        """Offer a line of `size` UTF-8 bytes."""
        self.seen += 1
        if not self.limit_bytes:
            self._all.append(line)
            self.bytes += size
            return
        # The heap's top is its highest priority: dropped first.
        heapq.heappush(self._heap, (-self._random.random(), self.seen, line, size))
        self.bytes += size
        while self.bytes > self.limit_bytes and len(self._heap) > 1:
            self.bytes -= heapq.heappop(self._heap)[3]

    @property
    def lines(self) -> list[str]:
        """The sample, in the order of the stream."""
        if not self._all and self._heap:
            self._all = [line for _, _, line, _ in sorted(self._heap, key=lambda row: row[1])]
            self._heap = []
        return self._all

    def part(self, characters: int) -> list[str]:
        """About `characters` characters, spread over the whole sample."""
        step = max(1, sum(map(len, self.lines)) // characters)
        return self.lines[::step]

    def facts(self) -> dict[str, Any]:
        """The corpus in training.json."""
        digest = hashlib.sha256()
        for line in self.lines:
            digest.update(line.encode() + b"\n")
        return {
            "documents": self.documents,
            "characters": self.total_characters,
            "bytes": self.total_bytes,
            "sample_lines": len(self.lines),
            "sample_bytes": self.bytes,
            "sample_sha256": digest.hexdigest(),
            "lines_too_long": self.too_long,
            "words": len(self.words),
            "words_sha256": hashlib.sha256("\n".join(self.words).encode()).hexdigest(),
        }


def sample_lines(options: TokenizerTrainConfig, quarantine: records.Quarantine) -> LineSample:
    """Sample the lines of the corpus in one pass; InputError if no line is left."""
    longest = options.setting("max_sentence_length")
    cut = options.setting("cut_long_lines")
    sample = LineSample(options.sample_bytes, options.seed)
    documents = records.read(list(options.inputs), quarantine, options.text_field)
    with Progress("read", unit="MB") as progress:
        for document in documents:
            sample.documents += 1
            sample.total_characters += len(document.text)
            document_bytes = 0
            for line in document.text.split("\n"):
                size = len(line.encode())
                document_bytes += size + 1
                if size > longest:
                    sample.too_long += 1
                    for part in _parts(line, longest) if cut else ():
                        sample.add(part, len(part.encode()))
                elif line and not line.isspace():
                    sample.add(line, size)
            sample.total_bytes += document_bytes - 1
            progress.advance(document_bytes / 1e6)
    sample.unusable = quarantine.count
    if not sample.lines:
        names = ", ".join(options.inputs)
        why = "holds no text"
        if quarantine.count:
            why += f"; none of its records could be used: {quarantine.summary()}"
        if sample.too_long:
            why = f"has only lines longer than max_sentence_length {longest}; raise it"
        raise InputError(f"corpus {names} {why}")
    return sample


def _parts(line: str, longest: int) -> list[str]:
    """Cut a line into parts of at most `longest` bytes; a character has at most four."""
    step = max(longest // 4, 1)
    return [line[at : at + step] for at in range(0, len(line), step)]
