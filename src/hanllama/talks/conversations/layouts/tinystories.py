"""TinyStories' form: a story, and the `instruction` object from which it was written.

The object holds the whole instruction under `prompt:` (with the colon; some copies lack it), its
`words` and its `features`. Without a `prompt:`, the question is made of the words, the features and
the story's `summary`. The Chinese translation has the English `story` and `story_zh`, the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanllama.talks.conversations.form import Message, Record, Unusable, assistant, text, user


def fits(record: Record) -> bool:
    """Whether `instruction` is an object, beside a story."""
    return isinstance(record.get("instruction"), Mapping) and bool(
        {"story", "story_zh"} & record.keys()
    )


def messages(record: Record) -> list[Message]:
    """One exchange: the instruction, the story."""
    story = text(record, "story_zh") or text(record, "story")
    question = _question(record["instruction"], text(record, "summary").strip())
    return [user(question), assistant(story.strip())]


def _question(instruction: Mapping[str, Any], summary: str) -> str:
    given = text(instruction, "prompt:") or text(instruction, "prompt")
    if given.strip():
        return given.strip()
    words, features = _list(instruction, "words"), _list(instruction, "features")
    parts = ["写一个小故事。"]
    parts += [f"用上这些词：{'、'.join(words)}。"] if words else []
    parts += [f"要求：{'、'.join(features)}。"] if features else []
    parts += [f"大意：{summary}"] if summary else []
    if len(parts) == 1:
        raise Unusable("an instruction object without prompt, words and features, and no summary")
    return "".join(parts)


def _list(instruction: Mapping[str, Any], field: str) -> list[str]:
    value = instruction.get(field) or []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise Unusable(f"field 'instruction.{field}' is not a list of texts")
    return value


EXAMPLES = [
    (
        {
            "story": "A cat ran up a tree.",
            "story_zh": "小猫跑上了树。",
            "instruction": {
                "prompt:": "Write a short story with a cat.",
                "words": ["cat", "run", "tree"],
                "features": ["Dialogue"],
            },
            "source": "GPT-4",
        },
        [user("Write a short story with a cat."), assistant("小猫跑上了树。")],
    ),
    (
        {
            "story_zh": "小猫跑上了树。",
            "instruction": {"words": ["猫", "树"], "features": []},
            "summary": "小猫爬树。",
        },
        [user("写一个小故事。用上这些词：猫、树。大意：小猫爬树。"), assistant("小猫跑上了树。")],
    ),
]
