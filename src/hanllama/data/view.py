"""`hanllama data view`: look at a corpus, document by document, and at what was taken from it.

On a terminal a document fills the screen and keys turn the pages; piped, documents are printed one
after the other. What is shown comes from the files that cleaning and deduplication leave in the
corpus folder. A kind of thing to show is an entry of KINDS: a function from the corpus to items.

With `--mask` the corpus is one of conversations, and each is shown as training sees it: with every
special token, and the tokens that the loss is taken on underlined in green; in brackets where there
is no terminal or no colour.
"""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from hanllama import records
from hanllama.config import option
from hanllama.errors import ConfigError, CorruptError, InputError

DUPLICATES = "exact duplicates"  # the stage's name in dropped.jsonl
REMEMBERED = 1000  # documents that the key p can go back
KEYS = "space page · n next · p previous · q quit"
TRAINED = "green underline"  # never by colour alone
OPENS, CLOSES = "⟦", "⟧"
AHEAD = 500  # lines wrapped beyond the screen: of most documents all, so that their number is known
PIECE = 10_000  # characters wrapped at once, of a line that is a whole book


@dataclass(frozen=True)
class ViewConfig:
    """Options of `hanllama data view`."""

    corpus: str = option(help="a corpus folder; kept documents of any file too", positional=True)
    show: Literal["kept", "dropped", "quarantined", "duplicates"] = option(
        "kept", help="the documents, or what cleaning and deduplication took"
    )
    rule: str = option("", help="of what was dropped: by this rule")
    reason: str = option("", help="of what was dropped or quarantined: reasons that hold this text")
    search: str = option("", help="only what holds this text")
    id: str = option("", help="only what has this id")
    text_field: str = option("text", help="the field of records that is the text")
    limit: int = option(10, help="documents to print where there is no terminal; 0 means all")
    mask: bool = option(False, help="conversations as training sees them, with their loss mask")
    tokenizer: str = option("", help="of --mask: a tokenizer or model folder")
    template: str = option("", help="of --mask: a chat template; the folder's own if not given")
    colour: bool = option(True, help="of --mask: trained tokens in colour, otherwise in brackets")

    def __post_init__(self) -> None:
        if self.mask and not self.tokenizer:
            raise ConfigError("--mask needs --tokenizer: a tokenizer or model folder")
        if self.mask and self.show != "kept":
            raise ConfigError("--mask shows conversations; leave out --show")
        if self.tokenizer and not self.mask:
            raise ConfigError("--tokenizer belongs to --mask")


@dataclass(frozen=True)
class Item:
    """One thing to look at: named facts, a text, and where in it the trained tokens stand."""

    facts: dict[str, str]
    text: str
    trained: tuple[tuple[int, int], ...] = ()


def view(config: ViewConfig) -> None:
    """The command. Raises InputError when the corpus, or what was asked of it, is not there."""
    kind = _conversations if config.mask else KINDS[config.show]
    items: Iterator[Item] = (item for item in kind(config) if _is_wanted(item, config))
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not (on_terminal and config.colour):
        items = map(_bracketed, items)
    if on_terminal:
        with _keyboard() as read_key:
            shown = _page_through(items, read_key)
    else:
        shown = 0
        for item in islice(items, config.limit or None):
            print(_plain(item))
            shown += 1
    if not shown:
        raise InputError(f"{config.corpus}: nothing {config.show} is as asked for")


def _is_wanted(item: Item, config: ViewConfig) -> bool:
    return (
        (not config.rule or item.facts.get("rule") == config.rule)
        and config.reason in item.facts.get("reason", "")
        and config.search in item.text
        and (not config.id or item.facts.get("id") == config.id)
    )


# --- what there is to look at --------------------------------------------------------------------


def _kept(config: ViewConfig) -> Iterator[Item]:
    with records.Quarantine() as quarantine:
        fields = records.Fields(text=config.text_field)
        for document in records.read([config.corpus], quarantine, fields=fields):
            facts = {
                name: getattr(document, name) for name in ("id", "source", "category", "licence")
            }
            facts["characters"] = f"{len(document.text):,}"
            yield Item({k: v for k, v in facts.items() if v}, document.text)


def _dropped(config: ViewConfig) -> Iterator[Item]:
    for entry in _lines(config, "dropped.jsonl", "clean writes it with --dropped-characters"):
        if entry["rule"] != DUPLICATES:
            yield _item(entry, "text")


def _duplicates(config: ViewConfig) -> Iterator[Item]:
    """What cleaning found equal, what deduplication found alike."""
    folder = Path(config.corpus)
    if (folder / "clusters.jsonl").is_file():
        for entry in _lines(config, "clusters.jsonl", ""):
            yield _item(entry, "")
        return
    for entry in _lines(config, "dropped.jsonl", "clean and dedup write what is needed for it"):
        if entry["rule"] == DUPLICATES:
            yield _item(entry, "text")


def _quarantined(config: ViewConfig) -> Iterator[Item]:
    for entry in _lines(config, "quarantine.jsonl", "only a corpus folder has one"):
        yield _item(entry, "raw")


KINDS: dict[str, Callable[[ViewConfig], Iterator[Item]]] = {
    "kept": _kept,
    "dropped": _dropped,
    "quarantined": _quarantined,
    "duplicates": _duplicates,
}


def _conversations(config: ViewConfig) -> Iterator[Item]:
    from hanllama.data.conversations import ConversationReader, masks
    from hanllama.tokenizer.chat import ChatTemplate
    from hanllama.tokenizer.load import load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer)
    template = ChatTemplate(tokenizer, config.template)
    reader = ConversationReader([config.corpus])
    for one in masks.shown(reader, tokenizer, template):
        text, trained = "", list[tuple[int, int]]()
        for part, is_trained in one.runs:
            begin, text = len(text), text + visible(part)
            trained += [(begin, len(text))] if is_trained else []
        facts = {
            "id": one.conversation.id,
            "source": one.conversation.source,
            "messages": f"{len(one.conversation.messages):,}",
            "tokens": "" if one.refused else f"{one.tokens:,}",
            "trained": "" if one.refused else f"{one.trained:,}",
            "refused": one.refused,
        }
        yield Item({k: v for k, v in facts.items() if v}, text, tuple(trained))
    reader.check(max_quarantine_share=1.0)
    if reader.quarantine.count:
        yield Item({"quarantined": f"{reader.quarantine.count:,}"}, reader.summary())


def _lines(config: ViewConfig, name: str, hint: str) -> Iterator[dict[str, Any]]:
    path = Path(config.corpus) / name
    if not path.is_file():
        raise InputError(f"{path} does not exist; {hint}")
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise CorruptError(f"{path}, line {number}: not valid JSON: {error}") from error


def _item(entry: dict[str, Any], text: str) -> Item:
    """An entry whose field `text` is the text; what is nested is shown as it is."""
    facts = {k: v for k, v in entry.items() if k != text and v not in ("", None)}
    nested = {k: v for k, v in facts.items() if isinstance(v, dict | list)}
    body = str(entry.get(text, "")) or "\n".join(
        f"{k}: {json.dumps(v, ensure_ascii=False, indent=2)}" for k, v in nested.items()
    )
    return Item({k: str(v) for k, v in facts.items() if k not in nested}, body)


# --- how it is shown -----------------------------------------------------------------------------


def visible(text: str) -> str:
    """The text with what a terminal would act on, or a reader not see, as `\\u{1b}`."""
    return "".join(c if c in "\n\t" or _is_safe(c) else f"\\u{{{ord(c):x}}}" for c in text)


def _is_safe(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


def _head(item: Item) -> str:
    head = "  ".join(f"{name} {value}" for name, value in item.facts.items())
    return visible(head.replace("\n", " ").replace("\t", " "))


def _bracketed(item: Item) -> Item:
    """The item with its trained stretches in brackets."""
    if not item.trained:
        return item
    parts, at = list[str](), 0
    for begin, end in item.trained:
        parts += [item.text[at:begin], OPENS, item.text[begin:end], CLOSES]
        at = end
    return Item(item.facts, "".join([*parts, item.text[at:]]))


def _plain(item: Item) -> str:
    return f"=== {_head(item)}\n{visible(item.text)}\n"


def _page_through(items: Iterable[Item], read_key: Callable[[], str]) -> int:
    """Show items on the terminal, turned by keys; returns how many there were to see."""
    from rich.console import Console

    console = Console()
    source = iter(items)
    seen: list[Item] = []
    first = place = shown = 0  # `seen[0]` is item number `first`
    top = 0  # the first line on the screen
    lines, wrapped = _Lines(iter(())), (-1, 0)  # of which item, at which width
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
        top = top if lines.page(top, 1) else 0  # on a terminal made wider there are fewer lines
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
    """Lines that are made when they are looked at: a book is megabytes, and wrapping it seconds."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._made: list[Any] = []

    def page(self, top: int, room: int) -> list[Any]:
        """The lines from `top` on, `room` of them or as many as there are."""
        self._made += islice(self._source, max(0, top + room + AHEAD - len(self._made)))
        return self._made[top : top + room]

    @property
    def total(self) -> str:
        """How many there are, as far as it is known."""
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
def _keyboard() -> Iterator[Callable[[], str]]:
    """A function that waits for one key; the terminal hands them on without the end of a line."""
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
