"""Alpaca's form: `instruction`, `input` (may be empty), `output`; also `history` and `system`.

The question is the instruction and, on a new line, its input, as LLaMA-Factory joins them.
"""

from __future__ import annotations

from hanllama.talks.conversations.form import (
    Message,
    Record,
    assistant,
    question,
    text,
    user,
)


def fits(record: Record) -> bool:
    """Whether `instruction` is a text and `output` not a list, which would be a ranking."""
    return (
        isinstance(record.get("instruction"), str)
        and "output" in record
        and not isinstance(record["output"], list)
    )


def messages(record: Record) -> list[Message]:
    """The earlier exchanges, the question, the answer."""
    return [*question(record), assistant(text(record, "output"))]


EXAMPLES = [
    (
        {"instruction": "译成英语：", "input": "你好", "output": "Hello"},
        [user("译成英语：\n你好"), assistant("Hello")],
    ),
    (
        {"instruction": "再短些。", "output": "春至。", "history": [["写一句诗。", "春天到了。"]]},
        [user("写一句诗。"), assistant("春天到了。"), user("再短些。"), assistant("春至。")],
    ),
]
