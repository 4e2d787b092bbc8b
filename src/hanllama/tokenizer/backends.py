"""The two back ends: SentencePiece for a `tokenizer.model`, tokenizers for a `tokenizer.json`.

Both offer the bytes of each id, and raw ids of texts. A folder's other files (BOS, added tokens,
roles) are the business of `load.py`.

Long documents: SentencePiece's BPE merges over its whole string, which costs n log n and leaves the
cache: a novel takes three times as long as its pages. When no piece holds a newline beside another
character, no merge crosses a newline, so a text can be cut after newlines and the ids joined: the
same ids, by construction. `segments.py` extends this to every boundary that no piece crosses.
`SentencePieceBackend` checks these conditions and encodes whole when a model does not meet them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.tokenizer import hf
from hanllama.tokenizer.segments import BLOCK, SegmentEncoder

# Characters encoded in one call. 500 to 1,000 measured best: 22 MB/s, against 7 for a whole novel
# and 17 for single lines.
_CHUNK = 600


class Backend(Protocol):
    """The interface of a back end: pieces as bytes, and raw ids of texts (no BOS, no EOS)."""

    pieces: list[bytes]
    special: set[int]
    special_tokens: dict[str, int]
    fallback: list[int]
    byte_ids: set[int]  # pieces that are one byte of some character
    prefixed: bool  # a text's first piece gets a leading space, which `decode` drops
    spelt_spaces: bool  # a word model spells the spaces (as U+2581) of unknown words in bytes
    digest: str

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The ids of all texts end to end, and their number for each text."""
        ...


class SentencePieceBackend:
    """`tokenizer.model` by the sentencepiece library."""

    def __init__(self, proto: Any, data: bytes, pieces: hf.Pieces) -> None:
        import sentencepiece

        self.digest = hashlib.sha256(data).hexdigest()
        self.pieces = [text.replace(hf.SPACE, " ").encode() for text in pieces.texts]
        self.special = set(pieces.of_kind(hf.UNKNOWN, hf.CONTROL, hf.UNUSED))
        self.byte_ids = set(pieces.of_kind(hf.BYTE))
        for i in self.special:
            self.pieces[i] = b""
        for i in self.byte_ids:
            self.pieces[i] = bytes([int(pieces.texts[i][1:-1], 16)])
        named = pieces.of_kind(hf.UNKNOWN, hf.CONTROL)
        self.special_tokens = {pieces.texts[i]: i for i in named}
        spelling = pieces.of_kind(hf.UNKNOWN, hf.BYTE)
        self.fallback = [i for i in spelling if not self.pieces[i].isascii() or i in self.special]
        self.prefixed = bool(proto.normalizer_spec.add_dummy_prefix)
        self.spelt_spaces = proto.trainer_spec.model_type == hf.WORD
        self._cuttable = newline_stands_alone(proto, pieces)
        self._prefix = ""
        if self._cuttable and self.prefixed:
            # The prefix belongs to the document, not to each of its chunks: a space before the
            # first chunk takes the place of the model's own prefix.
            proto.normalizer_spec.add_dummy_prefix = False
            self._prefix = " "
            data = proto.SerializeToString()
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        self._segments = None
        if self._cuttable and SegmentEncoder.fits(proto, pieces):
            self._segments = SegmentEncoder(pieces, self._run)

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if not self._cuttable:
            return _flat(self._run(list(texts)))
        chunks: list[str] = []
        ends = []
        for text in texts:
            if text and self._segments is None:
                _cut(self._prefix + text, chunks, _CHUNK)
            elif text:
                _cut((self._prefix + text).replace(" ", hf.SPACE), chunks, BLOCK // 2)
            ends.append(len(chunks))
        if self._segments is not None:
            try:
                ids, counts = self._segments.encode(chunks)
            except UnicodeEncodeError as error:
                raise _not_text(texts, error) from error
        else:
            ids, counts = _flat(self._run(chunks))
        token_ends = np.concatenate([[0], np.cumsum(counts)])[ends]
        return ids, np.diff(token_ends, prepend=0)

    def _run(self, texts: list[str]) -> list[NDArray[np.int32]]:
        try:
            # One by one: for a list, sentencepiece starts a thread pool, a millisecond each time.
            return [self._processor.encode(text, return_type="numpy") for text in texts]
        except (TypeError, RuntimeError) as error:
            raise _not_text(texts, error) from error


class JsonBackend:
    """`tokenizer.json` by the tokenizers library."""

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CorruptError(f"{path} cannot be read as a tokenizer: {error}") from error
        self._tokenizer.encode_special_tokens = True
        self.spelt_spaces = False
        self.digest = fs.sha256(path)
        self.ids: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        added = {t["id"]: t for t in description.get("added_tokens", [])}
        surface, self.prefixed = _surface(description.get("decoder") or {}, str(path))
        self.pieces = [b""] * (max(self.ids.values()) + 1)
        for piece, i in self.ids.items():
            self.pieces[i] = piece.encode() if i in added else surface(piece)
        # An id without a piece counts as special: it decodes to nothing.
        unused = set(range(len(self.pieces))) - set(self.ids.values())
        self.special_tokens = {t["content"]: i for i, t in added.items() if t.get("special")}
        self.special = unused | set(self.special_tokens.values())
        self.fallback = []
        self.byte_ids: set[int] = set()
        if description.get("model", {}).get("byte_fallback"):
            names = [f"<0x{b:02X}>" for b in range(0x80, 0x100)]
            self.fallback = [self.ids[n] for n in names if n in self.ids]
            every = (f"<0x{b:02X}>" for b in range(0x100))
            self.byte_ids = {self.ids[n] for n in every if n in self.ids}
        unknown = description.get("model", {}).get("unk_token")
        if unknown in self.ids:
            self.fallback.append(self.ids[unknown])
            self.special.add(self.ids[unknown])

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        try:
            rows = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise _not_text(texts, error) from error
        return _flat([np.array(row.ids, dtype=np.int32) for row in rows])


def _flat(rows: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    lengths = np.array([row.size for row in rows], dtype=np.int64)
    return np.concatenate([np.zeros(0, np.int32), *rows]), lengths


def newline_stands_alone(proto: Any, pieces: hf.Pieces) -> bool:
    """Whether the ids of a text are the ids of its lines (with their newlines) put end to end.

    True for BPE if the text reaches the merges unchanged except for spaces, no piece joins a
    newline with another character, and a newline is never unknown (neighbouring unknowns fuse).
    """
    normal, spec = proto.normalizer_spec, proto.trainer_spec
    plain = not (normal.precompiled_charsmap or normal.remove_extra_whitespaces)
    plain = plain and normal.escape_whitespaces and not spec.treat_whitespace_as_suffix
    with_newline = {text for text in pieces.texts if "\n" in text}
    known = spec.byte_fallback or "\n" in with_newline
    joined = with_newline - {"\n"}
    spaced = any(pieces.texts[i][:1] in " ▁" for i in pieces.of_kind(hf.USER_DEFINED))
    return bool(spec.model_type == hf.BPE and plain and known and not joined and not spaced)


def _cut(text: str, chunks: list[str], length: int) -> None:
    """Append `text` to `chunks` in parts of about `length` characters, each ending in a newline."""
    begin, size = 0, len(text)
    while size - begin > length:
        end = text.find("\n", begin + length) + 1
        if end == 0:
            break
        chunks.append(text[begin:end])
        begin = end
    if begin < size:
        chunks.append(text[begin:] if begin else text)


def _surface(decoder: dict[str, Any], where: str) -> tuple[Callable[[str], bytes], bool]:
    """The function piece -> bytes of a decoder, and whether decoding drops a leading space."""
    steps = decoder.get("decoders", [decoder])
    kinds = [step.get("type") for step in steps]
    if kinds == ["WordPiece"]:
        inside = steps[0]["prefix"]
        return (
            lambda p: (p.removeprefix(inside) if p.startswith(inside) else f" {p}").encode()
        ), True
    if kinds == ["ByteLevel"]:
        table = byte_level_table()
        return (lambda piece: bytes(table[c] for c in piece)), False
    known = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
    if not kinds or not set(kinds) <= known:
        raise InputError(f"{where}: decoders {kinds} are not known here; use a BPE tokenizer.json")
    prefixed = any(
        (step["type"] == "Strip" and step.get("start"))
        or (step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )
    by_byte = {f"<0x{b:02X}>": bytes([b]) for b in range(256)} if "ByteFallback" in kinds else {}

    def surface(piece: str) -> bytes:
        return by_byte.get(piece) or piece.replace(hf.SPACE, " ").encode()

    return surface, prefixed


def byte_level_table() -> dict[str, int]:
    """GPT-2's spelling of bytes as printable characters, inverted."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in plain}
    rest = [b for b in range(256) if b not in plain]
    return table | {chr(256 + n): b for n, b in enumerate(rest)}


def _not_text(texts: Sequence[str], error: Exception) -> Exception:
    """The error of the first text that is not valid Unicode; else `error`, which says little."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as half:
            around = ascii(text[max(half.start - 10, 0) : half.start + 10])
            return InputError(
                "a text holds half a surrogate pair (U+D800 to U+DFFF), which is no character:"
                f" {around}; clean the corpus first (hanllama clean)"
            )
    return error
