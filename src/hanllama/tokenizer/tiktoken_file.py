"""A tiktoken file (bytes and ranks, as Qwen publishes) as a byte-level BPE `tokenizer.json`.

A tiktoken file holds no merges: a line is a token's bytes in base64 and its rank, which is its id.
tiktoken merges the neighbours that make the token of lowest rank; the tokenizers library merges
listed pairs in their order. The list comes from merging each token's bytes with only the tokens of
lower rank: two parts remain, the halves that training joined. If more parts remain, no merge
reaches the token; it is found only as a whole pre-token, which tiktoken looks up first, as
`ignore_merges` does.

The file also lacks the pattern that cuts text before merging and the special tokens; `ENCODINGS`
has them for published files.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanllama.base.errors import CorruptError
from hanllama.tokenizer import hf
from hanllama.tokenizer.backends import byte_level_table


@dataclass(frozen=True)
class Encoding:
    """The facts that a tiktoken file lacks."""

    pattern: str
    special: tuple[str, ...]
    eos: str


# Known files, by their name without `.tiktoken`.
ENCODINGS = {
    # QwenLM/Qwen, tokenization_qwen.py: PAT_STR and SPECIAL_TOKENS
    "qwen": Encoding(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        (
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            *(f"<|extra_{n}|>" for n in range(205)),
        ),
        "<|endoftext|>",
    ),
}
_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} [0-9]+")


def is_tiktoken(data: bytes) -> bool:
    """Whether the data begins with a tiktoken line."""
    return _LINE.fullmatch(data.split(b"\n", 1)[0].strip()) is not None


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read {token: rank}; CorruptError names the bad line or the missing bytes."""
    ranks: dict[bytes, int] = {}
    used: dict[int, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if not _LINE.fullmatch(line.strip()):
            raise CorruptError(f"{where}: not a token and its rank: {line[:60]!r}")
        spelt, _, rank_text = line.strip().partition(b" ")
        try:
            token = base64.b64decode(spelt, validate=True)
        except binascii.Error as error:
            raise CorruptError(f"{where}: {spelt[:60]!r} is no base64: {error}") from error
        rank = int(rank_text)
        if token in ranks:
            raise CorruptError(f"{where}: the token {token!r} was there before")
        if rank in used:
            raise CorruptError(f"{where}: rank {rank} was given to line {used[rank]} already")
        ranks[token], used[rank] = rank, number
    missing = [b for b in range(256) if bytes([b]) not in ranks]
    if missing:
        raise CorruptError(
            f"{path}: {len(missing)} of the 256 single bytes are no tokens, byte {missing[0]:#04x}"
            " first; is the file complete?"
        )
    return ranks


def tokenizer_json(
    ranks: dict[bytes, int], pattern: str, special: tuple[str, ...]
) -> dict[str, Any]:
    """The content of tokenizer.json; special tokens get the ids after the highest rank."""
    spelling = {byte: char for char, byte in byte_level_table().items()}

    def spell(token: bytes) -> str:
        return "".join(spelling[b] for b in token)

    by_rank = sorted(ranks, key=ranks.__getitem__)
    merges = []
    for token in by_rank:
        parts = halves(token, ranks)
        if len(parts) == 2:
            merges.append([spell(parts[0]), spell(parts[1])])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    first = max(ranks.values()) + 1
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [hf.added_token(first + n, text) for n, text in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {**byte_level, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {spell(token): ranks[token] for token in by_rank},
            "merges": merges,
        },
    }


def halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The parts of a token's bytes after merging with tokens of lower rank only."""
    limit = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best, at = limit, -1
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], limit)
            if rank < best:
                best, at = rank, i
        if at < 0:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
