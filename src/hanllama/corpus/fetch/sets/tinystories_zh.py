"""TinyStories translated into Chinese, for very small models."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet, Text

SET = DataSet(
    repo="adam89/TinyStoriesChinese",
    files=("*.tar.gz",),
    layout=Text("story_zh"),
    stage="pretrain",
    licence="cdla-sharing-1.0",
    size="2.6 GB, one archive",
    languages=("zh", "en"),
    zh="TinyStories 的中文翻译，适合很小的模型",
    en="TinyStories translated into Chinese, for very small models",
    verified="file, size, licence: the repository's pages; fields: the original's, not seen here",
    notes="machine translated; the English story and the instruction are left out",
)
