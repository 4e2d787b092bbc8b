"""Change the few lines of a book that a rule is about, without cutting the book into lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def change_lines(text: str, positions: Iterable[int], change: Callable[[str], str | None]) -> str:
    """`text` with `change` done to the lines that hold `positions`, each once.

    Args:
        text: any number of lines that end with a newline.
        positions: offsets into `text`, in rising order.
        change: given a line without its newline, what to put there; None takes the line out.
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
