"""Anthropic's HH form: `chosen` and `rejected` are transcripts that share all but the last answer.

A transcript is one text; every turn begins with an empty line and `Human:` or `Assistant:`.
"""

from __future__ import annotations

import re

from hanllama.talks.conversations.form import Message, Record, Unusable, assistant, user
from hanllama.talks.preferences.form import Pair, Preference, from_conversations

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \n]?")


def fits(record: Record) -> bool:
    """Whether both sides are transcripts, without another field for the question."""
    sides = record.get("chosen"), record.get("rejected")
    question = {"prompt", "instruction", "conversations"}
    return all(isinstance(side, str) and "Human:" in side for side in sides) and not any(
        record.get(name) is not None for name in question
    )


def preference(record: Record) -> Preference:
    """The pair."""
    return from_conversations(_messages(record["chosen"]), _messages(record["rejected"]))


def _messages(transcript: str) -> list[Message]:
    before, *parts = _SPEAKER.split(transcript)
    if before.strip():
        raise Unusable("a transcript that begins with neither Human: nor Assistant:")
    said = zip(parts[::2], parts[1::2], strict=True)
    return [user(t.strip()) if who == "Human" else assistant(t.strip()) for who, t in said]


EXAMPLES = [
    (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: 1+1?\n\nAssistant: 2",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: 1+1?\n\nAssistant: 3",
        },
        Pair([user("Hi"), assistant("Hello!"), user("1+1?")], "2", "3"),
    )
]
