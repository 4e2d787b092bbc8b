"""Recognize the end of a sentence."""

from __future__ import annotations

_ENDS = frozenset("。！？…!?；;.．")
_CLOSING = "”’」』）》】)\"'〕］]　 \t\r①②③④⑤⑥⑦⑧⑨⑩*"


def ends_sentence(line: str) -> bool:
    """Whether `line` ends a sentence, apart from closing quotes and notes."""
    return line.rstrip(_CLOSING)[-1:] in _ENDS if line.strip() else False
