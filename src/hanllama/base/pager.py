"""Show items on a terminal: each fills the screen, keys turn the pages.

A terminal shows control characters in a text and never acts on them.
"""

from __future__ import annotations

import contextlib
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

REMEMBERED = 1000  # documents that the key p can go back
KEYS = "space page · n next · p previous · q quit"
TRAINED = "green underline"  # underlined for readers who do not see the colour
AHEAD = 500  # lines wrapped beyond the screen: enough to count the lines of most documents
PIECE = 10_000  # characters wrapped at once, for a line that is a whole book


@dataclass(frozen=True)
class Item:
    """One thing to look at: named facts, a text, and the (begin, end) of its trained tokens."""

    facts: dict[str, str]
    text: str
    trained: tuple[tuple[int, int], ...] = ()


def visible(text: str) -> str:
    """The text with control and invisible characters as `\\u{1b}`."""
    return "".join(c if c in "\n\t" or _is_safe(c) else f"\\u{{{ord(c):x}}}" for c in text)


def _is_safe(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def _head(item: Item) -> str:
    head = "  ".join(f"{name} {value}" for name, value in item.facts.items())
    return visible(head.replace("\n", " ").replace("\t", " "))


def plain(item: Item) -> str:
    return f"=== {_head(item)}\n{visible(item.text)}\n"


def page_through(items: Iterable[Item], read_key: Callable[[], str]) -> int:
    """Show items on the terminal, turned by keys; return the number of items shown."""
    from rich.console import Console

    console = Console()
    source = iter(items)
    seen: list[Item] = []
    first = place = shown = 0  # `seen[0]` is item number `first`
    top = 0  # the first line on the screen
    lines, wrapped = _Lines(iter(())), (-1, 0)  # `lines` are those of this item at this width
    while True:
        if place == first + len(seen):
            following = next(source, None)
            if following is None:
                if not seen:
                    return 0
                place -= 1
            else:
                seen.append(following)
                shown += 1
                if len(seen) > REMEMBERED:
                    del seen[0]
                    first += 1
        item = seen[place - first]
        if wrapped != (place, console.width):
            lines, wrapped = _Lines(_wrapped(console, item)), (place, console.width)
        room = max(console.height - 4, 1)
        top = top if lines.page(top, 1) else 0  # a wider terminal has fewer lines
        _draw(console, item, place, lines, (top, room))
        key = read_key()
        if key in ("q", "\x03", "\x04", ""):
            return shown
        if key in (" ", "\r", "\n") and lines.page(top + room, 1):
            top += room
        elif key in (" ", "n", "\r", "\n"):
            place, top = place + 1, 0
        elif key == "b" and top:
            top = max(top - room, 0)
        elif key in ("p", "b"):
            place, top = max(place - 1, first), 0


class _Lines:
    """Lines wrapped on demand: wrapping a whole book takes seconds."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._made: list[Any] = []

    def page(self, top: int, room: int) -> list[Any]:
        """At most `room` lines from `top` on."""
        self._made += islice(self._source, max(0, top + room + AHEAD - len(self._made)))
        return self._made[top : top + room]

    @property
    def total(self) -> str:
        """The number of lines as far as known, as text."""
        more = list(islice(self._source, 1))
        self._made += more
        return f"{len(self._made):,}" + " or more" * len(more)


def _wrapped(console: Any, item: Item) -> Iterator[Any]:
    """The text as lines that fit the terminal, Han characters two columns wide."""
    from rich.text import Text

    start = 0
    for line in item.text.split("\n"):
        for begin in range(start, start + max(len(line), 1), PIECE):
            piece = Text(visible(item.text[begin : min(begin + PIECE, start + len(line))]))
            for first, last in item.trained:
                if last > begin:
                    piece.stylize(TRAINED, max(first - begin, 0), last - begin)
            yield from piece.wrap(console, console.width)
        start += len(line) + 1


def _draw(console: Any, item: Item, place: int, lines: _Lines, span: tuple[int, int]) -> None:
    from rich.text import Text

    top, room = span
    console.clear()
    console.print(Text(_head(item), style="bold", no_wrap=True, overflow="ellipsis"))
    console.print()
    page = lines.page(top, room)
    for line in page:
        console.print(line, no_wrap=True)
    shown = f"lines {top + 1:,}–{top + len(page):,} of {lines.total}"
    console.print(Text(f"{place + 1:,} · {shown} · {KEYS}", style="dim"))


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[], str]]:
    """Yield a function that waits for one key, without the end of a line."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import msvcrt

        yield msvcrt.getwch  # type: ignore[attr-defined]
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield lambda: sys.stdin.read(1)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
