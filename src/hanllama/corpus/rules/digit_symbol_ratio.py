"""Drop a document in which digits and symbols are more than `maximum` of the characters.

Price lists, logs, tables of results, pages of box drawing or mojibake hold no language to learn.
Symbols are Unicode's symbols (currency, mathematics, arrows, frames, emoji, U+FFFD); digits include
Roman and circled ones; Chinese numerals are Han. White space does not count.

Source: the symbol-to-word limit of Gopher (Rae et al. 2021, appendix A.1.1: 0.1 for `#` and
`...`), widened to digits and counted in characters; threshold measured on Chinese, see
docs/rules.md.
"""

from __future__ import annotations

from hanllama.base.config import Natural, Share, checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._characters import count


@checked
class Rule:
    maximum: Share = option(0.4, help="the largest share of digits and symbols, 0 to 1")
    shortest: Natural = option(20, help="documents of fewer characters are not judged")

    def __call__(self, text: str) -> str | Drop:
        found = count(text)
        share = (found.digits + found.symbols) / max(found.total, 1)
        if found.total >= self.shortest and share > self.maximum:
            return Drop("too many digits and symbols")
        return text


EXAMPLES = [
    (
        "6月18日，气温38.5度，小院里的葡萄架下坐着3个人，谁也不说话。",
        "6月18日，气温38.5度，小院里的葡萄架下坐着3个人，谁也不说话。",
    ),
    ("货号 88213 单价 ￥12.50 库存 340 +15%", Drop("too many digits and symbols")),
    ("1+1=2", "1+1=2"),  # too short to judge
    ("┌──────┬──────┐\n│甲组　│乙组　│\n└──────┴──────┘", Drop("too many digits and symbols")),
    (
        "货号 88213 单价 ￥12.50 库存 340 +15%",
        {"maximum": 1.0},
        "货号 88213 单价 ￥12.50 库存 340 +15%",
    ),
]
