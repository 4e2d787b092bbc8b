"""`hanllama tokenizer import SOURCE`: turn a published tokenizer into a tokenizer folder.

The source is one of these, known by its content and not by its name:

- a SentencePiece model: kept as it is, with a `tokenizer.json` by which transformers gives the same
  ids (`hf.py`); a published one beside it is replaced, because `LlamaTokenizer` reads it
  differently, but its special tokens stay;
- a `tokenizer.json`: kept byte for byte, with the class that obeys it; the publisher's code
  (`auto_map`) is left out;
- a tiktoken file: `tiktoken_file.py`;
- a model or tokenizer folder with any of these (in this order).

Then the result is audited (`audit.py`).
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.base.making import Making, making
from hanllama.base.plugins import nearest
from hanllama.tokenizer import hf, tiktoken_file
from hanllama.tokenizer.audit import Audit, audit
from hanllama.tokenizer.load import (
    LLAMA_CLASSES,
    Tokenizer,
    added_tokens,
    load_tokenizer,
    read_object,
    roles_of,
    template_bos,
    vocabulary_of,
)

END_TOKENS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "[SEP]")
CHAT_TEMPLATE = "chat_template.jinja"


@checked
class TokenizerImportConfig:
    """Options of `hanllama tokenizer import`."""

    source: str = option(
        positional=True, help="a .model, a tokenizer.json, a tiktoken file, or a folder with one"
    )
    output: str = option(help="the tokenizer folder to write")
    special: tuple[str, ...] = option(
        (), help="special tokens to put on top of the vocabulary, in this order"
    )
    bos: str = option("", help="the token that begins a text, if the source names none or another")
    eos: str = option("", help="the token that ends a text, if the source names none or another")
    pad: str = option("", help="the token that fills a row, if the source names none or another")
    add_bos: bool | None = option(None, help="begin every text with BOS; default: as the source")
    encoding: str = option(
        "", help=f"of a tiktoken file: {', '.join(tiktoken_file.ENCODINGS)}; else by its file name"
    )
    pattern: str = option(
        "", help="the regular expression that cuts text, for a tiktoken file of unknown encoding"
    )
    force: bool = option(False, help="replace the output folder if it exists")


@dataclass
class Source:
    """A published tokenizer.

    Attributes:
        file: the file that holds the vocabulary.
        kind: `sentencepiece`, `json` or `tiktoken`.
        config: the tokenizer_config.json beside it, or empty.
        roles: {"eos_token": "</s>"} by the files beside it.
        added: {token: id} of the special tokens that its other files put on top.
        chat_template: the one beside it, or in its config.
    """

    file: Path
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    chat_template: str = ""


def take_over(options: TokenizerImportConfig) -> Path:
    """Publish the imported tokenizer with its audit.

    Raises InputError for a missing source, one without an end token, or an existing output;
    CorruptError for a file that is no tokenizer; ConfigError for options that do not fit it.
    """
    with making(options.output, force=options.force) as made:
        return _take_over(options, made)


def _take_over(options: TokenizerImportConfig, made: Making) -> Path:
    source = find(Path(options.source))
    if source.kind != "tiktoken" and (options.encoding or options.pattern):
        raise ConfigError(f"--encoding and --pattern are for tiktoken files; {source.file} is none")
    roles = source.roles | {
        f"{role}_token": value
        for role, value in (("bos", options.bos), ("eos", options.eos), ("pad", options.pad))
        if value
    }
    with made.publish() as folder:
        _WRITERS[source.kind](folder, source, roles, options)
        if source.chat_template:
            fs.write_text(folder / CHAT_TEMPLATE, source.chat_template)
        tokenizer = load_tokenizer(folder)
        result = audit(tokenizer)
        result.card().write(folder, result.as_dict(), "audit.json")
    _print(source, tokenizer, result, made.output)
    return made.output


@contextlib.contextmanager
def opened(name: str) -> Iterator[Tokenizer]:
    """Open a folder or a lone file of any kind.

    A lone file names no roles, so its end token is one of the usual names; this changes no id of a
    text.
    """
    path = Path(name)
    if path.is_dir():
        yield load_tokenizer(path)
        return
    source = find(path)
    eos = ""
    if source.kind == "json" and "eos_token" not in source.roles:
        known = vocabulary_of(_described(source.file))
        eos = next((token for token in END_TOKENS if token in known), "")
    roles = source.roles | ({"eos_token": eos} if eos else {})
    with tempfile.TemporaryDirectory() as beside:
        options = TokenizerImportConfig(source=name, output=beside, eos=eos)
        _WRITERS[source.kind](Path(beside), source, roles, options)
        yield load_tokenizer(beside)


def find(path: Path) -> Source:
    """Find the tokenizer at a path; InputError if it holds none."""
    if path.is_dir():
        file = _in_folder(path)
    elif path.is_file():
        file = path
    else:
        raise InputError(f"{path} does not exist; give a tokenizer file, or a folder with one")
    kind = _kind(file)
    # The files beside a lone file may belong to another tokenizer, except beside a tokenizer.json.
    beside = file.parent if path.is_dir() or file.name == "tokenizer.json" else None
    if beside is None:
        return Source(file, kind)
    config = read_object(beside / "tokenizer_config.json")
    found = Source(file, kind, config)
    found.roles = roles_of(config, read_object(beside / "special_tokens_map.json"))
    found.added = added_tokens(config, read_object(beside / "added_tokens.json"))
    if kind == "sentencepiece":
        described = read_object(beside / "tokenizer.json").get("added_tokens", [])
        found.added |= {t["content"]: int(t["id"]) for t in described}
    template = config.get("chat_template")
    found.chat_template = template if isinstance(template, str) else ""
    if (beside / CHAT_TEMPLATE).is_file():
        found.chat_template = (beside / CHAT_TEMPLATE).read_text(encoding="utf-8")
    return found


def _in_folder(folder: Path) -> Path:
    for name in ("tokenizer.model", "tokenizer.json"):
        if (folder / name).is_file():
            return folder / name
    files = sorted(folder.glob("*.tiktoken"))
    if len(files) == 1:
        return files[0]
    held = "several *.tiktoken files" if files else "no tokenizer"
    raise InputError(
        f"{folder} holds {held} (looked for tokenizer.model, tokenizer.json, one *.tiktoken); give"
        " the file itself"
    )


def _kind(file: Path) -> str:
    with open(file, "rb") as opened:
        head = opened.read(4096)
    if head.lstrip()[:1] == b"{":
        return "json"
    if tiktoken_file.is_tiktoken(head):
        return "tiktoken"
    hf.parse_model(file.read_bytes(), str(file))  # CorruptError for any other file
    return "sentencepiece"


# --- one writer a kind -------------------------------------------------------------------------


def _write_sentencepiece(
    folder: Path, source: Source, roles: dict[str, str], options: TokenizerImportConfig
) -> None:
    """Write the model unchanged, and a tokenizer.json with its special tokens on top."""
    proto = hf.parse_model(source.file.read_bytes(), str(source.file))
    names = hf.special_names(proto) | roles
    adds_bos = _adds_bos(source, options, default=True)
    pieces = {p.piece: i for i, p in enumerate(proto.pieces)}
    above = {token: i for token, i in source.added.items() if i >= len(pieces)}
    added = _on_top(len(pieces), pieces, above, options.special)
    with fs.storage(folder):
        shutil.copyfile(source.file, folder / "tokenizer.model")
    if proto.trainer_spec.model_type == hf.WORD:
        if added:
            raise ConfigError("special tokens cannot be put on top of a model of words")
        return
    description = hf.tokenizer_json(_without_normalizer(proto), bos=None)
    description["normalizer"]["normalizers"][:0] = _normalizers(proto)
    description["added_tokens"] += added
    _write_json(folder, description, names, adds_bos, options)


def _write_tokenizer_json(
    folder: Path, source: Source, roles: dict[str, str], options: TokenizerImportConfig
) -> None:
    """Write the tokenizer.json, with the requested special tokens on top."""
    description = _described(source.file)
    vocabulary = vocabulary_of(description)
    size = max(vocabulary.values(), default=-1) + 1
    added = _on_top(size, vocabulary, {}, options.special)
    eos = roles.get("eos_token")
    if not eos:
        names = [t["content"] for t in description.get("added_tokens", [])]
        raise InputError(
            f"{source.file} does not say which token ends a text; give --eos, one of:"
            f" {', '.join(names[:8]) or 'its tokens'}"
        )
    adds_bos: bool | None = None
    if options.add_bos is not None or source.config.get("tokenizer_class") in LLAMA_CLASSES:
        adds_bos = _adds_bos(source, options, default=True)
    elif "add_bos_token" in source.config:
        adds_bos = bool(source.config["add_bos_token"])
    if begins := template_bos(description):
        roles = {"bos_token": begins, **roles}
    _write_json(
        folder,
        {**description, "added_tokens": [*description.get("added_tokens", []), *added]},
        roles,
        adds_bos,
        options,
        original=None if added else source.file,
    )


def _write_tiktoken(
    folder: Path, source: Source, roles: dict[str, str], options: TokenizerImportConfig
) -> None:
    """Write a tokenizer.json made from bytes and ranks."""
    known = tiktoken_file.ENCODINGS
    name = options.encoding or source.file.name.removesuffix(".tiktoken")
    if options.encoding and options.encoding not in known:
        raise ConfigError(f"encoding {name!r} is not known{nearest(name, list(known))}")
    if name in known and not options.pattern:
        encoding = known[name]
    elif options.pattern and options.special:
        encoding = tiktoken_file.Encoding(options.pattern, (), "")
    else:
        raise ConfigError(
            f"{source.file} does not say how text is cut before merging, nor its special tokens;"
            f" give --encoding ({', '.join(known)}), or --pattern and --special"
        )
    if not _is_regex(encoding.pattern):
        raise ConfigError(f"--pattern is no regular expression: {encoding.pattern}")
    names = {"eos_token": encoding.eos, "pad_token": encoding.eos} if encoding.eos else {}
    names |= roles
    if "eos_token" not in names:
        raise ConfigError(f"give --eos, one of the special tokens: {', '.join(options.special)}")
    ranks = tiktoken_file.read_ranks(source.file)
    special = (*encoding.special, *options.special)
    description = tiktoken_file.tokenizer_json(ranks, encoding.pattern, special)
    _write_json(folder, description, names, bool(options.add_bos), options)


_WRITERS = {
    "sentencepiece": _write_sentencepiece,
    "json": _write_tokenizer_json,
    "tiktoken": _write_tiktoken,
}


def _write_json(
    folder: Path,
    description: dict[str, Any],
    names: dict[str, str],
    adds_bos: bool | None,
    options: TokenizerImportConfig,
    *,
    original: Path | None = None,
) -> None:
    """Write tokenizer.json and the two files with the roles of its tokens.

    Args:
        adds_bos: whether a text begins with BOS; None: as the description says.
        original: the file of the description, copied byte for byte if nothing changes.
    """
    vocabulary = vocabulary_of(description)
    names = _known(names, vocabulary, options)
    bos = names.get("bos_token")
    if options.add_bos and bos is None:
        raise ConfigError("--add-bos needs to know the token: name it with --bos")
    begins = template_bos(description)
    wanted = bos if (begins is not None if adds_bos is None else adds_bos) else None
    if wanted != begins:
        description = {**description, "post_processor": hf.begins_with(wanted, vocabulary)}
    if original is not None and wanted == begins:
        with fs.storage(folder):
            shutil.copyfile(original, folder / "tokenizer.json")
    else:
        fs.write_json(folder / "tokenizer.json", description)
    says = None if adds_bos is None else wanted is not None
    hf.write_roles(folder, names, description["added_tokens"], says)


# --- a SentencePiece model that rewrites its text ------------------------------------------------


def _without_normalizer(proto: Any) -> Any:
    """A copy of the model without its normalization, which `_normalizers` takes over."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    copy.normalizer_spec.precompiled_charsmap = b""
    copy.normalizer_spec.remove_extra_whitespaces = False
    return copy


def _normalizers(proto: Any) -> list[dict[str, Any]]:
    """The model's normalization as steps of the tokenizers library."""
    spec = proto.normalizer_spec
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        table = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": table})
    if spec.remove_extra_whitespaces:
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        steps.append({"type": "Replace", "pattern": {"Regex": "^ | $"}, "content": ""})
    return steps


# --- special tokens ------------------------------------------------------------------------------


def _on_top(
    size: int, vocabulary: dict[str, int], above: dict[str, int], asked: tuple[str, ...]
) -> list[dict[str, Any]]:
    """`added_tokens` for the tokens above the pieces and for the requested ones."""
    taken = dict(above)
    following = max([size - 1, *above.values()]) + 1
    for token in asked:
        if not token or token in taken or token in vocabulary:
            why = "is empty" if not token else "is in the vocabulary already"
            raise ConfigError(f"--special {token!r} {why}; each must be new")
        taken[token] = following
        following += 1
    return [hf.added_token(i, t) for t, i in sorted(taken.items(), key=lambda item: item[1])]


def _adds_bos(source: Source, options: TokenizerImportConfig, *, default: bool) -> bool:
    if options.add_bos is not None:
        return options.add_bos
    return bool(source.config.get("add_bos_token", default))


def _known(
    names: dict[str, str], vocabulary: dict[str, int], options: TokenizerImportConfig
) -> dict[str, str]:
    """The roles whose tokens exist. A requested one must; a publisher's may be a leftover."""
    for role, name in (("bos", options.bos), ("eos", options.eos), ("pad", options.pad)):
        if name and name not in vocabulary:
            raise ConfigError(f"--{role} {name!r} is not in the vocabulary; add it with --special")
    return {role: name for role, name in names.items() if name in vocabulary}


# --- small readers -------------------------------------------------------------------------------


def _described(path: Path) -> dict[str, Any]:
    """The content of a tokenizer.json; CorruptError for another JSON file."""
    description = read_object(path)
    if not isinstance(description.get("model"), dict):
        raise CorruptError(f"{path} is no tokenizer.json: it has no `model`")
    return description


def _is_regex(pattern: str) -> bool:
    import tokenizers

    try:
        tokenizers.Regex(pattern)
    except Exception:  # the library raises bare Exception
        return False
    return True


# --- the printed report --------------------------------------------------------------------------


def _print(source: Source, tokenizer: Tokenizer, result: Audit, output: Path) -> None:
    pieces = tokenizer.vocab_size - len(tokenizer.special_tokens)
    print(f"taken over            {source.file} ({source.kind})")
    print(f"tokens                {pieces:,} and {len(tokenizer.special_tokens):,} special")
    result.card().print()
    for name in (n for n in tokenizer.special_tokens if re.fullmatch(r"\w+", n)):
        print(
            f"note: {name!r} is a special token and reads like a word: transformers cuts it out of"
            f" ordinary text unless split_special_tokens=True; <{name}> would be safe"
        )
    print(f"tokenizer: {output}")
