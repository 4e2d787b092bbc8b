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
    verified=(
        "file, size and licence: the repository's pages as stored; the fields story, "
        "story_zh, summary, source, instruction are those of the original's records and were "
        "not seen in the archive"
    ),
    notes="machine translated; the English story and the instruction are left out",
)
