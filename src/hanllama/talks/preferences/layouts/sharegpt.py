"""LLaMA-Factory's form: `conversations` up to the question, `chosen` and `rejected` a turn each."""

from __future__ import annotations

from hanllama.talks.conversations.form import Record, dialogue, is_list, user
from hanllama.talks.preferences.form import Pair, Preference, pair


def fits(record: Record) -> bool:
    """Whether a record has a list `conversations` and two sides."""
    return is_list(record, "conversations") and {"chosen", "rejected"} <= record.keys()


def preference(record: Record) -> Preference:
    """The pair."""
    return pair(dialogue(record, "conversations"), record)


EXAMPLES = [
    (
        {
            "conversations": [
                {"from": "system", "value": "只说数字。"},
                {"from": "human", "value": "一加一？"},
            ],
            "chosen": {"from": "gpt", "value": "2"},
            "rejected": {"from": "gpt", "value": "等于二。"},
        },
        Pair(
            [{"role": "system", "content": "只说数字。"}, user("一加一？")],
            "2",
            "等于二。",
        ),
    )
]
