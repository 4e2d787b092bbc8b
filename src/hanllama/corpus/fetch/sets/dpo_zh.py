"""About 10,000 Chinese preference pairs for DPO."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="hiyouga/DPO-En-Zh-20k",
    files=("dpo_zh.json",),
    layout="sharegpt",
    stage="preference",
    licence="apache-2.0",
    size="29 MB",
    zh="中文偏好对，约 1 万条，用于 DPO",
    en="about 10,000 Chinese preference pairs for DPO",
    verified="file, size, fields and licence: the repository's pages as stored",
    notes="LLaMA-Factory later moved it to llamafactory/DPO-En-Zh-20k; the hub redirects",
)
