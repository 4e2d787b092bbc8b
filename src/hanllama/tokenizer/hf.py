"""A SentencePiece model as a `tokenizer.json` on which all back ends agree.

transformers does not open a lone `tokenizer.model` faithfully: depending on the files beside it, it
loses the BOS, the leading "▁", or strings that begin with a space. This `tokenizer.json` agrees
with sentencepiece on every string:

- BPE over the same pieces with `byte_fallback` and `fuse_unk`;
- as merges, every split of every piece into two known pieces, ordered by the piece's score, since
  sentencepiece merges the neighbours that form the best scored piece, at any split;
- the normalizer Prepend("▁"), Replace(" ", "▁"), and no pre-tokenizer (it would cut at spaces);
- a template post-processor for BOS, and the class `PreTrainedTokenizerFast`, because
  `LlamaTokenizer` builds its own tokenizer and drops this normalizer.

A character model is the same without merges. A unigram model keeps its scores, but pieces that are
no text (<s>, bytes) get a score that always loses, since transformers' Unigram would otherwise
match a typed "<0x41>". A word model has no such form.

`tokenizer.model` stays beside it: llama.cpp's converter prefers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.base.errors import ConfigError, CorruptError
from hanllama.tokenizer.model_proto import model_class

SPACE = "▁"
# Piece types of sentencepiece_model.proto.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4
NO_PATH = -1e6  # a score (log probability) that loses against any spelling
# transformers writes this for "no limit": the model states its context.
NO_LIMIT = int(1e30)


def parse_model(data: bytes, where: str) -> Any:
    """Parse a SentencePiece `ModelProto`; CorruptError for other data."""
    from google.protobuf.message import DecodeError

    proto = model_class()()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise CorruptError(f"{where} is not a SentencePiece model: {error}") from error
    if not proto.pieces:
        raise CorruptError(f"{where} is not a SentencePiece model: it has no pieces")
    return proto


@dataclass(frozen=True)
class Pieces:
    """The pieces of a model and their types, by id."""

    texts: list[str]
    kinds: list[int]

    def of_kind(self, *kinds: int) -> list[int]:
        return [i for i, kind in enumerate(self.kinds) if kind in kinds]

    def normal(self) -> list[str]:
        """The pieces that text is cut into, in the order of their ids."""
        return [text for text, kind in zip(self.texts, self.kinds, strict=True) if kind == NORMAL]


def pieces_of(proto: Any) -> Pieces:
    """Read the pieces of a `ModelProto` once, since each field of a message is a slow call."""
    pieces = list(proto.pieces)
    return Pieces([p.piece for p in pieces], [p.type for p in pieces])


def write_files(
    folder: Path, proto: Any, *, adds_bos: bool = True, names: Mapping[str, str] | None = None
) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` for a model.

    Args:
        adds_bos: whether a text begins with BOS; ignored if no piece has that role.
        names: roles that override the model's; a role whose token is no piece is left out.

    Raises ConfigError for a word model and for one that rewrites its text before the cut.
    """
    known = {p.piece for p in proto.pieces}
    given = {role: token for role, token in (names or {}).items() if token in known}
    names = special_names(proto) | given
    adds_bos = adds_bos and "bos_token" in names
    description = tokenizer_json(proto, bos=names["bos_token"] if adds_bos else None)
    fs.write_json(folder / "tokenizer.json", description)
    write_roles(folder, names, description["added_tokens"], adds_bos)


def write_roles(
    folder: Path,
    names: Mapping[str, str],
    added: Sequence[Mapping[str, Any]] = (),
    adds_bos: bool | None = None,
) -> None:
    """Write `special_tokens_map.json` and `tokenizer_config.json`: the roles of tokens.

    Args:
        names: {"eos_token": "</s>", …}.
        added: the `added_tokens` of tokenizer.json.
        adds_bos: None if only the post-processor of tokenizer.json decides.
    """
    decides = {} if adds_bos is None else {"add_bos_token": adds_bos, "add_eos_token": False}
    tokens = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added}
    fs.write_json(folder / "special_tokens_map.json", names)
    fs.write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **decides,
            "clean_up_tokenization_spaces": False,
            "model_max_length": NO_LIMIT,
            **({"added_tokens_decoder": tokens} if tokens else {}),
            **names,
        },
    )


def special_names(proto: Any) -> dict[str, str]:
    """{"bos_token": "<s>", …}: the roles of the model's special pieces."""
    spec = proto.trainer_spec
    roles = {
        "bos_token": spec.bos_id,
        "eos_token": spec.eos_id,
        "unk_token": spec.unk_id,
        "pad_token": spec.pad_id,
    }
    return {role: proto.pieces[i].piece for role, i in roles.items() if 0 <= i < len(proto.pieces)}


def tokenizer_json(proto: Any, *, bos: str | None) -> dict[str, Any]:
    """The content of `tokenizer.json` for a SentencePiece model with identity normalization.

    Every text begins with the piece `bos`, if it is not None.
    """
    normal = proto.normalizer_spec
    if proto.trainer_spec.model_type == WORD:
        raise ConfigError("a SentencePiece model of words cannot be written as tokenizer.json")
    if normal.precompiled_charsmap or normal.remove_extra_whitespaces:
        raise ConfigError(
            "this SentencePiece model rewrites its text (normalization or extra whitespace), which"
            " tokenizer.json cannot repeat exactly"
        )
    prefix = [{"type": "Prepend", "prepend": SPACE}] if normal.add_dummy_prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(proto),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                *prefix,
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": begins_with(bos, {p.piece: i for i, p in enumerate(proto.pieces)}),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *(strip if prefix else []),
            ],
        },
        "model": _model(proto, special_names(proto).get("unk_token")),
    }


def _model(proto: Any, unknown: str | None) -> dict[str, Any]:
    """The `model` of tokenizer.json, which cuts text into pieces."""
    if proto.trainer_spec.model_type == UNIGRAM:
        text = (NORMAL, USER_DEFINED)
        return {
            "type": "Unigram",
            "unk_id": proto.trainer_spec.unk_id,
            "vocab": [[p.piece, p.score if p.type in text else NO_PATH] for p in proto.pieces],
            "byte_fallback": bool(proto.trainer_spec.byte_fallback),
        }
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": bool(proto.trainer_spec.byte_fallback),
        "ignore_merges": False,
        "vocab": {p.piece: i for i, p in enumerate(proto.pieces)},
        "merges": merges(proto) if proto.trainer_spec.model_type == BPE else [],
    }


def merges(proto: Any) -> list[list[str]]:
    """Every split of every normal piece into two normal pieces, best score first.

    If scores tie (Llama-2's runs of spaces), the longer left part comes first: sentencepiece grows
    such a run from its left end.
    """
    score = {p.piece: p.score for p in proto.pieces if p.type == NORMAL}
    rows = []
    for number, (piece, value) in enumerate(score.items()):
        for cut in range(len(piece) - 1, 0, -1):
            left, right = piece[:cut], piece[cut:]
            if left in score and right in score:
                rows.append((-value, number, left, right))
    rows.sort(key=lambda row: row[:2])  # stable, so the longer left part stays first
    return [[left, right] for _, _, left, right in rows]


def _added_tokens(proto: Any) -> list[dict[str, Any]]:
    """`added_tokens`: the pieces that no text produces, and those cut out before merging."""
    return [
        added_token(i, p.piece, special=p.type != USER_DEFINED)
        for i, p in enumerate(proto.pieces)
        if p.type in (UNKNOWN, CONTROL, USER_DEFINED)
    ]


def added_token(i: int, content: str, *, special: bool = True) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": content, **plain, "special": special}


def begins_with(bos: str | None, ids: Mapping[str, int]) -> dict[str, Any]:
    """A post-processor that puts `bos` before a text (and before the second of a pair).

    transformers follows it: beside a tokenizer.json it ignores `add_bos_token`.
    """
    start = [{"SpecialToken": {"id": bos, "type_id": 0}}] if bos else []
    second = [{"SpecialToken": {"id": bos, "type_id": 1}}] if bos else []
    return {
        "type": "TemplateProcessing",
        "single": [*start, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            *start,
            {"Sequence": {"id": "A", "type_id": 0}},
            *second,
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {bos: {"id": bos, "ids": [ids[bos]], "tokens": [bos]}} if bos else {},
    }
