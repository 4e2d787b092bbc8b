"""BELLE: about 520,000 Chinese instructions."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="BelleGroup/train_0.5M_CN",
    modelscope="AI-ModelScope/train_0.5M_CN",
    files=("Belle_open_source_0.5M.json",),
    modelscope_files=("*.json",),
    layout="alpaca",
    stage="sft",
    licence="gpl-3.0",
    size="286 MB",
    zh="BELLE 中文指令，约 52 万条",
    en="BELLE: about 520,000 Chinese instructions",
    verified="file, size, licence: the repository's pages; the rest: LLaMA-Factory's list",
    notes="the file is JSON lines in spite of its name; made with ChatGPT, research use",
)
