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
    verified=(
        "file and size: the repository's pages as stored; the fields kind, input, target: "
        "LLaMA-Factory's dataset_info.json; the name on ModelScope: ms-swift's registry"
    ),
    notes="the field kind, the sort of task, is left out",
)
