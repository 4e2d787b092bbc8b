"""Tiny real things for tests: text, a tokenizer folder, a shards folder, a run config.

Everything is made by the product's own code from a seed, so that tests exercise real files.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

from hanllama.base import fs
from hanllama.batches.shards import ShardWriter, write_manifest
from hanllama.model.card import ModelCard
from hanllama.model.presets import LlamaConfig
from hanllama.tokenizer import chat
from hanllama.tokenizer.load import copy_tokenizer, load_tokenizer
from hanllama.tokenizer.train import TokenizerTrainConfig
from hanllama.tokenizer.train import train as train_tokenizer
from hanllama.train.config import LoopConfig, ModelShape, OptimConfig, PretrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from hanllama.train.objective import Objective

_PEOPLE = ["小明", "小红", "老王", "阿花", "奶奶", "爸爸", "老师", "小狗", "小猫", "哥哥"]
_VERBS = ["看见", "喜欢", "找到", "拿着", "画了", "买了", "想要", "送来"]
_THINGS = [
    "苹果",
    "风筝",
    "雨伞",
    "书包",
    "月亮",
    "红花",
    "小船",
    "铅笔",
    "鸡蛋",
    "石头",
    "帽子",
    "西瓜",
]
_PLACES = ["河边", "山上", "学校", "家里", "公园", "树下", "门口"]


def text(seed: int, sentences: int) -> str:
    """Simple Chinese sentences, a line each."""
    draw = random.Random(f"tiny {seed}")
    lines = []
    for _ in range(sentences):
        person, place = draw.choice(_PEOPLE), draw.choice(_PLACES)
        lines.append(f"{person}在{place}{draw.choice(_VERBS)}{draw.choice(_THINGS)}。")
    return "\n".join(lines)


def tokenizer(folder: Path, vocab_size: int = 400) -> Path:
    """A SentencePiece tokenizer folder trained on `text`."""
    corpus = folder.with_name(folder.name + "-corpus.txt")
    corpus.write_text(text(0, 2000), encoding="utf-8")
    train_tokenizer(
        TokenizerTrainConfig(inputs=(str(corpus),), output=str(folder), vocab_size=vocab_size)
    )
    return folder


def shards(folder: Path, tokenizer_folder: Path, documents: int = 60, seed: int = 1) -> Path:
    """A shards folder of documents of very uneven length, a tenth of them held out."""
    tokens = load_tokenizer(tokenizer_folder)
    draw = random.Random(f"shards {seed}")
    texts = [text(seed * 1000 + i, draw.choice((1, 2, 3, 5, 30))) for i in range(documents)]
    with fs.publish(folder) as beside:
        writers = {
            name: ShardWriter(beside, name, tokens.vocab_size) for name in ("train", "heldout")
        }
        for i, ids in enumerate(tokens.encode_documents(texts)):
            name = "heldout" if i % 10 == 0 else "train"
            writers[name].add(ids, len(texts[i].encode()))
        write_manifest(
            beside,
            writers,
            vocab_size=tokens.vocab_size,
            tokenizer_hash=tokens.hash,
            token_bytes=tokens.token_bytes(),
            facts={},
        )
        (beside / "tokenizer").mkdir()
        copy_tokenizer(tokenizer_folder, beside / "tokenizer")
    return folder


SHAPE = ModelShape(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def pretrain_config(data: Path, output: Path, **loop: object) -> PretrainConfig:
    """A run of a 2-layer model that takes a second."""
    settings: dict[str, object] = {
        "max_steps": 24,
        "batch_size": 8,
        "micro_batch_size": 8,
        "log_every": 1,
        "save_every": 12,
        "eval_rows": 8,
        "sample_tokens": 0,
        "device": "cpu",
        "trackers": (),
        **loop,
    }
    return PretrainConfig(
        data=str(data),
        output=str(output),
        context=32,
        model=SHAPE,
        optim=OptimConfig(learning_rate=3e-3),
        loop=LoopConfig(**settings),  # type: ignore[arg-type]
    )


def grouped(vocab_size: int, context: int) -> LlamaConfig:
    """Two layers of width 32, two heads to a key, tied."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )


def chat_model(place: Path, seed: int) -> Path:
    """A random two-layer model of 160 positions with the template chatml, in `place`."""
    import torch

    from hanllama.model.checkpoint import save_model
    from hanllama.model.llama import Llama

    place.mkdir(exist_ok=True)
    tokens = load_tokenizer(tokenizer(place / "tokenizer"))
    config = LlamaConfig(
        vocab_size=tokens.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=160,
        initializer_range=0.3,
        bos_token_id=tokens.bos_id or 1,
        eos_token_id=tokens.eos_id,
    )
    torch.manual_seed(seed)
    with fs.publish(place / "model") as beside:
        save_model(beside, Llama(config), tokens.folder, ModelCard(name="tiny"))
        (beside / chat.FILE).write_text(chat.source("chatml"), encoding="utf-8")
    return place / "model"


def step_gradients(objective: Objective) -> list[Tensor]:
    """The gradients of an objective's first step as the loop itself makes them, unclipped."""
    from hanllama.train.loop import Loop
    from hanllama.train.parallel import World

    loop = Loop(
        objective,
        OptimConfig(max_grad_norm=0.0),
        LoopConfig(max_steps=1, device="cpu"),
        None,
        World(),
        tokenizer_folder=Path(),
        card=ModelCard(),
        checkpoint=None,
        sampler=None,
        flops_per_token=1.0,
    )
    loop._one_step(0)
    return [p.grad.clone() for p in objective.model.parameters() if p.grad is not None]
