"""CMMLU: Chinese multiple-choice questions on 67 topics."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="haonan-li/cmmlu",
    files=("cmmlu_v1_0_1.zip",),
    layout=None,
    stage="eval",
    licence="cc-by-nc-4.0",
    size="1.1 MB",
    zh="CMMLU：67 个主题的中文选择题",
    en="CMMLU: Chinese multiple-choice questions on 67 topics",
    verified="file, size and licence: the repository's pages as stored",
    notes="test has answers",
)
