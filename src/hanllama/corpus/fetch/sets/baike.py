"""5.63 million articles of Baidu Baike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanllama.corpus.fetch.sets import DataSet, text
from hanllama.talks.conversations.form import Unusable


def article(record: Mapping[str, Any]) -> dict[str, Any]:
    """Title, summary and sections, each heading on a separate line; empty parts are left out."""
    parts = [text(record, "title"), str(record.get("summary") or "")]
    for section in record.get("sections") or []:
        parts += [str(section.get("title") or ""), str(section.get("content") or "")]
    kept = [part.strip() for part in parts if part.strip()]
    if len(kept) == 1:
        raise Unusable("nothing but a title")
    return {"text": "\n".join(kept)}


SET = DataSet(
    repo="xuqinyang/BaiduBaike-5.63M",
    files=("*.json",),
    layout=article,
    stage="pretrain",
    licence="none stated",
    size="17 GB, one file",
    zh="百度百科词条，约 563 万条",
    en="5.63 million articles of Baidu Baike",
    verified="file, size: the repository's pages; fields: projects that train on it",
    notes="scraped; the source's terms apply; clean it with --rules encyclopedia",
)
