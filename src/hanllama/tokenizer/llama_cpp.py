"""llama.cpp's ids of a text, asked of llama.cpp itself: the third back end of an audit.

llama.cpp's converter takes vocabulary, scores and piece types from `tokenizer.model` and corrects
them by `tokenizer_config.json`; `write` does the same through the `gguf` package, and adds the
smallest Llama that the loader accepts (one layer, which always says the vocabulary's last piece:
weights of zero would draw the end token now and then), since the server loads no vocabulary without
a model. `LlamaCpp` starts the server of the `xllamacpp` wheel in this process, on this machine
alone, and asks its HTTP endpoints /tokenize and /detokenize, which is all of its tokenizer that the
wheel offers.

`ids` does so in a process of its own: where a vocabulary breaks an assumption of llama.cpp, that
process ends, and not the command that has just made the vocabulary. Both packages are optional
(`pip install 'hanllama[dev]'`); without them nobody is asked, and the audit says so.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from hanllama.base import fs
from hanllama.tokenizer import hf

_WIDTH, _HEAD_DIM, _CONTEXT = 32, 16, 64
_SECONDS = 120.0  # a vocabulary of 50,000 takes two


class Refused(Exception):
    """llama.cpp answered with an error, or not at all."""


def missing() -> list[str]:
    """The packages that asking llama.cpp needs and that are not installed here."""
    return [name for name in ("xllamacpp", "gguf") if importlib.util.find_spec(name) is None]


def why_not(proto: Any | None) -> str:
    """Why llama.cpp cannot be asked here about a SentencePiece model (None: another kind).

    Its converter reads every model as BPE (one of characters is BPE without merges), and spells in
    bytes what the vocabulary lacks; of a `tokenizer.json` it knows the hashes of published ones.
    An empty string where it can be asked.
    """
    remedy = "only a SentencePiece BPE with byte fallback is sure to be the same there"
    if proto is None:
        return f"it knows published kinds of tokenizer.json alone, and {remedy}"
    if proto.trainer_spec.model_type not in (hf.BPE, hf.CHAR):
        return f"it would read this model as BPE, which it is not; {remedy}"
    if not proto.trainer_spec.byte_fallback:
        return f"it would spell in bytes, of which this model has none; {remedy}"
    if packages := missing():
        return f"{' and '.join(packages)} not installed; pip install 'hanllama[dev]'"
    return ""


def ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts by a SentencePiece folder, without BOS, special tokens taken as text.

    Raises Refused with llama.cpp's last words.
    """
    with tempfile.TemporaryDirectory() as beside:
        asked, answered = Path(beside) / "asked.json", Path(beside) / "answered.json"
        asked.write_text(json.dumps(list(texts)), encoding="utf-8")
        words = [sys.executable, "-m", __name__, str(folder.resolve()), beside]
        try:
            done = subprocess.run(words, capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise Refused(f"no answer in {_SECONDS:.0f} s") from error
        if done.returncode or not answered.is_file():
            said = done.stderr.decode(errors="replace").strip().split("\n")[-1]
            raise Refused(said or f"its process ended with {done.returncode}")
        found: list[list[int]] = json.loads(answered.read_text(encoding="utf-8"))
        return found


def main(folder: str, beside: str) -> None:
    """What the process of `ids` does."""
    asked: list[str] = json.loads((Path(beside) / "asked.json").read_text(encoding="utf-8"))
    server = LlamaCpp(write(Path(folder), Path(beside) / "vocabulary.gguf"))
    rows = [server.tokenize(text) for text in asked]
    server.close()
    (Path(beside) / "answered.json").write_text(json.dumps(rows), encoding="utf-8")


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
    writer.add_head_count(_WIDTH // _HEAD_DIM)
    writer.add_head_count_kv(_WIDTH // _HEAD_DIM)
    writer.add_rope_dimension_count(_HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(texts))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    places = {text: i for i, text in enumerate(texts)}
    for role, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        if role in config:
            add(places[config[role].encode()])
    writer.add_add_bos_token(config["add_bos_token"])
    writer.add_add_eos_token(config["add_eos_token"])
    writer.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    for name, weight in _tensors(len(texts)).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(proto: Any, config: dict[str, Any]) -> tuple[list[bytes], list[float], list[int]]:
    """(piece, score, type) of every id, as the converter finds them.

    It asks the sentencepiece library, which knows no type "user defined", so those come out normal;
    then tokenizer_config.json decides about every token it lists, those on top of the model too.
    """
    texts = [p.piece.encode() for p in proto.pieces]
    scores = [p.score for p in proto.pieces]
    types = [hf.NORMAL if p.type == hf.USER_DEFINED else p.type for p in proto.pieces]
    listed = {int(number): token for number, token in config["added_tokens_decoder"].items()}
    for i in range(len(texts), max(listed, default=0) + 1):
        texts.append(f"[PAD{i}]".encode())
        scores.append(-10000.0)
        types.append(hf.UNUSED)
    for i, token in listed.items():
        types[i] = hf.CONTROL if token["special"] else hf.USER_DEFINED
        scores[i] = -1000.0
        texts[i] = token["content"].encode()
    return texts, scores, types


def _tensors(vocab_size: int) -> dict[str, np.ndarray]:
    """The weights of a Llama of one layer with tied embeddings, by name.

    The layer adds nothing; every token leads with the first part of the stream, and of all rows of
    the head that of the last piece answers to it by far the most.
    """
    square = (_WIDTH, _WIDTH)
    parts = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square)
    parts |= {"ffn_gate": square, "ffn_up": square, "ffn_down": square}
    shapes: dict[str, tuple[int, ...]] = {**parts, "attn_norm": (_WIDTH,), "ffn_norm": (_WIDTH,)}
    embedding = np.zeros((vocab_size, _WIDTH), dtype=np.float32)
    embedding[:, 0] = 1.0
    embedding[-1, 0] = 30.0
    layer = {f"blk.0.{n}.weight": np.zeros(s, dtype=np.float32) for n, s in shapes.items()}
    norm = np.ones(_WIDTH, dtype=np.float32)
    return {"token_embd.weight": embedding, "output_norm.weight": norm, **layer}


class LlamaCpp:
    """llama.cpp's server in this process, for its tokenizer; close it when done."""

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
        address = urlsplit(self.url)
        assert address.hostname is not None
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text without BOS; special tokens in it are text unless they are parsed."""
        asked = {"content": text, "add_special": False, "parse_special": parse_special}
        found: list[int] = self._ask("/tokenize", asked)["tokens"]
        return found

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids; a model's prefix space stays at its beginning."""
        text: str = self._ask("/detokenize", {"tokens": list(ids)})["content"]
        return text

    def close(self) -> None:
        """Let go of the connection and of the server."""
        self._connection.close()
        del self._server

    def _ask(self, endpoint: str, content: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(content)
        self._connection.request("POST", endpoint, body, {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise Refused(f"{reply.status}: {data.decode()}")
        found: dict[str, Any] = json.loads(data)
        return found


if __name__ == "__main__":
    main(*sys.argv[1:])
