"""Every command that publishes a result, ready to be run on tiny inputs."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from builders import folders
from hanllama.base import fs
from hanllama.stories.commands import InstructionsConfig, instructions

FILES = {
    "corpus stories file": ".jsonl.gz",
    "corpus words": ".txt",
    "corpus instructions": ".jsonl",
}
SET = "Skywork/SkyPile-150B"
ASKING = ("data self-instruct", "data rank", "data grade")
NAMES = (
    "clean", "tokenize", "dedup", "decontaminate", "data fetch", *ASKING, "data best-of-n",
    "data hindsight", "tokenizer train", "tokenizer extend", "tokenizer import",
    "tokenizer compare", "model merge", "quality lm", "quality classifier", "corpus stories",
    "corpus obeyed", *FILES,
)  # fmt: skip


def teacher(body: dict[str, Any]) -> str:
    """What an endpoint says: tasks, a verdict and a grade, all from the request alone."""
    asked = body["messages"][-1]["content"]
    if "难度" in asked:
        return "3"
    if "甲" in asked:
        first, second = (re.search(f"【回答{n}】(.*?)【", asked, re.DOTALL) for n in "甲乙")
        assert first and second
        return "结论：甲" if len(first[1]) > len(second[1]) else "结论：乙"
    draw = random.Random(asked)
    words = ["".join(draw.choices([chr(0x4E00 + 7 * n) for n in range(900)], k=12)) for _ in "ab"]
    return "\n###\n".join(f"指令：请说明{w}\n输入：无\n回答：{w[::-1]}。" for w in words)


def build(place: Path) -> None:
    """The inputs of every command, in a folder."""
    corpus = [{"text": folders.text(n % 70, 12), "id": str(n)} for n in range(90)]
    lines(place / "in" / "a.jsonl", corpus[:60])
    lines(place / "in" / "b.jsonl", corpus[60:])
    (place / "in" / "book.txt").write_text(folders.text(500, 200), encoding="gb18030")
    spam = ({"text": f"加微信领红包秒到账，第{n % 37}次。" * 3} for n in range(90))
    lines(place / "bad.jsonl", list(spam))
    lines(place / "exam" / "a.jsonl", [{"question": corpus[3]["text"][:60], "answer": "A"}])
    folders.tokenizer(place / "tokenizer")
    talks = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in (folders.text(600 + n, 2).split("\n") for n in range(12))
    ]
    lines(place / "talks.jsonl", talks)
    answers = [
        {"prompt": q, "chosen": a * 2, "rejected": a[:4]}
        for q, a in (folders.text(700 + n, 2).split("\n") for n in range(12))
    ]
    lines(place / "preferences.jsonl", answers)
    instructions(InstructionsConfig(str(place / "told.jsonl"), count=20))
    _adapter(place)


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """Records as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")
    return path


def _adapter(place: Path) -> None:
    import torch

    from hanllama.model.adapter import LoraConfig
    from hanllama.model.card import card_of
    from hanllama.model.checkpoint import load_model, save_model
    from hanllama.model.lora import adapt

    base = folders.chat_model(place / "chat", 0)
    model = load_model(base, dtype=torch.float32)
    adapt(model, LoraConfig(rank=2), str(base), seed=0)
    with fs.publish(place / "adapter") as folder:
        save_model(folder, model, base, card_of(base))


def words(name: str, place: Path, url: str) -> list[str]:
    """A command of NAMES, on what `build` made; `--output` is left to the caller."""
    corpus, talks, preferences = place / "in", place / "talks.jsonl", place / "preferences.jsonl"
    ask = ["--endpoint", url, "--concurrency", "2"]
    one = ["--workers", "1"]
    options: dict[str, list[Any]] = {
        "clean": [corpus, *one],
        "tokenize": [corpus, "--tokenizer", place / "tokenizer", *one],
        "dedup": [corpus, *one, "--exact-lines"],
        "decontaminate": [corpus, "--eval", place / "exam", *one],
        "data fetch": ["skypile"],
        "data self-instruct": [*ask, "--teacher", "m", "--count", "12", "--tasks-per-request", "2"],
        "data rank": [preferences, *ask, "--judge", "m"],
        "data grade": [talks, "--by", "judge", *ask, "--judge", "m"],
        "data best-of-n": [preferences],
        "data hindsight": [preferences],
        "tokenizer train": [corpus, "--vocab-size", "400"],
        "tokenizer extend": [place / "tokenizer", "--chars", "300"],
        "tokenizer import": [place / "tokenizer"],
        "tokenizer compare": [place / "tokenizer"],
        "model merge": [place / "adapter"],
        "quality lm": [corpus, "--order", "3"],
        "quality classifier": ["--good", corpus, "--bad", place / "bad.jsonl", "--bits", "12"],
        "corpus stories": ["--count", "200"],
        "corpus obeyed": [place / "told.jsonl"],
        "corpus stories file": ["--count", "200"],
        "corpus words": [],
        "corpus instructions": ["--count", "50"],
    }
    return [*name.removesuffix(" file").split(), *map(str, options[name])]
