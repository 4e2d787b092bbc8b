"""Conversations of any layout -> one stream of `Conversation`.

    reader = ConversationReader(["sft/", "more.jsonl.gz"], fill={"name": "小汉"})
    for conversation in reader: ...
    reader.check(0.05); reader.write_quarantine(folder); print(reader.summary())

`tokenizer.chat.problem` is the judge of a conversation. What it refuses is quarantined with its
reason and never repaired, with one exception: messages after the assistant's last one teach
nothing, so they are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from hanllama.talks.conversations.form import Conversation, Message, Record, Unusable, made_from
from hanllama.talks.conversations.intake import Labels, LayoutReader, check_unicode
from hanllama.tokenizer import chat

TAIL = "messages after the last answer left out"


class ConversationReader(LayoutReader):
    """The conversations of files; see `LayoutReader` for its arguments and what it counts."""

    PACKAGE = "hanllama.talks.conversations.layouts"
    NOUN = "conversation"

    def __iter__(self) -> Iterator[Conversation]:
        return self._read(self._conversations)

    def _conversations(
        self, layout: ModuleType, record: Record, labels: Labels
    ) -> Iterator[Conversation]:
        messages = layout.messages(record)
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        whole = messages[: answers[-1] + 1] if answers else messages
        if reason := problem(whole):
            raise Unusable(reason)
        if len(whole) < len(messages):
            self.notes[TAIL] += 1
        whole = [{**message, "content": self.filled_text(message["content"])} for message in whole]
        yield Conversation(whole, **labels, made_from=made_from(record))


def problem(messages: list[Message]) -> str | None:
    """Why nothing can be trained on in a conversation; None where something can."""
    check_unicode(messages)
    if reason := chat.problem(messages):
        return reason
    if not isinstance(messages[0]["content"], str):
        return "the system's content is not text"
    if not any(message["role"] == "assistant" for message in messages):
        return "no answer of the assistant"
    return None
