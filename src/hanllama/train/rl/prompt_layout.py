"""The layout of bare prompts, in which sets for reinforcement learning are published.

`{"prompt": …}`, one text or messages that end with the user, optionally with the right answer as
`answer`, `reference`, `solution` or `ground_truth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanllama.talks.conversations.form import Message, Record
from hanllama.talks.preferences.form import asked

_ANSWERS = ("answer", "reference", "solution", "ground_truth")


def fits(record: Mapping[str, Any]) -> bool:
    """Whether a record has a `prompt`; layouts with more fields are tried before this one."""
    return record.get("prompt") is not None


def prompt_and_reference(record: Record) -> tuple[list[Message], str]:
    """The messages, and the right answer or ""."""
    given = [record[name] for name in _ANSWERS if record.get(name) is not None]
    return asked(record), str(given[0]) if given else ""
