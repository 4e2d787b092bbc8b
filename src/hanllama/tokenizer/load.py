"""Text to token ids and back from any tokenizer folder, with the ids that other libraries give.

A `Tokenizer` has one of two back ends (`backends.py`). If the folder has a `tokenizer.model`, it is
SentencePiece, the faster one; a `tokenizer.json` beside it must describe the same vocabulary, or
the folder is refused. Otherwise the `tokenizers` library reads `tokenizer.json`. Typed text never
becomes a special token: `<s>` in a text is three characters, as with transformers'
`split_special_tokens=True`.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.tokenizer import hf
from hanllama.tokenizer.backends import Backend, JsonBackend, SentencePieceBackend

FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


class Tokenizer:
    """An open tokenizer folder. Make one with `load_tokenizer`.

    Attributes:
        vocab_size: ids run from 0 to vocab_size - 1; the number of rows of an embedding.
        bos_id, eos_id, pad_id: special ids; None if the folder names none (EOS must exist).
        adds_bos: whether `encode` starts with BOS.
        hash: sha256 of the vocabulary and these settings: equal hashes give equal ids.
        special_tokens: {content: id} of the tokens that no typed text produces.
        special_roles: {"bos_token": "<s>", …}: the names that a chat template uses.
        special_strips: {content: (left, right)}: tokens that remove the white space beside them in
            a rendered chat.
    """

    def __init__(self, folder: Path, backend: Backend, settings: _Settings) -> None:
        self.folder = folder
        self._backend = backend
        self.bos_id, self.eos_id, self.pad_id = settings.bos_id, settings.eos_id, settings.pad_id
        self.adds_bos, self._adds_eos = settings.adds_bos, settings.adds_eos
        self._pieces = list(backend.pieces)
        self._special = set(backend.special)
        self.special_tokens = dict(backend.special_tokens)
        for i, content, special in settings.extra:
            self._pieces.extend([b""] * (i + 1 - len(self._pieces)))
            self._pieces[i] = b"" if special else content.encode()
            self._special.add(i)
            self.special_tokens[content] = i
        self.special_roles = settings.roles
        self.special_strips = settings.strips
        self.vocab_size = len(self._pieces)
        facts: list[Any] = [backend.digest, self.bos_id, self.eos_id, self.pad_id, self.adds_bos]
        facts.append([[i, content] for i, content, _ in settings.extra])
        self.hash = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids that transformers' AutoTokenizer gives, with its BOS if it adds one."""
        ids: list[int] = self._backend.encode_flat([text])[0].tolist()
        start = [self.bos_id] if self.adds_bos and self.bos_id is not None else []
        return [*start, *ids, *([self.eos_id] if self._adds_eos else [])]

    def encode_documents(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Training rows: one int32 array per text, with BOS if the tokenizer adds one, and EOS."""
        ids, lengths = self.encode_flat(texts)
        return np.split(ids, np.cumsum(lengths)[:-1]) if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The rows of `encode_documents` end to end: ids int32 [tokens], lengths int64 [texts].

        Most of it releases the interpreter lock: threads encode in parallel.
        """
        ids, lengths = self._backend.encode_flat(texts)
        before = int(self.adds_bos and self.bos_id is not None)
        shift = np.arange(len(texts), dtype=np.int64) * (before + 1) + before
        out = np.empty(ids.size + len(texts) * (before + 1), dtype=np.int32)
        of_text = np.ones(out.size, dtype=bool)
        ends = np.cumsum(lengths) + shift
        out[ends] = self.eos_id
        of_text[ends] = False
        if self.bos_id is not None and before:
            out[ends - lengths - 1] = self.bos_id
            of_text[ends - lengths - 1] = False
        out[of_text] = ids
        return out, lengths + (before + 1)

    def encode_raw(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of texts end to end, int32 [tokens], and their counts, int64 [texts]: no BOS, no EOS.

        `chat.py` encodes the text between two special tokens with it.
        """
        return self._backend.encode_flat(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens left out; malformed UTF-8 becomes U+FFFD a byte."""
        stream = self.stream()
        return "".join(stream.push(int(i)) for i in ids) + stream.finish()

    def stream(self, *, continues: bool = False) -> StreamDecoder:
        """A decoder that takes one id at a time.

        Args:
            continues: the ids continue a text, so a leading space belongs to it and is not the
                prefix that a SentencePiece model puts before every text.
        """
        prefixed = self._backend.prefixed and not continues
        return StreamDecoder(self._pieces, self._special, prefixed, self._backend.spelt_spaces)

    def piece(self, token_id: int) -> str:
        """The readable text of a token: part of a character as `<0xE4><0xBD>`."""
        data = self._pieces[token_id]
        if token_id in self._special:
            names = {i: content for content, i in self.special_tokens.items()}
            return names.get(token_id, f"<unused {token_id}>")
        if token_id in self._backend.byte_ids:
            return f"<0x{data[0]:02X}>"
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in data)

    def token_bytes(self) -> NDArray[np.int32]:
        """[vocab_size] int32: the number of UTF-8 bytes of a token, 0 for special tokens."""
        sizes = [0 if i in self._special else len(p) for i, p in enumerate(self._pieces)]
        return np.array(sizes, dtype=np.int32)

    def is_fallback(self) -> NDArray[np.bool_]:
        """[vocab_size] bool: true for the unknown token and for bytes of 0x80 and above.

        Many of them show that the vocabulary does not fit the text; an ASCII byte, such as a
        newline, does not. (A byte-level BPE has no fallback: all entries are False.)
        """
        mask = np.zeros(self.vocab_size, dtype=bool)
        mask[self._backend.fallback] = True
        return mask


class StreamDecoder:
    """Ids in, text out, never half a character: incomplete bytes wait for the rest."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        special: set[int],
        prefixed: bool,
        spelt_spaces: bool = False,
    ) -> None:
        self._pieces, self._special = pieces, special
        self._spelt_spaces = spelt_spaces
        self._strip = prefixed
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors=_BAD_BYTES)

    def push(self, token_id: int) -> str:
        """The text that this id completes; often empty inside a character."""
        if not 0 <= token_id < len(self._pieces):
            raise InputError(
                f"token id {token_id} is outside the vocabulary of {len(self._pieces)}; do the"
                " model and this tokenizer belong together?"
            )
        if token_id in self._special:
            return ""
        data = self._pieces[token_id]
        if self._strip and data:
            self._strip = False
            data = data.removeprefix(b" ")
        text = self._decoder.decode(data)
        return text.replace(hf.SPACE, " ") if self._spelt_spaces else text

    def finish(self) -> str:
        """U+FFFD for each byte of a character that stayed incomplete."""
        return self._decoder.decode(b"", final=True)


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder itself holds a tokenizer."""
    return any((folder / name).is_file() for name in FILES[:2])


def home_of(folder: str | Path) -> Path:
    """The folder of a model's tokenizer. PEFT writes none beside an adapter: its base has it.

    Raises InputError if the base does not exist.
    """
    folder = Path(folder)
    adapter = folder / "adapter_config.json"
    if has_tokenizer(folder) or not adapter.is_file():
        return folder
    base = fs.read_json(adapter).get("base_model_name_or_path")
    if not isinstance(base, str) or not Path(base).is_dir():
        raise InputError(
            f"{folder} is an adapter without a tokenizer, on the model {base!r}, which is no folder"
            " here: copy that model's tokenizer files into the adapter's folder"
        )
    return Path(base)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Open a tokenizer folder, or the tokenizer of a model or adapter folder.

    Raises InputError if there is none or it names no EOS token, CorruptError if its files do not
    belong together.
    """
    folder = home_of(folder)
    if not folder.is_dir():
        hint = "; give the folder that holds it" if folder.is_file() else ""
        raise InputError(f"tokenizer folder {folder} does not exist{hint}")
    model, described = folder / "tokenizer.model", folder / "tokenizer.json"
    config = read_object(folder / "tokenizer_config.json")
    roles = roles_of(config, read_object(folder / "special_tokens_map.json"))
    description: dict[str, Any] = {}
    above = added_tokens(config, read_object(folder / "added_tokens.json"))
    if model.is_file():
        data = model.read_bytes()
        proto = hf.parse_model(data, str(model))
        pieces = hf.pieces_of(proto)
        extra: list[tuple[int, str, bool]] = []
        bos_by_template = True
        if described.is_file():
            description = fs.read_json(described)
            extra = _check_same(folder, pieces, description)
            bos_by_template = template_bos(description) is not None
        elif over := [token for token, i in above.items() if i >= len(pieces.texts)]:
            raise InputError(
                f"{folder} puts {len(over):,} tokens on top of tokenizer.model ({over[0]!r} first),"
                " but has no tokenizer.json with them; import it first: hanllama tokenizer import"
                f" {folder} --output …"
            )
        try:
            backend: Backend = SentencePieceBackend(proto, data, pieces)
        except RuntimeError as error:  # an empty or repeated piece, for example
            raise CorruptError(f"{model} is not a SentencePiece model: {error}") from error
        ids = {text: i for i, text in enumerate(pieces.texts)}
        ids.update({content: i for i, content, _ in extra})
        roles = {**hf.special_names(proto), **roles}
    elif described.is_file():
        description = fs.read_json(described)
        backend = JsonBackend(described, description)
        extra = []
        ids = backend.ids
        bos_by_template = template_bos(description) is not None
    else:
        raise InputError(
            f"{folder} holds no tokenizer (neither tokenizer.model nor tokenizer.json); train one"
            " with: hanllama tokenizer train"
        )
    settings = _Settings(folder, config, roles, ids, extra, bos_by_template)
    for token in description.get("added_tokens", []):
        if token.get("lstrip") or token.get("rstrip"):
            settings.strips[token["content"]] = (bool(token["lstrip"]), bool(token["rstrip"]))
    return Tokenizer(folder, backend, settings)


def copy_tokenizer(source: str | Path, target: str | Path) -> None:
    """Copy the tokenizer files of a folder into another.

    A lone `tokenizer.model` gets the `tokenizer.json` that transformers needs, except a word model.
    """
    source, target = home_of(source), Path(target)
    model, described = source / "tokenizer.model", source / "tokenizer.json"
    loaded = None if described.is_file() else load_tokenizer(source)  # refuses a bad folder
    for name in FILES:
        if (source / name).is_file():
            with fs.storage(target / name):
                shutil.copyfile(source / name, target / name)
    if loaded is not None:
        proto = hf.parse_model(model.read_bytes(), str(model))
        if proto.trainer_spec.model_type != hf.WORD:
            hf.write_files(target, proto, adds_bos=loaded.adds_bos, names=loaded.special_roles)


# --- settings --------------------------------------------------------------------------------


class _Settings:
    """The special ids and the BOS rule of a folder's files."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        roles: dict[str, str],
        ids: dict[str, int],
        extra: list[tuple[int, str, bool]],
        bos_by_template: bool,
    ) -> None:
        self.extra, self.roles = extra, roles
        self.strips: dict[str, tuple[bool, bool]] = {}
        self.bos_id = ids.get(roles.get("bos_token", ""))
        eos_id = ids.get(roles.get("eos_token", ""))
        self.pad_id = ids.get(roles.get("pad_token", ""))
        if eos_id is None:
            raise InputError(
                f"tokenizer in {folder} names no end-of-text token; add `eos_token` to its"
                " tokenizer_config.json"
            )
        self.eos_id: int = eos_id
        # transformers' order: tokenizer_config.json wins over the template.
        explicit = "add_bos_token" in config or "add_eos_token" in config
        default = config.get("tokenizer_class") in LLAMA_CLASSES
        adds_bos = bool(config.get("add_bos_token", default)) if explicit else bos_by_template
        self.adds_bos = adds_bos and self.bos_id is not None
        self.adds_eos = bool(config.get("add_eos_token", False))


LLAMA_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty if there is no file; CorruptError for other JSON."""
    value = fs.read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise CorruptError(f"{path} must hold a JSON object")
    return value


def roles_of(*sources: dict[str, Any]) -> dict[str, str]:
    """{"eos_token": "</s>"} from the first source that names it, as text or as an object."""
    found: dict[str, str] = {}
    for source in sources:
        for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
            value = source.get(role)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                found.setdefault(role, value)
    return found


def added_tokens(config: dict[str, Any], plain: dict[str, Any]) -> dict[str, int]:
    """{token: id} of a tokenizer_config.json and an added_tokens.json."""
    found: dict[str, int] = {}
    for i, token in (config.get("added_tokens_decoder") or {}).items():
        found[token["content"] if isinstance(token, dict) else str(token)] = int(i)
    return found | {token: int(i) for token, i in plain.items()}


def vocabulary_of(description: dict[str, Any]) -> dict[str, int]:
    """{token: id} of a tokenizer.json, added tokens included."""
    vocab = description.get("model", {}).get("vocab", {})
    if isinstance(vocab, list):  # a unigram model's: [piece, score] in the order of the ids
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    return {**vocab, **{t["content"]: t["id"] for t in description.get("added_tokens", [])}}


def template_bos(description: dict[str, Any]) -> str | None:
    """The special token with which the post-processor of a tokenizer.json starts a text."""
    post = description.get("post_processor") or {}
    for part in [post, *post.get("processors", [])]:
        if part.get("type") == "TemplateProcessing":
            first: dict[str, Any] = part["single"][0].get("SpecialToken", {})
            return first.get("id")
    return None


def _check_same(
    folder: Path, model: hf.Pieces, description: dict[str, Any]
) -> list[tuple[int, str, bool]]:
    """Refuse a folder whose two tokenizers differ; return the special tokens after the pieces."""
    other = vocabulary_of(description)
    pieces = {text: i for i, text in enumerate(model.texts)}
    extra = [
        (t["id"], t["content"], True)
        for t in description.get("added_tokens", [])
        if t["content"] not in pieces and t["id"] >= len(pieces) and t.get("special")
    ]
    known = {**pieces, **{content: i for i, content, _ in extra}}
    if other != known:
        piece = min(k for k in other.keys() | known.keys() if other.get(k) != known.get(k))
        raise CorruptError(
            f"tokenizer.model and tokenizer.json in {folder} are different vocabularies: {piece!r}"
            f" is {known.get(piece)} in the one, {other.get(piece)} in the other; remove the wrong"
            " one"
        )
    return sorted(extra)


# --- invalid bytes ----------------------------------------------------------------------------


def _replace_bytes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "�" * (error.end - error.start), error.end


# One U+FFFD per byte, as in sentencepiece; Python's own handler gives one per broken sequence.
_BAD_BYTES = "hanllama-byte"
codecs.register_error(_BAD_BYTES, _replace_bytes)
