"""Alpaca's form with two answers: `instruction`, `input`, `chosen`, `rejected`."""

from __future__ import annotations

from hanllama.talks.conversations.form import Record, assistant, question, user
from hanllama.talks.preferences.form import Pair, Preference, pair


def fits(record: Record) -> bool:
    """Whether a record has an `instruction` and two sides."""
    return isinstance(record.get("instruction"), str) and {"chosen", "rejected"} <= record.keys()


def preference(record: Record) -> Preference:
    """The pair; `history` and `system` are read as in conversations."""
    return pair(question(record), record)


EXAMPLES = [
    (
        {"instruction": "译成英语：", "input": "你好", "chosen": "Hello", "rejected": "Bye"},
        Pair([user("译成英语：\n你好")], "Hello", "Bye"),
    ),
    (
        {
            "instruction": "再短些。",
            "history": [["写一句诗。", "春天到了。"]],
            "chosen": "春至。",
            "rejected": "春天真的到了。",
        },
        Pair(
            [user("写一句诗。"), assistant("春天到了。"), user("再短些。")],
            "春至。",
            "春天真的到了。",
        ),
    ),
]
