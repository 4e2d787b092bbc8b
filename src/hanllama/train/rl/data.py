"""Prompts for reinforcement learning, with the right answer if the data has one.

Files may hold conversations (used up to their last answer), preferences (their prompt) or bare
prompts. Equal prompts count once. A prompt is left out if it leaves no room for an answer or the
chat template refuses it. A share is held out by a hash of the first question, so that it stays held
out when files are added, and in every stage with the same seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hanllama.base import fs, plugins
from hanllama.base.errors import InputError
from hanllama.talks.conversations.form import Message, Record, Unusable, assistant, prompt_hash
from hanllama.talks.conversations.reader import Labels, LayoutReader, problem
from hanllama.talks.preferences import PreferenceReader
from hanllama.talks.preferences.form import Judged, Pair, Preference
from hanllama.text.hashing import rank
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.train.rl import prompt_layout

LEFT_OUT = "left_out.jsonl"
_PREFERENCE = "preference"


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        messages: the last one is not the assistant's.
        reference: the right answer in the data; empty without one.
        id: the record's id, else `folder/file:line`.
        ids: the tokens, up to where the assistant begins; empty before `encode_prompts`.
    """

    messages: Sequence[Message]
    reference: str
    id: str
    ids: Sequence[int] = ()


@dataclass(frozen=True)
class Prompts:
    """The training and the held-out prompts, encoded.

    Attributes:
        equal: number of prompts left out because they equal another one.
        left_out: id and reason (and tokens) of prompts that leave no room for an answer or that
            the template refuses.
        hash: a hash of everything that a rollout depends on.
    """

    train: list[Prompt]
    heldout: list[Prompt]
    equal: int
    left_out: list[dict[str, Any]]
    hash: str

    def summary(self) -> str:
        """The counts, in a line."""
        line = f"{len(self.train):,} prompts to learn from, {len(self.heldout):,} held out"
        if self.equal:
            line += f"; {self.equal:,} equal to another left out"
        if self.left_out:
            line += f"; {len(self.left_out):,} left out ({LEFT_OUT}){_first(self.left_out)}"
        return line

    def write_left_out(self, folder: Path) -> None:
        """Write the prompts that were left out, one per line."""
        fs.write_jsonl(folder / LEFT_OUT, self.left_out)


class PromptReader(LayoutReader):
    """The prompts of files; see `LayoutReader` for its arguments and what it counts."""

    PACKAGE = "hanllama.talks.conversations.layouts"
    NOUN = "prompt"

    def __init__(self, inputs: Sequence[str], **options: Any) -> None:
        super().__init__(inputs, **options)
        preferences = {
            f"{_PREFERENCE} {name}": plugins.load(PreferenceReader.PACKAGE, name)
            for name in plugins.names(PreferenceReader.PACKAGE)
        }
        # Tried in this order: a preference has more fields than a conversation or a prompt.
        self._layouts = {**preferences, **self._layouts, "prompt": prompt_layout}

    def __iter__(self) -> Iterator[Prompt]:
        return self._read(self._prompts)

    def _layout_of(self, record: Any, last: str) -> str:
        # The last record's layout is tried first, but a preference also fits that of bare prompts.
        return super()._layout_of(record, last if last.startswith(_PREFERENCE) else "")

    def _prompts(self, layout: ModuleType, record: Record, labels: Labels) -> Iterator[Prompt]:
        if hasattr(layout, "preference"):
            messages, reference = _of_preference(layout.preference(record))
        elif hasattr(layout, "prompt_and_reference"):
            messages, reference = layout.prompt_and_reference(record)
        else:
            messages, reference = _of_conversation(layout.messages(record))
        # `problem` checks whole conversations, so the prompt gets an answer.
        if reason := problem([*messages, assistant("好")]):
            raise Unusable(reason)
        filled = [{**m, "content": self.filled_text(m["content"])} for m in messages]
        yield Prompt(filled, self.filled_text(reference), labels["id"])


def encode_prompts(
    prompts: Sequence[Prompt], template: ChatTemplate, room: int, heldout: float, seed: int
) -> Prompts:
    """Encode prompts, leave out equal, too long and refused ones, and hold out a share.

    Args:
        room: the most tokens of a prompt.
        heldout: the share to hold out, 0 for none.

    Raises InputError when no training prompt is left.
    """
    seen: dict[str, Prompt] = {}
    for prompt in prompts:
        seen.setdefault(json.dumps(prompt.messages, ensure_ascii=False), prompt)
    kept: list[Prompt] = []
    left_out: list[dict[str, Any]] = []
    for prompt in seen.values():
        try:
            ids = template.prompt(prompt.messages)
        except InputError as error:  # such as a role that the template lacks
            left_out.append({"id": prompt.id, "reason": str(error)})
            continue
        if len(ids) > room:
            entry = {"id": prompt.id, "reason": "no room for an answer", "tokens": len(ids)}
            left_out.append(entry)
        else:
            kept.append(Prompt(prompt.messages, prompt.reference, prompt.id, ids))
    ranks = [rank(seed, prompt_hash(p.messages).hex()) for p in kept]
    held = {number for number, rank_ in enumerate(ranks) if rank_ < heldout * 2**64}
    train = [p for number, p in enumerate(kept) if number not in held]
    if not train:
        raise InputError(
            f"no prompt is left to learn from: of {len(prompts):,}, {len(held):,} are held out and"
            f" {len(left_out):,} left out, refused by the chat template or longer than the {room}"
            f" tokens that leave room for an answer{_first(left_out)}"
        )
    digest = hashlib.sha256()
    for p in kept:
        digest.update(json.dumps([list(p.ids), p.reference], ensure_ascii=False).encode())
    equal = len(prompts) - len(seen)
    return Prompts(train, [kept[n] for n in sorted(held)], equal, left_out, digest.hexdigest())


def _first(left_out: Sequence[Mapping[str, Any]]) -> str:
    """The end of a message: the first entry as an example."""
    return f": {left_out[0]['id']}, {left_out[0]['reason']}" if left_out else ""


def _of_conversation(messages: list[Message]) -> tuple[list[Message], str]:
    """The messages before the last answer, and that answer; all messages if there is none."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers or answers[-1] == 0:
        return messages, ""
    content = messages[answers[-1]]["content"]
    return messages[: answers[-1]], content if isinstance(content, str) else ""


def _of_preference(item: Preference) -> tuple[list[Message], str]:
    if isinstance(item, Pair):
        return item.prompt, item.chosen
    if isinstance(item, Judged):
        return item.prompt, item.answer if item.good else ""
    return item.prompt, item.answers[0] if item.answers else ""
