"""ShareGPT's form: `conversations`, a list of `from` and `value`; also `system` and `tools`.

human and gpt are user and assistant. The model writes a `function_call`, so it is the assistant's;
the `observation` after it is the tool's.
"""

from __future__ import annotations

from hanllama.talks.conversations.form import (
    TOOLS_HEADING,
    Message,
    Record,
    assistant,
    dialogue,
    is_list,
    user,
)


def fits(record: Record) -> bool:
    """Whether `conversations` is a list, and not the prompt of a preference pair."""
    return is_list(record, "conversations") and not {"chosen", "rejected"} & record.keys()


def messages(record: Record) -> list[Message]:
    """The turns as messages, after the system message that `system` and `tools` make."""
    return dialogue(record, "conversations")


EXAMPLES = [
    (
        {
            "conversations": [
                {"from": "human", "value": "二加三？"},
                {"from": "function_call", "value": '{"name": "add", "arguments": [2, 3]}'},
                {"from": "observation", "value": "5"},
                {"from": "gpt", "value": "等于五。"},
            ],
            "tools": '[{"name": "add"}]',
        },
        [
            {"role": "system", "content": f'{TOOLS_HEADING}\n[{{"name": "add"}}]'},
            user("二加三？"),
            assistant('{"name": "add", "arguments": [2, 3]}'),
            {"role": "tool", "content": "5"},
            assistant("等于五。"),
        ],
    )
]
