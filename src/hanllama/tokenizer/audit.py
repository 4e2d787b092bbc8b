"""The audit of a tokenizer: checks that tell a sound vocabulary from a broken one.

Chinese vocabularies often break in silence: no text can produce some pieces, an extension cuts
English differently, transformers and sentencepiece give different ids for one string, or text does
not come back. An audit counts and lists each of these.

- unreachable: a piece whose own text does not encode to it alone. BPE builds a piece by merging two
  smaller pieces, so a piece whose halves are missing is dead weight.
- changed English: ASCII texts that the extended vocabulary cuts differently from its base.
- round trip: texts that decode to something else (except U+2581, SentencePiece's space).
- agreement: the ids of our loader, of the sentencepiece library, of the tokenizers library (which
  transformers runs) and of llama.cpp, on generated strings that tokenizers have disagreed about
  (`fuzz.py`; llama.cpp gets a share of them). A back end that cannot be asked is named, with why.
- gain: tokens per character before and after, on the user's text or on the shipped sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.base.errors import InputError
from hanllama.reading import records
from hanllama.tokenizer import fuzz, hf, llama_cpp
from hanllama.tokenizer.load import Tokenizer

SAMPLES = Path(__file__).parent / "samples"
FUZZ_STRINGS = 4000
CONTESTED_STRINGS = 1000  # made of this vocabulary's pieces, or of the pieces an extension added
LLAMA_CPP_EVERY = 10  # every tenth string, since each is a request
MAX_LISTED = 40


def sample_texts(language: str = "zh") -> list[str]:
    """The paragraphs that ship with hanllama, in `zh` or `en`."""
    text = (SAMPLES / f"{language}.txt").read_text(encoding="utf-8")
    return [part for part in text.split("\n\n") if part.strip()]


def read_texts(
    inputs: Sequence[str], text_field: str, limit_bytes: int = 20_000_000, *, again: bool = False
) -> list[str]:
    """Read the first documents, up to `limit_bytes` of UTF-8 (0: all of them).

    Prints how many records are unusable, unless an earlier reading has printed it (`again`).
    Raises InputError when the inputs hold no text.
    """
    found, size = [], 0
    with records.Quarantine() as quarantine:
        for document in records.read(list(inputs), quarantine, text_field):
            if document.text.strip():
                found.append(document.text)
                size += len(document.text.encode())
            if limit_bytes and size >= limit_bytes:
                break
    if not found:
        raise InputError(f"{', '.join(inputs)} holds no text ({quarantine.summary()})")
    if not again:
        tell_unusable(quarantine)
    return found


def tell_unusable(quarantine: records.Quarantine) -> None:
    """Print how many records are unusable, and why; print nothing when there are none."""
    if quarantine.count:
        print(f"unusable records    {quarantine.count:,} ({quarantine.summary()})")


@dataclass
class Audit:
    """The findings."""

    vocabulary: int
    unreachable: list[str]
    fuzz_strings: int
    round_trip_failures: list[str]
    disagreements: dict[str, list[str]]  # back end -> strings on which it differs from ours
    asked: dict[str, int]  # back end -> number of strings that it encoded
    unasked: dict[str, str]  # back end -> why it could not be asked
    base: dict[str, Any] = field(default_factory=dict)  # the comparison with a base; else empty

    @property
    def sound(self) -> bool:
        """Whether every back end asked agrees, and every text comes back."""
        return not (any(self.disagreements.values()) or self.round_trip_failures)

    @property
    def verdict(self) -> str:
        """One line: which back ends agree, whether text comes back, who was not asked and why."""
        same = [name for name, texts in self.disagreements.items() if not texts]
        other = [name for name, texts in self.disagreements.items() if texts]
        failures = len(self.round_trip_failures)
        return "; ".join(
            [
                *([f"the same ids in {', '.join(same)}"] if same else []),
                *([f"other ids in {', '.join(other)}"] if other else []),
                f"{failures:,} strings do not come back" if failures else "every string comes back",
                *(f"{name} was not asked: {why}" for name, why in self.unasked.items()),
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """The content of audit.json."""
        return {
            "verdict": self.verdict,
            "vocabulary": self.vocabulary,
            "unreachable_pieces": len(self.unreachable),
            "unreachable": self.unreachable,
            "fuzz_strings": self.fuzz_strings,
            "round_trip_failures": self.round_trip_failures,
            "disagreements": self.disagreements,
            "asked": self.asked,
            "unasked": self.unasked,
            **self.base,
        }

    def rows(self) -> list[tuple[str, str]]:
        """The printed rows: (check, result)."""
        rows = [("vocabulary", f"{self.vocabulary:,}")]
        if self.base:
            new, english = self.base["new_pieces"], self.base["english_texts"]
            before, after = self.base["tokens_per_character"]
            rows += [
                ("new pieces", f"{new:,}"),
                ("overlapping, left out", f"{self.base['overlapping_pieces']:,}"),
            ]
        share = len(self.unreachable) / max(self.base.get("new_pieces", self.vocabulary), 1)
        shown = ", ".join(self.unreachable[:5])
        rows.append(
            (
                "unreachable",
                f"{len(self.unreachable):,} ({share:.1%}){': ' if shown else ''}{shown}",
            )
        )
        if self.base:
            changed, by = len(self.base["changed_english"]), self.base["changed_by"]
            why = f", by new pieces such as {' '.join(by[:8])}" if by else ""
            rows.append(("English cut differently", f"{changed:,} of {english:,} texts{why}"))
        failures = len(self.round_trip_failures)
        rows.append(("round-trip failures", f"{failures:,} of {self.fuzz_strings:,} strings"))
        for name, texts in self.disagreements.items():
            rows.append((f"differs in {name}", f"{len(texts):,} of {self.asked[name]:,} strings"))
        rows += [(f"differs in {name}", "not asked") for name in self.unasked]
        if self.base:
            gain = 1 - after / before if before else 0.0
            rows.append(
                (
                    "tokens per character",
                    f"{before:.3f} -> {after:.3f} ({gain:.1%} fewer, on {self.base['text']})",
                )
            )
        return rows

    def card(self) -> Card:
        """The checks, the verdict, and the strings behind them; audit.json is `as_dict`."""
        card = Card("Tokenizer audit")
        card.table(self.rows(), ["check", "result"])
        card.note(self.verdict, "good" if self.sound else "bad")
        if not self.sound:
            card.say("the strings are in report.html")
        for title, texts in (
            ("Unreachable pieces", self.unreachable),
            ("Strings that do not come back", self.round_trip_failures),
            *((f"Strings on which {n} differs", t) for n, t in self.disagreements.items()),
            ("English that is cut differently", self.base.get("changed_english", [])),
        ):
            rows = [(i + 1, repr(text)) for i, text in enumerate(texts[:MAX_LISTED])]
            listed = f"the first {len(rows)} of {len(texts):,}"
            card.section(title, report.table(rows, headings=["", "text"], title=listed))
        return card


def audit(
    tokenizer: Tokenizer,
    *,
    base: Tokenizer | None = None,
    overlapping: int = 0,
    texts: Sequence[str] = (),
    text_name: str = "",
    seed: int = 0,
) -> Audit:
    """Audit a tokenizer folder, and its changes from `base` if given.

    Args:
        overlapping: number of requested pieces that the base has already.
        texts: the gain is measured on these; on the shipped sample when empty.
    """
    first_new = base.vocab_size if base is not None else 0
    pieces = [piece for _, piece in _texts_of_pieces(tokenizer, first_new)]
    strings = fuzz.strings(FUZZ_STRINGS, seed) + fuzz.contested(pieces, CONTESTED_STRINGS, seed)
    ours = _ids(tokenizer, strings)
    found = Audit(
        vocabulary=tokenizer.vocab_size,
        unreachable=_unreachable(tokenizer, first_new),
        fuzz_strings=len(strings),
        round_trip_failures=_round_trip_failures(tokenizer, strings, ours),
        **_agreement(tokenizer.folder, strings, ours),
    )
    if base is not None:
        found.base = _against(base, tokenizer, overlapping, texts, text_name, seed)
    return found


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts without BOS and EOS."""
    ids, lengths = tokenizer.encode_raw(texts)
    return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]


def _unreachable(tokenizer: Tokenizer, first: int) -> list[str]:
    """The unreachable pieces (see above) from id `first` on."""
    import sentencepiece

    path = tokenizer.folder / "tokenizer.model"
    if not path.is_file():
        return _unreachable_by_text(tokenizer, first)
    proto = hf.parse_model(path.read_bytes(), str(path))
    pieces = [(i, p.piece) for i, p in enumerate(proto.pieces) if p.type == hf.NORMAL]
    # Encode a piece as inside a text: without the prefix of a text's first piece, and with the
    # piece's leading space, which some models strip at the start of a text.
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return [p for i, p in pieces if i >= first and processor.encode(p) != [i]]


def _unreachable_by_text(tokenizer: Tokenizer, first: int) -> list[str]:
    pieces = list(_texts_of_pieces(tokenizer, first))
    rows = _ids(tokenizer, [piece for _, piece in pieces])
    return [piece for (i, piece), ids in zip(pieces, rows, strict=True) if ids != [i]]


def _texts_of_pieces(tokenizer: Tokenizer, first: int) -> Iterator[tuple[int, str]]:
    """(id, text) of the pieces from id `first` on, without those that hold half a character."""
    special = set(tokenizer.special_tokens.values())
    for i in range(first, tokenizer.vocab_size):
        text = tokenizer.stream(continues=True)
        piece = text.push(i)
        if i not in special and piece and "\ufffd" not in piece and not text.finish():
            yield i, piece


def _round_trip_failures(
    tokenizer: Tokenizer, texts: Sequence[str], rows: Sequence[list[int]]
) -> list[str]:
    spaced = (tokenizer.folder / "tokenizer.model").is_file()
    failures = []
    for text, ids in zip(texts, rows, strict=True):
        expected = text.replace(hf.SPACE, " ") if spaced else text
        if tokenizer.decode(ids) != expected:
            failures.append(text)
    return failures


def _agreement(
    folder: Path, texts: Sequence[str], ours: Sequence[list[int]]
) -> dict[str, dict[str, Any]]:
    """The fields `disagreements`, `asked` and `unasked` of an `Audit`."""
    differing: dict[str, list[str]] = {}
    asked: dict[str, int] = {}
    unasked: dict[str, str] = {}

    def compare(name: str, rows: Sequence[list[int]], every: int = 1) -> None:
        both = zip(texts[::every], ours[::every], rows, strict=True)
        differing[name] = [text for text, a, b in both if a != b]
        asked[name] = len(rows)

    model, described = folder / "tokenizer.model", folder / "tokenizer.json"
    proto = hf.parse_model(model.read_bytes(), str(model)) if model.is_file() else None
    if proto is not None:
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        compare("sentencepiece", [processor.encode(text) for text in texts])
    else:
        unasked["sentencepiece"] = "this vocabulary has no SentencePiece form"
    if described.is_file():
        import tokenizers

        library = tokenizers.Tokenizer.from_file(str(described))
        library.encode_special_tokens = True
        encoded = library.encode_batch(list(texts), add_special_tokens=False)
        compare("transformers", [row.ids for row in encoded])
    else:
        unasked["transformers"] = "tokenizer.json has no form for a model of words"
    if why := llama_cpp.why_not(proto):
        unasked["llama.cpp"] = why
    else:
        try:
            rows = llama_cpp.ids(folder, texts[::LLAMA_CPP_EVERY])
            compare("llama.cpp", rows, LLAMA_CPP_EVERY)
        except llama_cpp.Refused as error:
            unasked["llama.cpp"] = str(error)
    return {"disagreements": differing, "asked": asked, "unasked": unasked}


def _against(
    base: Tokenizer,
    tokenizer: Tokenizer,
    overlapping: int,
    texts: Sequence[str],
    text_name: str,
    seed: int,
) -> dict[str, Any]:
    """The changes from `base` to its extension: the field `base` of an `Audit`."""
    english = _english(seed)
    before, after = _ids(base, english), _ids(tokenizer, english)
    changed = [t for t, a, b in zip(english, before, after, strict=True) if a != b]
    new = Counter(i for row in after for i in row if i >= base.vocab_size)
    text = tokenizer.stream(continues=True)
    measured = list(texts) or sample_texts("zh")
    characters = sum(map(len, measured))
    counts = [sum(map(len, _ids(t, measured))) for t in (base, tokenizer)]
    return {
        "new_pieces": tokenizer.vocab_size - base.vocab_size,
        "overlapping_pieces": overlapping,
        "english_texts": len(english),
        "changed_english": changed,
        "changed_by": [text.push(i).strip() for i, _ in new.most_common()],
        "text": text_name or f"the shipped sample of {characters:,} characters",
        "tokens_per_character": [round(n / characters, 4) for n in counts],
    }


def _english(seed: int) -> list[str]:
    """ASCII texts: the shipped English, its lines and words, and the ASCII fuzz strings."""
    paragraphs = sample_texts("en")
    words = sorted({w for p in paragraphs for w in p.split()})
    strings = [s for s in fuzz.strings(FUZZ_STRINGS, seed + 1) if s.isascii()]
    return [*paragraphs, *(line for p in paragraphs for line in p.split("\n")), *words, *strings]
