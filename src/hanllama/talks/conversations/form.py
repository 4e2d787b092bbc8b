"""The one form of a conversation here, and functions for layouts.

Published sets write conversations in many layouts; inside there is one form, OpenAI's `messages`:
role (system, user, assistant, tool) and content. A layout is one file in `layouts/`: it recognises
its records, and turns one into messages or raises `Unusable` with the reason.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Names of the speakers in published sets -> roles of `messages`.
PUBLISHED_ROLES = {
    **dict.fromkeys(("human", "user", "Human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "Assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}


Record = Mapping[str, Any]
Message = dict[str, Any]
"""`role` and `content`, as `tokenizer.chat` takes them."""

# Further speakers. The model writes the call of a tool, so it is the assistant's; the tool's result
# is not.
ROLES = {
    **PUBLISHED_ROLES,
    **dict.fromkeys(("developer",), "system"),
    **dict.fromkeys(("function_call", "model"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response"), "tool"),
}
TOOLS_HEADING = "可以调用的工具："


class Unusable(Exception):
    """Why a record cannot be used: words for the quarantine, the same for equal reasons."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that can be trained on: `tokenizer.chat.problem` accepts them.

    Attributes:
        messages: the last one is the assistant's.
        id: the record's id, else `folder/file:line`.
        source: the record's source, else `folder/file`.
        category: a label of the record, if it has one.
        made_from: hash (hex) of the prompt before a transform reworded it.
    """

    messages: list[Message]
    id: str = ""
    source: str = ""
    category: str = ""
    made_from: str = ""

    def record(self) -> dict[str, Any]:
        """The conversation as a record, one line of JSON lines; `layouts/openai.py` reads it."""
        origin = {"prompt_hash": self.made_from} if self.made_from else {}
        return {"messages": self.messages, **labels(self), **origin}

    def prompt_hash(self) -> bytes:
        """`prompt_hash` of the prompt, before a transform reworded it."""
        return bytes.fromhex(self.made_from) or prompt_hash(self.messages)


def labels(item: Any) -> dict[str, str]:
    """The labels that are set, as fields of a record."""
    names = ("id", "source", "category")
    return {n: value for n in names if (value := getattr(item, n, ""))}


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": content}


def text(record: Record, field: str) -> str:
    """The text in a field, "" if absent or null; Unusable when it is not text."""
    value = record.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable(f"field {field!r} is not text")
    return value


def is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which no encoding can write."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_list(record: Record, field: str) -> bool:
    """Whether a field holds a list, or the JSON of one, as in CSV."""
    value = record.get(field)
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] == "[")


def items(record: Record, field: str) -> list[Any]:
    """The list in a field, empty if absent or null; Unusable when it is not a list."""
    value = record.get(field)
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable(f"field {field!r} is not a list") from None
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise Unusable(f"field {field!r} is not a list")
    return value


def prompt(record: Record, *fields: str) -> str:
    """Several fields as one question, without empty ones."""
    parts = [text(record, field) for field in fields]
    return "\n".join(part for part in parts if part.strip())


def turn(value: Any) -> Message:
    """One turn, `role` and `content` or `from` and `value`, as a message."""
    if not isinstance(value, Mapping):
        raise Unusable("a turn that is not an object")
    speaker = value.get("role") or value.get("from")
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise Unusable(f"an unknown role: {str(speaker)[:40]}")
    content = value.get("content")
    content = value.get("value") if content is None else content
    calls = value.get("tool_calls")
    if calls and not content:
        content = json.dumps(calls, ensure_ascii=False)
    return {"role": role, "content": _content(content)}


def turns(values: Sequence[Any]) -> list[Message]:
    """A list of turns as messages."""
    return [turn(value) for value in values]


def dialogue(record: Record, field: str) -> list[Message]:
    """The turns in a field as messages, after the system message of the record."""
    return with_system(record, turns(items(record, field)))


def question(record: Record) -> list[Message]:
    """Alpaca's question: `history`, then `instruction` and, on a new line, `input`."""
    asked = user(prompt(record, "instruction", "input"))
    return with_system(record, [*history(record), asked])


def with_system(record: Record, messages: list[Message]) -> list[Message]:
    """The messages with a system message from the record's `system` and `tools`, unless empty.

    `tools` (JSON of the functions that may be called) goes into the system message, since a model
    that learns to call a function must be told that it exists.
    """
    first = messages[:1] if messages and messages[0]["role"] == "system" else []
    parts = [text(record, "system"), *(text(message, "content") for message in first)]
    if tools := _tools(record.get("tools")):
        parts.append(f"{TOOLS_HEADING}\n{tools}")
    system = "\n\n".join(part for part in parts if part.strip())
    rest = messages[len(first) :]
    return [{"role": "system", "content": system}, *rest] if system else rest


def history(record: Record) -> list[Message]:
    """The earlier exchanges of a record: `history`, a list of [question, answer]."""
    messages = []
    for pair in items(record, "history"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unusable("field 'history' is not a list of [question, answer]")
        messages += [user(pair[0]), assistant(pair[1])]
    return messages


def _content(content: Any) -> Any:
    """OpenAI's list of parts as one text; `problem` names other contents later."""
    if not isinstance(content, list):
        return content
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            raise Unusable("a content that is more than text")
    return "".join(part["text"] for part in content)


def _tools(tools: Any) -> str:
    if isinstance(tools, list):
        return json.dumps(tools, ensure_ascii=False) if tools else ""
    if isinstance(tools, str):
        return "" if tools.strip() in ("", "[]") else tools
    if tools is None:
        return ""
    raise Unusable("field 'tools' is neither a list nor text")


def made_from(record: Record) -> str:
    """The `prompt_hash` that `Conversation.record` wrote, "" without one."""
    value = record.get("prompt_hash")
    return value if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else ""


def prompt_hash(messages: Sequence[Message]) -> bytes:
    """A hash of everything before the first answer. Equal prompts of different files are on the
    same side of a held-out split, in every stage with the same seed."""
    asked = itertools.takewhile(lambda m: m["role"] != "assistant", messages)
    said = [[message["role"], message["content"]] for message in asked]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).digest()
