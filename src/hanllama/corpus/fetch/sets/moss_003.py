"""MOSS: about 1.07 million conversations in Chinese and English."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="YeungNLP/moss-003-sft-data",
    files=("*.jsonl",),
    layout="firefly",
    stage="sft",
    licence="none stated (MOSS: cc-by-nc-4.0)",
    size="8.7 GB, one file",
    languages=("zh", "en"),
    zh="MOSS 多轮对话，中英文，约 107 万段",
    en="MOSS: about 1.07 million conversations in Chinese and English",
    verified="file, size: the repository's pages; the form is firefly's own, from its README",
    notes="not for commercial use",
)
