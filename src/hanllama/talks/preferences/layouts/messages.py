"""Our form, and TRL's: `prompt`, `chosen`, `rejected`, each messages or one text.

Both sides may also be whole conversations, with or without a `prompt` (TRL's "implicit prompt",
UltraFeedback): the prompt is then the part that they share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hanllama.talks.conversations.form import Record, turns, user
from hanllama.talks.preferences.form import (
    Pair,
    Preference,
    asked,
    from_conversations,
    margin,
    pair,
    read_turns,
)


def fits(record: Record) -> bool:
    """Whether a record has two sides, with a `prompt` or as lists of messages."""
    elsewhere = {"instruction", "conversations"} & record.keys()
    sides = {"chosen", "rejected"} <= record.keys()
    has_prompt = record.get("prompt") is not None
    return sides and not elsewhere and (has_prompt or isinstance(_side(record), list))


def preference(record: Record) -> Preference:
    """The pair, with its margin if the record has one or two scores."""
    chosen, rejected = _side(record), read_turns(record["rejected"])
    whole = isinstance(chosen, list) and (len(chosen) > 1 or record.get("prompt") is None)
    if whole and isinstance(rejected, list):
        return replace(from_conversations(turns(chosen), turns(rejected)), margin=margin(record))
    return pair(asked(record), record)


def _side(record: Record) -> Any:
    return read_turns(record["chosen"])


EXAMPLES = [
    (
        {
            "prompt": [{"role": "user", "content": "一加一？"}],
            "chosen": [{"role": "assistant", "content": "二。"}],
            "rejected": [{"role": "assistant", "content": "三。"}],
            "margin": 1.5,
        },
        Pair([user("一加一？")], "二。", "三。", 1.5),
    ),
    (
        {"prompt": "一加一？", "chosen": "二。", "rejected": "三。"},
        Pair([user("一加一？")], "二。", "三。"),
    ),
    (
        {
            "chosen": [
                {"role": "user", "content": "一加一？"},
                {"role": "assistant", "content": "二。"},
            ],
            "rejected": [
                {"role": "user", "content": "一加一？"},
                {"role": "assistant", "content": "三。"},
            ],
        },
        Pair([user("一加一？")], "二。", "三。"),
    ),
]
