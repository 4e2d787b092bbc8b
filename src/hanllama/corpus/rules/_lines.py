"""Lines of a book: change a few without splitting the book, and know where a sentence ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_ENDS = frozenset("。！？…!?；;.．")
_CLOSING = "”’」』）》】)\"'〕］]　 \t\r①②③④⑤⑥⑦⑧⑨⑩*"


def change_lines(text: str, positions: Iterable[int], change: Callable[[str], str | None]) -> str:
    """`text` with `change` applied once to each line that holds one of `positions`.

    Args:
        positions: offsets into `text`, in rising order.
        change: takes a line without its newline and returns the new line; None removes the line.
    """
    kept, done = [], 0
    for position in positions:
        if position < done:
            continue
        start = text.rfind("\n", 0, position) + 1
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        changed = change(text[start:end])
        kept.append(text[done:start])
        done = min(end + 1, len(text))
        if changed is not None:
            kept.append(changed + text[end:done])
    return "".join([*kept, text[done:]])


def ends_sentence(line: str) -> bool:
    """Whether `line` ends a sentence, apart from closing quotes and notes."""
    return line.rstrip(_CLOSING)[-1:] in _ENDS if line.strip() else False
