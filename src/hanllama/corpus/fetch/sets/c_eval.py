"""C-Eval: Chinese multiple-choice questions of 52 subjects."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="ceval/ceval-exam",
    files=("ceval-exam.zip",),
    layout=None,
    stage="eval",
    licence="cc-by-nc-sa-4.0",
    size="1.6 MB",
    zh="C-Eval：52 个学科的中文选择题",
    en="C-Eval: Chinese multiple-choice questions of 52 subjects",
    verified="file, size and licence: the repository's pages as stored",
    notes="the answers of the test questions are not published: measure on val",
)
