"""About a million questions and answers from Zhihu; the question is the first line."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet, Text

SET = DataSet(
    repo="wangrui6/Zhihu-KOL",
    modelscope="OmniData/Zhihu-KOL",
    files=("data/*.parquet",),
    modelscope_files=("*.parquet",),
    layout=Text("RESPONSE", headings=("INSTRUCTION",)),
    stage="pretrain",
    licence="none stated",
    size="1.5 GB in 5 files",
    zh="知乎问答，约一百万条，问题作为首行",
    en="about a million questions and answers from Zhihu; the question is the first line",
    verified="files, sizes, fields: the repository's pages; ModelScope: ms-swift's registry",
    notes="scraped; the sources' terms apply; clean it with --rules qa",
)
