"""Firefly's form: `conversation`, a list of exchanges, each `human` and `assistant`."""

from __future__ import annotations

from hanllama.talks.conversations.form import (
    Message,
    Record,
    Unusable,
    assistant,
    is_list,
    items,
    text,
    user,
    with_system,
)


def fits(record: Record) -> bool:
    """Whether `conversation` is a list; ShareGPT has the plural."""
    return is_list(record, "conversation")


def messages(record: Record) -> list[Message]:
    """The exchanges, a question and an answer each."""
    said: list[Message] = []
    for exchange in items(record, "conversation"):
        if not isinstance(exchange, dict):
            raise Unusable("an exchange that is not an object")
        said += [user(text(exchange, "human")), assistant(text(exchange, "assistant"))]
    return with_system(record, said)


EXAMPLES = [
    (
        {"conversation": [{"human": "一加一？", "assistant": "二。"}], "category": "arithmetic"},
        [user("一加一？"), assistant("二。")],
    )
]
