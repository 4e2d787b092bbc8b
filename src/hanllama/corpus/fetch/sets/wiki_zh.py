"""Chinese Wikipedia of July 2023, filtered, about 255,000 articles."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet, Text

SET = DataSet(
    repo="pleisto/wikipedia-cn-20230720-filtered",
    modelscope="AI-ModelScope/wikipedia-cn-20230720-filtered",
    files=("*.json", "*.jsonl"),
    layout=Text("completion"),
    stage="pretrain",
    licence="cc-by-sa-3.0",
    size="524 MB",
    zh="过滤后的中文维基百科（2023 年 7 月），约 25.5 万条",
    en="Chinese Wikipedia of July 2023, filtered, about 255,000 articles",
    verified="names, field: LLaMA-Factory's list; records: a collection's page; the rest: memory",
    notes="the first line of an article is its title",
)
