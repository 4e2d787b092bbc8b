"""Rankings, the best answer first: a list under `output` or `answers`.

The former is LLaMA-Factory's older form for reward models (`instruction`, `input`, a list as
`output`), the latter is ours.
"""

from __future__ import annotations

from hanllama.talks.conversations.form import (
    Record,
    is_list,
    items,
    question,
    user,
)
from hanllama.talks.preferences.form import Preference, Ranked, answer, asked


def fits(record: Record) -> bool:
    """Whether a record has a question and a list of answers."""
    if isinstance(record.get("instruction"), str):
        return isinstance(record.get("output"), list)
    return record.get("prompt") is not None and is_list(record, "answers")


def preference(record: Record) -> Preference:
    """The ranking."""
    if "answers" in record:
        return Ranked(asked(record), [answer(a, "an answer") for a in items(record, "answers")])
    return Ranked(question(record), [answer(a, "an answer") for a in items(record, "output")])


EXAMPLES = [
    (
        {"instruction": "一加一？", "input": "", "output": ["二。", "大约二。", "三。"]},
        Ranked([user("一加一？")], ["二。", "大约二。", "三。"]),
    ),
    (
        {"prompt": [{"role": "user", "content": "一加一？"}], "answers": ["二。", "三。"]},
        Ranked([user("一加一？")], ["二。", "三。"]),
    ),
]
