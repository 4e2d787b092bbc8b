"""About 90,000 conversations of real users with ChatGPT, Chinese and English."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="shareAI/ShareGPT-Chinese-English-90k",
    files=("sharegpt_jsonl/*.jsonl",),
    layout="firefly",
    stage="sft",
    licence="apache-2.0",
    size="about 1 GB",
    languages=("zh", "en"),
    zh="真实用户与 ChatGPT 的中英文对话，约 9 万段",
    en="about 90,000 conversations of real users with ChatGPT, Chinese and English",
    verified="folder and licence: the repository's pages as stored; form and size are from memory",
    notes="the Chinese files are unparallel translations; made with ChatGPT",
)
