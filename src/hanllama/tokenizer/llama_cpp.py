"""The ids that llama.cpp itself gives a text: the third back end of an audit.

llama.cpp loads no vocabulary without a model, so `write` makes the smallest GGUF file that its
loader accepts, with the vocabulary as its converter would write it: pieces, scores and types from
`tokenizer.model`, corrected by `tokenizer_config.json`. `LlamaCpp` starts the server of the
`xllamacpp` wheel in this process and asks its HTTP endpoints, the only access to its tokenizer.

`ids` runs it in another process: if a vocabulary breaks an assumption of llama.cpp, that process
ends, and not the command that has just made the vocabulary. Both packages are optional
(`pip install 'hanllama[dev]'`); the audit says if they are missing.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from hanllama.base import fs
from hanllama.tokenizer import hf, own_process

_WIDTH = _CONTEXT = 64  # one head


class Refused(Exception):
    """llama.cpp answered with an error, or not at all."""


def missing() -> list[str]:
    """The packages for llama.cpp that are not installed."""
    return [name for name in ("xllamacpp", "gguf") if importlib.util.find_spec(name) is None]


def why_not(proto: Any | None) -> str:
    """Why llama.cpp cannot be asked about a SentencePiece model (None: another kind), else "".

    Its converter reads every model as BPE (a character model is BPE without merges), and spells
    unknown characters in bytes; it accepts a `tokenizer.json` only by the hash of a published one.
    """
    remedy = "only a SentencePiece BPE with byte fallback is sure to be the same there"
    if proto is None:
        return f"it knows only published kinds of tokenizer.json, and {remedy}"
    if proto.trainer_spec.model_type not in (hf.BPE, hf.CHAR):
        return f"it would read this model as BPE, which it is not; {remedy}"
    if not proto.trainer_spec.byte_fallback:
        return f"it would spell in bytes, and this model has no bytes; {remedy}"
    if packages := missing():
        return f"{' and '.join(packages)} not installed; pip install 'hanllama[dev]'"
    return ""


def ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts by a SentencePiece folder, without BOS; special tokens are text.

    Raises Refused with the reason.
    """
    try:
        return own_process.call(_ids, folder, list(texts))
    except (own_process.Died, OSError, RuntimeError) as error:
        raise Refused(str(error)) from error


def _ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    with tempfile.TemporaryDirectory() as beside:
        server = LlamaCpp(write(folder, Path(beside) / "vocabulary.gguf"))
        return [server.tokenize(text) for text in texts]


def write(folder: Path, path: Path) -> Path:
    """Write the vocabulary of a SentencePiece tokenizer folder, on a tiny Llama, to `path`."""
    import gguf

    model = folder / "tokenizer.model"
    proto = hf.parse_model(model.read_bytes(), str(model))
    config = fs.read_json(folder / "tokenizer_config.json")
    texts, scores, types = _vocabulary(proto, config)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_WIDTH)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    for role in ("bos", "eos", "unk"):
        if token := config.get(f"{role}_token"):
            getattr(writer, f"add_{role}_token_id")(texts.index(token.encode()))
    writer.add_add_bos_token(config["add_bos_token"])
    writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    for name, weight in _weights(len(texts)).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(proto: Any, config: dict[str, Any]) -> tuple[list[bytes], list[float], list[int]]:
    """The pieces, scores and types of all ids, as the converter finds them.

    It asks the sentencepiece library, which has no type "user defined", so these become normal.
    Then tokenizer_config.json overrides every token that it lists, also on top of the model.
    """
    rows = [
        (p.piece.encode(), p.score, hf.NORMAL if p.type == hf.USER_DEFINED else p.type)
        for p in proto.pieces
    ]
    listed = {int(number): token for number, token in config["added_tokens_decoder"].items()}
    for i in range(len(rows), max(listed, default=0) + 1):
        rows.append((f"[PAD{i}]".encode(), -10000.0, hf.UNUSED))
    for i, token in listed.items():
        kind = hf.CONTROL if token["special"] else hf.USER_DEFINED
        rows[i] = (token["content"].encode(), -1000.0, kind)
    texts, scores, types = map(list, zip(*rows, strict=True))
    return texts, scores, types


def _weights(vocab_size: int) -> dict[str, np.ndarray]:
    """A Llama of one layer that always generates the last piece of the vocabulary.

    With weights of zero it would sometimes generate the end token.
    """
    embedding = np.zeros((vocab_size, _WIDTH), dtype=np.float32)
    embedding[:, 0] = 1.0
    embedding[-1, 0] = 30.0
    norms = dict.fromkeys(
        ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"), np.ones(_WIDTH, np.float32)
    )
    square = np.zeros((_WIDTH, _WIDTH), dtype=np.float32)
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    layer = {f"blk.0.{part}": square for part in parts}
    tensors = {"token_embd": embedding, **norms, **layer}
    return {f"{name}.weight": weight for name, weight in tensors.items()}


class LlamaCpp:
    """llama.cpp's server in this process; it ends with the last reference."""

    def __init__(self, model: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx = _CONTEXT
        params.n_parallel = 1
        params.warmup = False
        params.cpuparams.n_threads = 1
        params.verbosity = -1
        self._server = xllamacpp.Server(params)
        self.url: str = self._server.listening_address
        self._connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text without BOS; special tokens are text unless `parse_special`."""
        asked = {"content": text, "add_special": False, "parse_special": parse_special}
        found: list[int] = self.ask("/tokenize", asked)["tokens"]
        return found

    def ask(self, endpoint: str, content: dict[str, Any]) -> dict[str, Any]:
        """The answer of an endpoint; Refused for an error."""
        body = json.dumps(content)
        self._connection.request("POST", endpoint, body, {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise Refused(f"{reply.status}: {data.decode()}")
        found: dict[str, Any] = json.loads(data)
        return found
