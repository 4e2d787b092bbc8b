"""The forms in which records are published, as functions to a line of ours.

Each is a frozen dataclass whose fields name the record's fields; calling it with a record gives
our line or raises `Misfit`. Empty turns and empty texts are misfits, not empty lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hanllama.corpus.fetch.sets import Misfit
from hanllama.talks.conversations.form import PUBLISHED_ROLES

Record = Mapping[str, Any]
Message = dict[str, str]


@dataclass(frozen=True)
class Text:
    """One field is the text; `headings` are put on lines of their own before it, where not empty.

    `category` names a field to keep as the document's category.
    """

    field: str
    headings: tuple[str, ...] = ()
    category: str = ""

    def __call__(self, record: Record) -> dict[str, Any]:
        body = text(record, self.field)
        heads = [str(record[h]).strip() for h in self.headings if record.get(h)]
        line = {"text": "\n".join([*filter(None, heads), body])}
        if self.category and record.get(self.category):
            line["category"] = str(record[self.category])
        return line


@dataclass(frozen=True)
class Instruction:
    """Alpaca's form: an instruction, its input (may be empty), the answer; one exchange."""

    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"

    def __call__(self, record: Record) -> dict[str, Any]:
        prompt = text(record, self.instruction)
        if self.input and str(record.get(self.input) or "").strip():
            prompt += "\n" + str(record[self.input])
        return {"messages": [user(prompt), assistant(text(record, self.output))]}


@dataclass(frozen=True)
class Pairs:
    """Firefly's form: a list of `{"human": ..., "assistant": ...}`, one object an exchange."""

    field: str = "conversation"
    human: str = "human"
    assistant: str = "assistant"

    def __call__(self, record: Record) -> dict[str, Any]:
        messages: list[Message] = []
        for turn in items(record, self.field):
            messages += [user(text(turn, self.human)), assistant(text(turn, self.assistant))]
        return {"messages": messages}


@dataclass(frozen=True)
class Turns:
    """ShareGPT's form: a list of `{"from": "human", "value": ...}`, one object a turn."""

    field: str = "conversations"
    role: str = "from"
    content: str = "value"

    def __call__(self, record: Record) -> dict[str, Any]:
        turns = items(record, self.field)
        return {"messages": [message(turn, self.role, self.content) for turn in turns]}


@dataclass(frozen=True)
class Preference:
    """A prompt in turns, a better and a worse answer, each one turn: LLaMA-Factory's DPO form."""

    prompt: str = "conversations"
    chosen: str = "chosen"
    rejected: str = "rejected"
    role: str = "from"
    content: str = "value"

    def __call__(self, record: Record) -> dict[str, Any]:
        turns = items(record, self.prompt)
        prompt = [message(turn, self.role, self.content) for turn in turns]
        answers = {}
        for name, field in (("chosen", self.chosen), ("rejected", self.rejected)):
            answer = record.get(field)
            if not isinstance(answer, Mapping):
                raise Misfit(f"field {field!r} is no turn")
            answers[name] = [message(answer, self.role, self.content)]
        return {"prompt": prompt, **answers}


def text(record: Record, field: str) -> str:
    """The text in a field; Misfit when it is missing, empty or no text."""
    value = record.get(field)
    if not isinstance(value, str):
        raise Misfit(f"no text in field {field!r}")
    if not value.strip():
        raise Misfit(f"field {field!r} is empty")
    return value


def items(record: Record, field: str) -> Sequence[Record]:
    """The list of objects in a field; Misfit when it is none, or empty."""
    value = record.get(field)
    if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
        raise Misfit(f"field {field!r} is no list of objects")
    if not value:
        raise Misfit(f"field {field!r} is empty")
    return value


def message(turn: Record, role: str, content: str) -> Message:
    """One turn as a message; Misfit for a speaker nobody knows."""
    speaker = turn.get(role)
    if speaker not in PUBLISHED_ROLES:
        raise Misfit(f"field {role!r} names no known speaker")
    return {"role": PUBLISHED_ROLES[speaker], "content": text(turn, content)}


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": content}
