"""`hanllama data view`: show a corpus, or the documents removed from it, one by one.

On a terminal a document fills the screen and keys turn the pages; piped, documents are printed one
after another. They come from the files that cleaning and deduplication leave in the corpus folder.
Each entry of KINDS is a function from the corpus to items.

`--mask` shows conversations as training sees them: with every special token, and with the tokens
that count in the loss underlined in green, or in brackets without a terminal or colour.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from hanllama.base import pager
from hanllama.base.config import checked, option
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.pager import Item
from hanllama.reading import records
from hanllama.reading.rows import of_file

DUPLICATES = "exact duplicates"  # the stage's name in dropped.jsonl
OPENS, CLOSES = "⟦", "⟧"


@checked
class ViewConfig:
    """Options of `hanllama data view`."""

    corpus: str = option(help="a corpus folder; kept documents of any file too", positional=True)
    show: Literal["kept", "dropped", "quarantined", "duplicates"] = option(
        "kept", help="the documents, or what cleaning and deduplication took"
    )
    rule: str = option("", help="only documents dropped by this rule")
    reason: str = option("", help="only documents whose drop or quarantine reason holds this text")
    search: str = option("", help="only documents that hold this text")
    id: str = option("", help="only the document with this id")
    text_field: str = option("text", help="the field of records that is the text")
    limit: int = option(10, help="documents to print without a terminal; 0 means all")
    mask: bool = option(False, help="conversations as training sees them, with their loss mask")
    tokenizer: str = option("", help="for --mask: a tokenizer or model folder")
    template: str = option("", help="for --mask: a chat template; default: the folder's own")
    colour: bool = option(True, help="for --mask: trained tokens in colour, otherwise in brackets")

    def __post_init__(self) -> None:
        if self.mask and not self.tokenizer:
            raise ConfigError("--mask needs --tokenizer: a tokenizer or model folder")
        if self.mask and self.show != "kept":
            raise ConfigError("--mask shows conversations; leave out --show")
        if self.tokenizer and not self.mask:
            raise ConfigError("--tokenizer belongs to --mask")


def view(config: ViewConfig) -> None:
    """The command. Raises InputError when the corpus is missing or nothing matches."""
    kind = _conversations if config.mask else KINDS[config.show]
    items: Iterator[Item] = (item for item in kind(config) if _is_wanted(item, config))
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not (on_terminal and config.colour):
        items = map(_bracketed, items)
    if on_terminal:
        with pager.keyboard() as read_key:
            shown = pager.page_through(items, read_key)
    else:
        shown = 0
        for item in islice(items, config.limit or None):
            print(pager.plain(item))
            shown += 1
    if not shown:
        raise InputError(f"{config.corpus}: no {config.show} document matches the options")


def _is_wanted(item: Item, config: ViewConfig) -> bool:
    return (
        (not config.rule or item.facts.get("rule") == config.rule)
        and config.reason in item.facts.get("reason", "")
        and config.search in item.text
        and (not config.id or item.facts.get("id") == config.id)
    )


# --- kinds of documents --------------------------------------------------------------------------


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
    """Exact duplicates of `clean`, or the clusters of `dedup`."""
    folder = Path(config.corpus)
    if (folder / "clusters.jsonl").is_file():
        for entry in _lines(config, "clusters.jsonl", ""):
            yield _item(entry, "")
        return
    for entry in _lines(config, "dropped.jsonl", "only clean and dedup write duplicates"):
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
    from hanllama.talks.conversations import ConversationReader, masks
    from hanllama.tokenizer.chat import ChatTemplate
    from hanllama.tokenizer.load import load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer)
    template = ChatTemplate(tokenizer, config.template)
    reader = ConversationReader([config.corpus])
    for one in masks.shown(reader, tokenizer, template):
        text, trained = "", list[tuple[int, int]]()
        for part, is_trained in one.runs:
            begin, text = len(text), text + pager.visible(part)
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
    for row in of_file(path, "file"):
        yield row.value


def _item(entry: dict[str, Any], text: str) -> Item:
    """An entry as an item: its field `text` as the body, or its nested fields as JSON."""
    facts = {k: v for k, v in entry.items() if k != text and v not in ("", None)}
    nested = {k: v for k, v in facts.items() if isinstance(v, dict | list)}
    body = str(entry.get(text, "")) or "\n".join(
        f"{k}: {json.dumps(v, ensure_ascii=False, indent=2)}" for k, v in nested.items()
    )
    return Item({k: str(v) for k, v in facts.items() if k not in nested}, body)


def _bracketed(item: Item) -> Item:
    """The item with its trained stretches in brackets."""
    if not item.trained:
        return item
    parts, at = list[str](), 0
    for begin, end in item.trained:
        parts += [item.text[at:begin], OPENS, item.text[begin:end], CLOSES]
        at = end
    return Item(item.facts, "".join([*parts, item.text[at:]]))
