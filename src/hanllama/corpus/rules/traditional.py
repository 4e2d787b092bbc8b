"""Write traditional characters in their simplified form (or the other way), by OpenCC.

Two scripts double the vocabulary that a small model needs. OpenCC converts by phrases, not by
characters (頭髮 -> 头发, 發現 -> 发现), and leaves simplified text as it is. The rule is in no
preset: it also rewrites names, quotations of old books and remarks about the script. It needs the
package opencc: pip install 'hanllama[data]'.

Source: OpenCC, https://github.com/BYVoid/OpenCC, whose configurations `direction` names.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import Drop


@checked
class Rule:
    direction: Literal["t2s", "tw2s", "tw2sp", "hk2s", "s2t", "s2tw", "s2twp", "s2hk"] = option(
        "t2s", help="from and to: t traditional, s simplified, tw Taiwan, hk Hong Kong, p phrases"
    )

    def __post_init__(self) -> None:
        _converter(self.direction)  # a missing package fails before a book is read

    def __call__(self, text: str) -> str | Drop:
        converted: str = _converter(self.direction).convert(text)
        return converted


@cache
def _converter(direction: str) -> Any:
    """OpenCC's converter, once a process: it loads its dictionaries."""
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ConfigError(
            "the rule traditional needs OpenCC: pip install 'hanllama[data]'"
        ) from error
    return OpenCC(direction)


EXAMPLES = [
    ("祥子發現他的頭髮裏有後悔的雪。", "祥子发现他的头发里有后悔的雪。"),
    ("头发里的发现。", "头发里的发现。"),
    ("计算机和头发", {"direction": "s2t"}, "計算機和頭髮"),
]
