"""A tokenizer folder as llama.cpp sees it: a tiny GGUF, and llama.cpp's own server to tokenize.

llama.cpp's converter takes vocabulary, scores and piece types from `tokenizer.model` and corrects
them by `tokenizer_config.json`; `write` does the same through the `gguf` package, and adds the
smallest Llama that the loader accepts (one layer, which always says the vocabulary's last piece:
weights of zero would draw the end token now and then), since the server loads no vocabulary without
a model. `LlamaCpp` starts the server of the `xllamacpp` wheel in this process
and asks its HTTP endpoints /tokenize and /detokenize, which is all of its tokenizer that the wheel
offers.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from hanllama import fs
from hanllama.tokenizer import hf

_WIDTH, _HEAD_DIM, _CONTEXT = 32, 16, 64


def write(folder: Path, path: Path) -> Path:
    """Write the vocabulary of a SentencePiece tokenizer folder, on a tiny Llama, to `path`."""
    gguf = pytest.importorskip("gguf", reason="llama.cpp's file format is a dev extra")
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
    ids = {text: i for i, text in enumerate(texts)}
    writer.add_bos_token_id(ids[config["bos_token"].encode()])
    writer.add_eos_token_id(ids[config["eos_token"].encode()])
    writer.add_unk_token_id(ids[config["unk_token"].encode()])
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
    then tokenizer_config.json decides about every token it lists.
    """
    texts = [p.piece.encode() for p in proto.pieces]
    scores = [p.score for p in proto.pieces]
    types = [hf.NORMAL if p.type == hf.USER_DEFINED else p.type for p in proto.pieces]
    for number, token in config["added_tokens_decoder"].items():
        i = int(number)
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
    parts |= {"attn_norm": (_WIDTH,), "ffn_norm": (_WIDTH,)}
    embedding = np.zeros((vocab_size, _WIDTH), dtype=np.float32)
    embedding[:, 0] = 1.0
    embedding[-1, 0] = 30.0
    layer = {f"blk.0.{n}.weight": np.zeros(s, dtype=np.float32) for n, s in parts.items()}
    norm = np.ones(_WIDTH, dtype=np.float32)
    return {"token_embd.weight": embedding, "output_norm.weight": norm, **layer}


class Refused(Exception):
    """llama.cpp's server answered with an error."""


class LlamaCpp:
    """llama.cpp's server in this process, for its tokenizer; close it when done."""

    def __init__(self, model: Path) -> None:
        xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's wheel is a dev extra")
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
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text without BOS; special tokens in it are text unless they are parsed."""
        asked = {"content": text, "add_special": False, "parse_special": parse_special}
        ids: list[int] = self._ask("/tokenize", asked)["tokens"]
        return ids

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
