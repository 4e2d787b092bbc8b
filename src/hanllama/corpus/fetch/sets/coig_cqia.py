"""COIG-CQIA: about 45,000 hand-picked Chinese instructions."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="m-a-p/COIG-CQIA",
    modelscope="AI-ModelScope/COIG-CQIA",
    files=("COIG-CQIA-full.jsonl",),
    layout="alpaca",
    stage="sft",
    licence="none stated",
    size="149 MB",
    zh="COIG-CQIA：人工精选的中文互联网问答与考试，约 4.5 万条",
    en="COIG-CQIA: about 45,000 hand-picked Chinese instructions",
    verified="file, size: the repository's pages; the rest: public code and arXiv 2403.18058",
    notes="its parts lie beside the full file, one folder a source",
)
