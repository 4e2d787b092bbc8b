"""One answer and whether it is good: `prompt`, `completion`, `label` (TRL's form for KTO).

Also `prompt`, `answer`, `good`; and `messages` with a `label` of the last answer.
"""

from __future__ import annotations

from typing import Any

from hanllama.talks.conversations.form import (
    Record,
    Unusable,
    assistant,
    dialogue,
    is_list,
    user,
)
from hanllama.talks.preferences.form import Judged, Preference, answer, asked, split_last

_FORMS = (("completion", "label"), ("answer", "good"))
_WORDS = {"true": True, "false": False, "1": True, "0": False, "good": True, "bad": False}


def fits(record: Record) -> bool:
    """Whether a record has a judgement of an answer to a prompt or of a conversation."""
    if is_list(record, "messages"):
        return "label" in record
    fields = [f for f in _FORMS if set(f) <= record.keys()]
    return bool(fields) and record.get("prompt") is not None


def preference(record: Record) -> Preference:
    """The judgement."""
    if is_list(record, "messages"):
        whole = dialogue(record, "messages")
        return Judged(*split_last(whole, "messages"), _good(record["label"], "label"))
    said, verdict = next(f for f in _FORMS if set(f) <= record.keys())
    return Judged(asked(record), answer(record[said], said), _good(record[verdict], verdict))


def _good(value: Any, field: str) -> bool:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    if isinstance(value, int | float) and value in (0, 1):  # false and true are among them
        return bool(value)
    raise Unusable(f"field {field!r} says neither good nor bad")


EXAMPLES = [
    (
        {
            "prompt": [{"role": "user", "content": "一加一？"}],
            "completion": [{"role": "assistant", "content": "二。"}],
            "label": True,
        },
        Judged([user("一加一？")], "二。", True),
    ),
    (
        {"prompt": "一加一？", "answer": "三。", "good": False},
        Judged([user("一加一？")], "三。", False),
    ),
    (
        {
            "messages": [
                {"role": "user", "content": "你好"},
                {"role": "assistant", "content": "你好！"},
                {"role": "user", "content": "一加一？"},
                {"role": "assistant", "content": "三。"},
            ],
            "label": 0,
        },
        Judged([user("你好"), assistant("你好！"), user("一加一？")], "三。", False),
    ),
]
