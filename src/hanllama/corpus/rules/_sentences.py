"""Where a sentence ends."""

from __future__ import annotations

_ENDS = frozenset("。！？…!?；;.．")
_CLOSING = "”’」』）》】)\"'〕］]　 \t\r①②③④⑤⑥⑦⑧⑨⑩*"


def ends_sentence(line: str) -> bool:
    """Whether the last character of `line`, closing marks and notes aside, ends a sentence."""
    return line.rstrip(_CLOSING)[-1:] in _ENDS if line.strip() else False
