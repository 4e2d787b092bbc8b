"""OpenAI's form, which is the house's own: `{"messages": [{"role": …, "content": …}]}`."""

from __future__ import annotations

from hanllama.talks.conversations.form import (
    Message,
    Record,
    assistant,
    dialogue,
    is_list,
    user,
)


def fits(record: Record) -> bool:
    """A list `messages` that nobody judged: a bad answer must not be learnt as a good one."""
    judged = {"chosen", "rejected"} & record.keys() or isinstance(record.get("label"), bool)
    return is_list(record, "messages") and not judged


def messages(record: Record) -> list[Message]:
    """The messages; a list of text parts becomes one text, calls of tools their JSON."""
    return dialogue(record, "messages")


EXAMPLES = [
    (
        {
            "messages": [
                {"role": "user", "content": "一年有几个季节？"},
                {"role": "assistant", "content": "四个。"},
            ]
        },
        [user("一年有几个季节？"), assistant("四个。")],
    )
]
