"""`hanllama tokenizer view`: a readable vocabulary, and a sentence cut into pieces.

By default it counts the pieces by script and length and lists the first. `--script`, `--search`,
`--sort` and `--limit` choose the pieces to list; `--text` counts the uses of each on real text.
Pieces are shown decoded: the bytes of a character are joined, part of a character is `<0xE4>`, and
a space is `▁`.

`--sentence` shows how a text is cut. A unigram model has a probability for each way to cut it
(Kudo 2018): `--alternatives N` lists the N most probable, `--sample N` draws some, sharper or
flatter by `--alpha`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hanllama.base.card import aligned
from hanllama.base.config import Natural, NonNegative, checked, option
from hanllama.base.errors import ConfigError
from hanllama.tokenizer import hf
from hanllama.tokenizer.audit import read_texts
from hanllama.tokenizer.compare import pieces, shown
from hanllama.tokenizer.import_ import opened
from hanllama.tokenizer.load import Tokenizer

MOST_ALTERNATIVES = 512  # sentencepiece's limit


@checked
class TokenizerViewConfig:
    """Options of `hanllama tokenizer view`."""

    tokenizer: str = option(help="a tokenizer or model folder, or a file", positional=True)
    script: str = option("", help="list pieces of this script only: Han, Latin, digits, bytes …")
    search: str = option("", help="list pieces that hold this text")
    sort: Literal["id", "length", "frequency"] = option("id", help="the order of the list")
    limit: Natural = option(50, help="how many pieces to list; 0 means all")
    text: tuple[str, ...] = option((), help="text on which the uses of each piece are counted")
    text_field: str = option("text", help="the field of JSON lines or Parquet that holds the text")
    sentence: str = option("", help="show how this text is cut, instead of the vocabulary")
    alternatives: int = option(
        0, ge=0, le=MOST_ALTERNATIVES, help="unigram models: list the N most probable segmentations"
    )
    sample: Natural = option(0, help="unigram models: draw N segmentations by probability")
    alpha: NonNegative = option(0.2, help="for --sample: 1 draws by probability, 0 evenly")
    seed: Natural = option(0, help="seed of --sample")

    def __post_init__(self) -> None:
        if (self.alternatives or self.sample) and not self.sentence:
            raise ConfigError("--alternatives and --sample need a --sentence")
        if self.sort == "frequency" and not self.text:
            raise ConfigError("--sort frequency needs --text to count the uses on")


@dataclass(frozen=True)
class Piece:
    """One entry of a vocabulary."""

    id: int
    text: str
    script: str
    uses: int = 0

    @property
    def length(self) -> int:
        """The number of characters; 0 for bytes and special tokens."""
        return 0 if self.script in ("bytes", "special") else len(self.text)


def view(options: TokenizerViewConfig) -> None:
    """Print the vocabulary, or the sentence cut into pieces.

    Raises InputError for a missing tokenizer or text, ConfigError for a script that no piece has
    and for alternatives of a model that is not unigram.
    """
    with opened(options.tokenizer) as tokenizer:
        if options.sentence:
            _view_sentence(tokenizer, options)
            return
        everything = vocabulary(tokenizer, _uses(tokenizer, options))
        _print_summary(everything)
        _print_list(everything, options)


def vocabulary(tokenizer: Tokenizer, uses: Counter[int] | None = None) -> list[Piece]:
    """All pieces of a vocabulary, by id."""
    special = set(tokenizer.special_tokens.values())
    found = []
    for i in range(tokenizer.vocab_size):
        text = tokenizer.piece(i)
        script = "special" if i in special or text.startswith("<unused ") else script_of(text)
        found.append(Piece(i, text, script, uses[i] if uses else 0))
    return found


# First word of a Unicode character name -> the usual name of the script.
_NAMED = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "HANGUL": "Hangul",
    "LATIN": "Latin",
    "FULLWIDTH": "full width",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "THAI": "Thai",
    "DEVANAGARI": "Devanagari",
}


def script_of(text: str) -> str:
    """The script of a piece: `Han`, `Latin`, …, `mixed`; `digits`, `punctuation`, `space`, `bytes`.

    Spaces, digits and punctuation count only in a piece without letters.
    """
    if text.startswith("<0x") and text.endswith(">"):
        return "bytes"
    kinds = {_kind(c) for c in text}
    letters = kinds - {"space", "digits", "punctuation"}
    if len(letters) > 1:
        return "mixed"
    for found in (letters, kinds & {"digits"}, kinds & {"punctuation"}):
        if found:
            return found.pop()
    return "space"


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("Z") or character in "\t\n\r":
        return "space"
    if category == "Nd" and character.isascii():
        return "digits"
    if category[0] == "P" and not character.isalnum():
        return "punctuation"
    name = unicodedata.name(character, "").split(" ")[0]
    if category[0] == "S" and name not in _NAMED:
        return "symbols"
    return _NAMED.get(name, "other")


def _uses(tokenizer: Tokenizer, options: TokenizerViewConfig) -> Counter[int] | None:
    if not options.text:
        return None
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for text in read_texts(options.text, options.text_field):
        counts += np.bincount(tokenizer.encode_raw([text])[0], minlength=counts.size)
    return Counter({i: int(n) for i, n in enumerate(counts)})


def _print_summary(everything: list[Piece]) -> None:
    """Print the number of pieces by script and by length in characters."""
    lengths = ("1", "2", "3", "4", "5-8", "9+")
    counts: dict[str, Counter[str]] = {}
    for piece in everything:
        n = piece.length
        column = "0" if n == 0 else str(n) if n < 5 else "5-8" if n < 9 else "9+"
        counts.setdefault(piece.script, Counter())[column] += 1
    rows = sorted(counts.items(), key=lambda row: -row[1].total())
    cells = [[script, c.total(), *(c[n] or "" for n in lengths)] for script, c in rows]
    print("\n".join(aligned(cells, ["script", "pieces", *(f"{n} char." for n in lengths)])))


def _print_list(everything: list[Piece], options: TokenizerViewConfig) -> None:
    wanted = [p for p in everything if options.search in p.text]
    if options.script:
        wanted = [p for p in wanted if p.script.lower() == options.script.lower()]
        if not any(p.script.lower() == options.script.lower() for p in everything):
            known = ", ".join(sorted({p.script for p in everything}))
            raise ConfigError(f"no piece is of the script {options.script!r}; there are: {known}")
    order: dict[str, Callable[[Piece], Any]] = {
        "id": lambda p: p.id,
        "length": lambda p: (-p.length, p.id),
        "frequency": lambda p: (-p.uses, p.id),
    }
    wanted.sort(key=order[options.sort])
    listed = wanted[: options.limit] if options.limit else wanted
    print()
    headings = ["id", "piece", "script", *(["uses"] if options.text else [])]
    rows = [(str(p.id), shown(p.text), p.script, p.uses)[: len(headings)] for p in listed]
    print("\n".join(aligned(rows, headings)))
    if len(listed) < len(wanted):
        print(f"… and {len(wanted) - len(listed):,} more (--limit)")
    if options.text:
        never = sum(p.uses == 0 for p in wanted)
        print(f"never used on this text: {never:,} of {len(wanted):,}")


# --- a sentence ---------------------------------------------------------------------------------


def _view_sentence(tokenizer: Tokenizer, options: TokenizerViewConfig) -> None:
    best = pieces(tokenizer, options.sentence)
    ids, _ = tokenizer.encode_raw([options.sentence])
    print(f"{len(best)} tokens for {len(options.sentence)} characters")
    print("  " + " ".join(best))
    print("  " + " ".join(map(str, ids.tolist())))
    if not (options.alternatives or options.sample):
        return
    model = _unigram(tokenizer)
    if options.alternatives:
        print(f"\nthe {options.alternatives} most probable segmentations (log probability):")
        found = model.NBestEncode(
            options.sentence, nbest_size=options.alternatives, out_type="proto"
        )
        for one in found.nbests:
            print(f"  {one.score:9.3f}  {' '.join(p.piece for p in one.pieces)}")
    if options.sample:
        import sentencepiece

        sentencepiece.SetRandomGeneratorSeed(options.seed)
        print(f"\n{options.sample} segmentations drawn (alpha {options.alpha:g}):")
        for _ in range(options.sample):
            drawn = model.SampleEncodeAsPieces(options.sentence, nbest_size=-1, alpha=options.alpha)
            print(f"  {' '.join(drawn)}")


def _unigram(tokenizer: Tokenizer) -> Any:
    """The SentencePiece processor of a unigram model; ConfigError for another model."""
    import sentencepiece

    path = tokenizer.folder / "tokenizer.model"
    kind = 0
    if path.is_file():
        kind = hf.parse_model(path.read_bytes(), str(path)).trainer_spec.model_type
    if kind != hf.UNIGRAM:
        raise ConfigError(
            "only a unigram model has alternatives with a probability; train one with: hanllama"
            " tokenizer train --algorithm unigram"
        )
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
