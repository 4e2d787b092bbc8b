"""OpenAI's form, which is also ours: `{"messages": [{"role": …, "content": …}]}`."""

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
    """Whether `messages` is a list without a judgement: a bad answer must not be learnt."""
    judged = {"chosen", "rejected"} & record.keys() or isinstance(record.get("label"), bool)
    return is_list(record, "messages") and not judged


def messages(record: Record) -> list[Message]:
    """The messages; a list of text parts becomes one text, calls of tools become JSON."""
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
