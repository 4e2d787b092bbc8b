"""`hanllama tokenizer extend`: new pieces for an existing vocabulary, old ids untouched.

Llama-2 spells most Chinese characters in three bytes. Chinese-LLaMA, Colossal-LLaMA-2 and Ziya add
pieces at the end of its vocabulary, each by its own method. Here one procedure has four sources of
pieces:

- `--pieces F.jsonl`: lines of {"piece": "…"} (Colossal-LLaMA-2);
- `--from OTHER.model`: the pieces of another SentencePiece model (Chinese-LLaMA);
- `--train CORPUS --size N`: a BPE of N pieces trained on your own text;
- `--chars N`: the N most common characters (Ziya) of `--train CORPUS`; without it, in the order of
  GB 2312, whose first 3,755 are the common ones.

Scores: SentencePiece merges the neighbours of highest score first. The published method gives every
new piece the score 0, above all old ones but the first: the order of merges of equal score then
depends on their place in the text, which transformers' BPE cannot express, so the back ends
disagree. By default new pieces get scores below the base's lowest, in their order: old text is cut
as before, new merges come last, and all back ends agree. (For this, the characters of new pieces
are added if the base lacks them.) `--scores zero` repeats the published vocabularies.

An audit always follows (`audit.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hanllama import __version__
from hanllama.base import fs
from hanllama.base.config import Natural, checked, option
from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.base.making import Making, making
from hanllama.base.progress import Progress
from hanllama.reading import records
from hanllama.reading.rows import of_file
from hanllama.tokenizer import chat, hf, own_process
from hanllama.tokenizer.algorithms import _sentencepiece
from hanllama.tokenizer.audit import Audit, audit, read_texts, tell_unusable
from hanllama.tokenizer.compare import shown
from hanllama.tokenizer.load import FILES, load_tokenizer
from hanllama.tokenizer.train import (
    FIXED_PIECES,
    TokenizerTrainConfig,
    sample_lines,
    settings_of,
)

GB2312_CHARACTERS = 6763


@checked
class TokenizerExtendConfig:
    """Options of `hanllama tokenizer extend`."""

    base: str = option(help="a tokenizer or model folder, or a tokenizer.model", positional=True)
    output: str = option(help="the tokenizer folder to write")
    pieces: str = option("", help='a file of {"piece": "…"} lines')
    from_: str = option("", help="another tokenizer.model whose pieces are taken")
    train: tuple[str, ...] = option((), help="text to train new pieces on (with --size)")
    size: Natural = option(0, help="pieces of the BPE of --train, with pieces the base has already")
    chars: Natural = option(0, help="add the N most common characters (of --train, or of GB 2312)")
    scores: Literal["safe", "zero"] = option(
        "safe", help="safe: below the base's, all back ends agree; zero: the published method"
    )
    text: tuple[str, ...] = option((), help="text to measure the gain on; default: a short sample")
    text_field: str = option("text", help="the field of JSON lines or Parquet that holds the text")
    seed: int = option(0, help="seed of the sample for --train")
    force: bool = option(False, help="replace the output folder if it exists")

    def __post_init__(self) -> None:
        sources = {
            "--pieces": bool(self.pieces),
            "--from": bool(self.from_),
            "--train with --size": self.size > 0,
            "--chars": self.chars > 0,
        }
        given = [name for name, is_given in sources.items() if is_given]
        if len(given) != 1:
            said = f", not {' and '.join(given)}" if given else ""
            raise ConfigError(f"new pieces come from one of {', '.join(sources)}{said}")
        if self.size and not self.train:
            raise ConfigError("--size needs --train: the text to train the new pieces on")
        if self.train and not (self.size or self.chars):
            raise ConfigError("--train needs --size or --chars: how many pieces to make from it")
        if self.chars > GB2312_CHARACTERS and not self.train:
            raise ConfigError(
                f"chars {self.chars} is more than the {GB2312_CHARACTERS:,} characters of GB 2312;"
                " give --train, a text to count characters in"
            )


def extend(options: TokenizerExtendConfig) -> Path:
    """Publish the extended tokenizer with its audit; the base's ids do not change.

    Raises InputError for a missing base or corpus or an existing output, CorruptError for a file
    that is no SentencePiece model or an invalid piece (naming line and value), ConfigError if
    nothing would be added.
    """
    with making(options.output, options.train, force=options.force) as made:
        return _extend(options, made)


def _extend(options: TokenizerExtendConfig, made: Making) -> Path:
    base_model = _model_file(options.base)
    proto = _read_model(base_model)
    roles, template, adds_bos = _beside(options.base, proto)
    base_pieces = proto.SerializeToString(deterministic=True)
    asked = dict(_asked(options))
    known = {p.piece for p in proto.pieces}
    new = [piece for piece, is_text in asked.items() if is_text and piece not in known]
    overlapping = sum(piece in known for piece in asked)
    if not new:
        raise ConfigError(f"all {len(asked):,} pieces are in {base_model} already: nothing to add")
    lone = [] if options.scores == "zero" else _lone_characters(new, known)
    new += lone
    scores = [0.0] * len(new) if options.scores == "zero" else _scores_below(proto, len(new))
    for piece, score in zip(new, scores, strict=True):
        proto.pieces.add(piece=piece, score=score, type=hf.NORMAL)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    typable = _typable(proto, set(new))
    with made.publish() as folder:
        fs.write_bytes(folder / "tokenizer.model", proto.SerializeToString(deterministic=True))
        hf.write_files(folder, proto, adds_bos=adds_bos, names=roles)
        if template is not None:
            fs.write_text(folder / chat.FILE, template)
        result = _audit(options, base_pieces, folder, overlapping)
        result.card().write(folder, result.as_dict(), "audit.json")
        fs.write_json(
            folder / "extension.json",
            {
                "hanllama": __version__,
                "base_sha256": fs.sha256(base_model),
                "base_vocabulary": len(proto.pieces) - len(new),
                "source": _source(options),
                "scores": options.scores,
                "asked": len(asked),
                "overlapping": overlapping,
                "added": len(new),
                "characters_added_for_them": len(lone),
                "typable_in_llama_cpp": typable,
                "tokenizer_hash": load_tokenizer(folder).hash,
            },
        )
    result.card().print()
    if lone:
        print(
            f"{len(lone):,} of the new pieces are characters that longer new pieces need:"
            f" {' '.join(map(shown, lone[:8]))}"
        )
    for special, (left, right) in typable.items():
        print(
            f"warning: typed text becomes the special token {special} in llama.cpp, which joins"
            f" {left!r} and {right!r}; remove the new piece of these two"
        )
    _advise(result, options.scores)
    print(f"tokenizer: {made.output}")
    return made.output


def _scores_below(proto: Any, count: int) -> list[float]:
    """Falling scores for new pieces, all below the base's lowest.

    The file holds 32-bit floats: below Llama-2's lowest (-1e9, its runs of spaces) the next float
    is 64 away. Pieces of equal score would be merged by their place in the text.
    """
    lowest = min(p.score for p in proto.pieces if p.type == hf.NORMAL)
    step = max(1.0, float(np.spacing(np.float32(2 * abs(lowest)))))
    return [lowest - step * number for number in range(1, count + 1)]


def _lone_characters(new: Sequence[str], known: set[str]) -> list[str]:
    """The characters of new pieces that are no pieces themselves.

    SentencePiece joins such characters, but transformers' BPE joins only pieces.
    """
    pieces = known | set(new)
    return list(dict.fromkeys(c for p in new if len(p) > 1 for c in p if c not in pieces))


def _typable(proto: Any, new: set[str]) -> dict[str, tuple[str, str]]:
    """{special token: two parts that make it}, if one of the parts is a new piece.

    SentencePiece and transformers never merge into a special token. llama.cpp ignores the types of
    pieces, so typed text could end a text or speak for the assistant. It starts from all characters
    of the text, pieces or not.
    """
    known = {p.piece for p in proto.pieces}
    longer = {piece for piece in new if len(piece) > 1}
    found = {}
    for special in (p.piece for p in proto.pieces if p.type in (hf.CONTROL, hf.UNKNOWN)):
        for at in range(1, len(special)):
            left, right = special[:at], special[at:]
            both = all(len(part) == 1 or part in known for part in (left, right))
            if both and not longer.isdisjoint((left, right)):
                found[special] = (left, right)
    return found


def _advise(result: Audit, scores: str) -> None:
    disagree = max((len(t) for t in result.disagreements.values()), default=0)
    if disagree and scores == "zero":
        print(
            f"{disagree:,} strings get other ids in transformers than in sentencepiece, by the"
            " published scores of 0; --scores safe avoids it"
        )


# --- the sources of pieces ---------------------------------------------------------------------


def _asked(options: TokenizerExtendConfig) -> Iterator[tuple[str, bool]]:
    """The requested pieces in order, spaces as `▁`, and whether each is text.

    A piece that is no text (another model's <s>, its bytes) can overlap with the base, but is never
    added.
    """
    if options.pieces:
        found: Iterable[str] = _from_lines(Path(options.pieces))
    elif options.size:
        found = _trained(options)
    elif options.chars:
        found = _common_characters(options)
    else:
        other = _read_model(_model_file(options.from_))
        return ((p.piece, p.type in (hf.NORMAL, hf.USER_DEFINED)) for p in other.pieces)
    return ((piece, True) for piece in found)


def _from_lines(path: Path) -> list[str]:
    """Read Colossal's layout; CorruptError names the line and value of an invalid piece."""
    lines: dict[str, int] = {}
    for row in of_file(path, "pieces file"):
        where = f"{path}, line {row.line}"
        piece = row.value.get("piece")
        if not isinstance(piece, str):
            raise CorruptError(f'{where}: needs {{"piece": "…"}} with a text, not {row.shown}')
        if not piece:
            raise CorruptError(f"{where}: the piece is empty; remove the line")
        if any(0xD800 <= ord(c) < 0xE000 for c in piece):
            raise CorruptError(f"{where}: {piece!r} holds half a surrogate pair, no character")
        piece = piece.replace(" ", hf.SPACE)
        if piece in lines:
            raise CorruptError(f"{where}: {piece!r} stands on line {lines[piece]} already")
        lines[piece] = row.line
    if not lines:
        raise InputError(f"pieces file {path} holds no piece")
    return list(lines)


def _trained(options: TokenizerExtendConfig) -> list[str]:
    """The `--size` pieces of a BPE trained on the user's text, best first."""
    training = TokenizerTrainConfig(
        inputs=options.train,
        output=options.output,
        vocab_size=FIXED_PIECES + options.size,
        seed=options.seed,
        text_field=options.text_field,
    )
    with records.Quarantine() as quarantine:
        sample = sample_lines(training, quarantine)
        tell_unusable(quarantine)
        settings = settings_of(training)
        try:
            data = own_process.call(_sentencepiece.train, sample.lines, settings, "bpe")
        except _sentencepiece.UnfitSize as error:
            raise ConfigError(_unfit_size(options.size, error.limit - FIXED_PIECES)) from error
        except (own_process.Died, MemoryError) as error:
            why = str(error) or "out of memory"
            raise ConfigError(f"--train: {why}; give less text or a machine with more") from error
    proto = hf.parse_model(data, "the trained model")
    return [p.piece for p in proto.pieces if p.type == hf.NORMAL]


def _unfit_size(size: int, limit: int) -> str:
    """The error for a BPE of `size` pieces on a text that allows `limit`."""
    if size < limit:
        return (
            f"--size {size} is too small: the characters of this text alone take {limit:,}; raise"
            f" it, or take only the most common ones by --chars {size}"
        )
    return (
        f"--size {size} is larger than this text supports; the largest that works is {limit:,}"
        " (or give more text)"
    )


def _common_characters(options: TokenizerExtendConfig) -> list[str]:
    if not options.train:
        return _gb2312()[: options.chars]
    counts: Counter[str] = Counter()
    with records.Quarantine() as quarantine, Progress("count characters", unit="MB") as progress:
        for document in records.read(list(options.train), quarantine, options.text_field):
            counts.update(document.text)
            progress.advance(len(document.text.encode()) / 1e6)
    tell_unusable(quarantine)
    printable = [(c, n) for c, n in counts.items() if c.isprintable() and not c.isspace()]
    printable.sort(key=lambda row: (-row[1], row[0]))
    if len(printable) < options.chars:
        raise ConfigError(
            f"chars {options.chars} is more than the {len(printable):,} different characters of"
            f" {', '.join(options.train)}"
        )
    return [c for c, _ in printable[: options.chars]]


def _gb2312() -> list[str]:
    """GB 2312-80's Han characters: level 1 (3,755, common), then level 2 (3,008)."""
    found = []
    for row in range(0xB0, 0xF8):
        for cell in range(0xA1, 0xFF):
            try:
                found.append(bytes((row, cell)).decode("gb2312"))
            except UnicodeDecodeError:
                continue  # the five cells at the end of level 1 are empty
    assert len(found) == GB2312_CHARACTERS
    return found


def _source(options: TokenizerExtendConfig) -> dict[str, Any]:
    """The source of the pieces, for extension.json."""
    if options.pieces:
        return {"pieces_sha256": fs.sha256(Path(options.pieces))}
    if options.from_:
        return {"model_sha256": fs.sha256(_model_file(options.from_))}
    facts: dict[str, Any] = {"train": list(options.train)} if options.train else {}
    if options.size:
        return {**facts, "size": options.size, "seed": options.seed}
    return {**facts, "chars": options.chars}


# --- the base ----------------------------------------------------------------------------------


def _model_file(name: str) -> Path:
    """The tokenizer.model of a folder or path; InputError if it does not exist."""
    path = Path(name)
    found = path / "tokenizer.model" if path.is_dir() else path
    if not found.is_file():
        hint = ""
        if (path / "tokenizer.json").is_file():
            hint = "; a tokenizer.json alone (byte-level BPE) cannot be extended this way"
        raise InputError(f"{found} does not exist: a SentencePiece model is needed{hint}")
    return found


def _read_model(path: Path) -> Any:
    return hf.parse_model(path.read_bytes(), str(path))


def _beside(base: str, proto: Any) -> tuple[dict[str, str], str | None, bool]:
    """The roles and chat template of a base's folder, and whether BOS begins a text.

    Special tokens on top of the model become its pieces and keep their ids; new pieces follow them.
    A lone model file counts as Llama's, which begins every text with BOS.
    """
    if not Path(base).is_dir():
        return {}, None, True
    tokenizer = load_tokenizer(base)
    on_top = {i: name for name, i in tokenizer.special_tokens.items() if i >= len(proto.pieces)}
    for i, name in sorted(on_top.items()):
        if i != len(proto.pieces):
            raise ConfigError(
                f"{base}: the special token {name!r} has the id {i}, and no piece has the id"
                f" {len(proto.pieces)}; new pieces cannot follow after a gap"
            )
        proto.pieces.add(piece=name, score=0.0, type=hf.CONTROL)
    return tokenizer.special_roles, chat.of_folder(Path(base)), tokenizer.adds_bos


def _audit(
    options: TokenizerExtendConfig, base_pieces: bytes, folder: Path, overlapping: int
) -> Audit:
    """Audit the new folder against its base, which gets a folder for it."""
    import tempfile

    texts, name = _texts(options)
    with tempfile.TemporaryDirectory() as beside:
        lone = Path(beside)
        extended = load_tokenizer(folder)
        fs.write_bytes(lone / FILES[0], base_pieces)
        proto = hf.parse_model(base_pieces, "the base")
        hf.write_files(lone, proto, names=extended.special_roles)
        return audit(
            extended,
            base=load_tokenizer(lone),
            overlapping=overlapping,
            texts=texts,
            text_name=name,
        )


def _texts(options: TokenizerExtendConfig) -> tuple[Sequence[str], str]:
    """The first 20 MB of `--text` or else of `--train`, and their name."""
    inputs = options.text or options.train
    if not inputs:
        return (), ""
    texts = read_texts(inputs, options.text_field, again=inputs == options.train)
    return texts, ", ".join(Path(name).name for name in inputs)
