"""Prompts for reinforcement learning: what is asked, and the right answer where the data has one.

Any file of conversations, preferences or bare prompts serves: of a conversation the messages up to
its last answer, of a preference its prompt. A prompt comes once, however often the files hold it; a
prompt that leaves no room for an answer, or that the chat template refuses, is left out; a share is
held out by a hash of what is asked first, so that it stays held out when files are added, and in
every stage that has the same seed.
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
    """What a model is asked.

    Attributes:
        messages: the last one is not the assistant's.
        reference: the answer that the data gives; empty where it gives none.
        id: of the record, else `folder/file:line`.
        ids: the tokens, up to where the assistant begins; empty before `encode_prompts`.
    """

    messages: Sequence[Message]
    reference: str
    id: str
    ids: Sequence[int] = ()


@dataclass(frozen=True)
class Prompts:
    """The prompts to learn from and those held out, encoded.

    Attributes:
        equal: prompts left out because another one says the same.
        left_out: id and reason of prompts that no answer would fit behind (with their tokens), or
            that the template refuses.
        hash: of all that a rollout depends on.
    """

    train: list[Prompt]
    heldout: list[Prompt]
    equal: int
    left_out: list[dict[str, Any]]
    hash: str

    def summary(self) -> str:
        """The counts, in a line or two."""
        line = f"{len(self.train):,} prompts to learn from, {len(self.heldout):,} held out"
        if self.equal:
            line += f"; {self.equal:,} equal to another left out"
        if self.left_out:
            line += f"; {len(self.left_out):,} left out ({LEFT_OUT}){_first(self.left_out)}"
        return line

    def write_left_out(self, folder: Path) -> None:
        """Name what was left out, a line each."""
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
        # Asked in this order: a preference has more fields than a conversation or a prompt.
        self._layouts = {**preferences, **self._layouts, "prompt": prompt_layout}

    def __iter__(self) -> Iterator[Prompt]:
        return self._read(self._prompts)

    def _layout_of(self, record: Any, last: str) -> str:
        # The layout of the last record is asked first, but a preference fits a bare prompt's, too.
        return super()._layout_of(record, last if last.startswith(_PREFERENCE) else "")

    def _prompts(self, layout: ModuleType, record: Record, labels: Labels) -> Iterator[Prompt]:
        if hasattr(layout, "preference"):
            messages, reference = _of_preference(layout.preference(record))
        elif hasattr(layout, "prompt_and_reference"):
            messages, reference = layout.prompt_and_reference(record)
        else:
            messages, reference = _of_conversation(layout.messages(record))
        # The judge of conversations judges a prompt by the answer that it is to get.
        if reason := problem([*messages, assistant("好")]):
            raise Unusable(reason)
        filled = [{**m, "content": self.filled_text(m["content"])} for m in messages]
        yield Prompt(filled, self.filled_text(reference), labels["id"])


def encode_prompts(
    prompts: Sequence[Prompt], template: ChatTemplate, room: int, heldout: float, seed: int
) -> Prompts:
    """Encode, leave out what is equal, too long or refused by the template, and hold a share out.

    Args:
        room: the most tokens that a prompt may have.
        heldout: the share that is held out, 0 for none.

    Raises InputError when no prompt to learn from is left.
    """
    seen: dict[str, Prompt] = {}
    for prompt in prompts:
        seen.setdefault(json.dumps(prompt.messages, ensure_ascii=False), prompt)
    kept: list[Prompt] = []
    left_out: list[dict[str, Any]] = []
    for prompt in seen.values():
        try:
            ids = template.prompt(prompt.messages)
        except InputError as error:  # a role that the template lacks, say
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
            f" {len(left_out):,} left out, being refused by the chat template or longer than the"
            f" {room} tokens that leave room for an answer{_first(left_out)}"
        )
    digest = hashlib.sha256()
    for p in kept:
        digest.update(json.dumps([list(p.ids), p.reference], ensure_ascii=False).encode())
    equal = len(prompts) - len(seen)
    return Prompts(train, [kept[n] for n in sorted(held)], equal, left_out, digest.hexdigest())


def _first(left_out: Sequence[Mapping[str, Any]]) -> str:
    """The end of a message: the first of them as an example."""
    return f": {left_out[0]['id']}, {left_out[0]['reason']}" if left_out else ""


def _of_conversation(messages: list[Message]) -> tuple[list[Message], str]:
    """The messages up to the last answer, and that answer; all of them where there is none."""
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
