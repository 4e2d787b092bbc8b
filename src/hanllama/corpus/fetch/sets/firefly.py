"""Firefly: 23 kinds of Chinese tasks, about 1.65 million instructions."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="YeungNLP/firefly-train-1.1M",
    modelscope="AI-ModelScope/firefly-train-1.1M",
    files=("*.jsonl",),
    layout="alpaca",
    fields={"instruction": "input", "output": "target"},
    stage="sft",
    licence="none stated",
    size="1.2 GB",
    zh="流萤：23 类中文任务，约 165 万条指令",
    en="Firefly: 23 kinds of Chinese tasks, about 1.65 million instructions",
    verified="file, size: the repository's pages; fields: LLaMA-Factory; ModelScope: ms-swift",
    notes="the field kind, the sort of task, is left out",
)
