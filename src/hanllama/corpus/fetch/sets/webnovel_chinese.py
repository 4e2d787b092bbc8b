"""About 9,000 Chinese web novels, a chapter a record."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet, Text

SET = DataSet(
    repo="wdndev/webnovel-chinese",
    files=("data/*.jsonl",),
    layout=Text("text", headings=("chapter",), category="title"),
    stage="pretrain",
    licence="apache-2.0 (the uploader's)",
    size="39 GB in 10 files",
    zh="约九千部中文网络小说，每条一章",
    en="about 9,000 Chinese web novels, a chapter a record",
    verified="files, sizes, licence, fields: the repository's pages",
    notes="--max-files 1 brings 4.2 GB; clean it with --rules webnovel; chapter may be null",
)
