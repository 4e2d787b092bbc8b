"""Skywork's Chinese web text, about 150 billion tokens."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet, Text

SET = DataSet(
    repo="Skywork/SkyPile-150B",
    modelscope="AI-ModelScope/SkyPile-150B",
    files=("data/*.jsonl",),
    layout=Text("text"),
    stage="pretrain",
    licence="Skywork Community License",
    size="about 620 GB",
    zh="天工中文网页语料，约 1500 亿词元",
    en="Skywork's Chinese web text, about 150 billion tokens",
    verified="folder, licence: the repository's pages; the rest: LLaMA-Factory; size: memory",
    notes="take a share with --max-files or --max-bytes",
)
