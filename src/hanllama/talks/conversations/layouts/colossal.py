"""Colossal-LLaMA's form: `source` is the prompt, `target` the answer, `category` a label.

In its data for pretraining `source` is empty and `target` the whole text: such a record is
quarantined for its empty question.
"""

from __future__ import annotations

from hanllama.talks.conversations.form import Message, Record, assistant, text, user

LABELS = ("id", "category")


def fits(record: Record) -> bool:
    """Whether a record has `source` and `target`; elsewhere `source` is the record's origin."""
    return isinstance(record.get("source"), str) and "target" in record


def messages(record: Record) -> list[Message]:
    """One exchange."""
    return [user(text(record, "source")), assistant(text(record, "target"))]


EXAMPLES = [
    (
        {"source": "天为什么是蓝的？", "target": "空气散射蓝光。", "category": "science"},
        [user("天为什么是蓝的？"), assistant("空气散射蓝光。")],
    )
]
