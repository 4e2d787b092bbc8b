"""Conversations -> masked token shards, once, before the first step.

The chat template (`tokenizer/chat.py`) turns messages into ids and a mask: the assistant's words
are trained, and the token that ends them. The shards lie in the run folder with the tokenizer and
the template, so a resumed run reads the same tokens. Packing, order and batches are pretraining's.

- A conversation longer than the context loses whole turns from its end until it fits; if its first
  answer does not fit, it is left out. A cut answer would teach the model to stop anywhere. Both are
  counted and named in `left_out.jsonl`.
- A conversation without a trained token is left out.
- A share of the prompts, chosen by a hash, is held out: conversations that begin with the same
  prompt are on the same side, and stay there when files are added.
- With a curriculum (Ziya's: graded from easy to hard) every stage is a split.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fingerprint, fs
from hanllama.base.errors import ConfigError, InputError, ResumeError
from hanllama.base.progress import Progress
from hanllama.batches.shards import TOKENIZER, Shards, ShardWriter, write_manifest
from hanllama.reading import records
from hanllama.talks.conversations import (
    Conversation,
    ConversationReader,
    Record,
    Unusable,
    parse_fill,
)
from hanllama.talks.conversations.reader import Labels
from hanllama.text.hashing import rank
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate, Encoded, Message
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer
from hanllama.train.sft.config import SftConfig

_FORMAT = 1  # the version of this file's output; another number makes it again
_ENCODED_AT_A_TIME = 512
_MOST_STAGES = 100
LEFT_OUT = "left_out.jsonl"
HELDOUT = "heldout"


def prepare(config: SftConfig, tokenizer: Tokenizer, context: int, *, must_be_there: bool) -> None:
    """Write the shards into `<output>/data`, unless they were made from the same input.

    Args:
        tokenizer: the base model's.
        context: predictions of a row; a conversation may have one token more.
        must_be_there: the run has a checkpoint, so its data must be the same.

    Raises ResumeError when the data is not the checkpoint's, InputError when nothing can be used or
    too much cannot, ConfigError for an invalid template or curriculum.
    """
    folder = Path(config.output) / "data"
    template = ChatTemplate(tokenizer, config.template)
    wanted = _fingerprint(config, tokenizer, template, context)
    manifest = folder / "manifest.json"
    if manifest.is_file():
        found = fs.read_json(manifest).get("made_from")
        if found == wanted and (must_be_there or config.data != ("-",)):
            return
        if must_be_there:
            raise ResumeError(
                f"cannot resume: {folder} was made from other conversations, or with another"
                " tokenizer, template or context; restore them, or start again in another output"
                " folder"
            )
    with fs.publish(folder, replace=True) as beside:
        _write(beside, config, tokenizer, template, context, wanted)


def train_splits(shards: Shards) -> list[str]:
    """The names of the splits to train on: one, or the stages of a curriculum in order."""
    return [entry["split"] for entry in shards.manifest["stages"]]


def summary(shards: Shards) -> str:
    """The counts of conversations that are trained, held out and left out, in lines to print."""
    return "\n".join(shards.manifest["conversations"]["summary"])


# --- writing -------------------------------------------------------------------------------------


def _write(
    folder: Path,
    config: SftConfig,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    context: int,
    made_from: str,
) -> None:
    (folder / TOKENIZER).mkdir()
    copy_tokenizer(tokenizer.folder, folder / TOKENIZER)
    fs.write_text(folder / TOKENIZER / chat.FILE, template.source)
    writing = _Writing(folder, tokenizer.vocab_size, template, context)
    layout, fill = config.layout, parse_fill(config.fill)
    held_prompts: set[bytes] = set()
    lines: list[str] = []
    if config.heldout:
        heldout = GradedReader(config.heldout, layout=layout, fill=fill)
        for conversation, _ in _shown(heldout, "", "encode held-out conversations"):
            held_prompts.add(conversation.prompt_hash())
            writing.add(HELDOUT, conversation)
        (folder / HELDOUT).mkdir()
        _check(heldout, config, folder / HELDOUT)
        lines += heldout.summary().split("\n")
    reader = GradedReader(config.data, layout=layout, fill=fill)
    stages = Stages(config, reader)
    share = 0.0 if config.heldout else config.heldout_share
    for conversation, grade in _shown(reader, config.curriculum, "encode conversations"):
        prompt = conversation.prompt_hash()
        if prompt in held_prompts:
            writing.leave_out(conversation, "its prompt is among the held-out ones")
        elif rank(config.loop.seed, prompt.hex()) < share * 2**64:
            writing.add(HELDOUT, conversation)
        else:
            writing.add(stages.split(grade), conversation)
    writing.flush()
    _check(reader, config, folder)
    lines += [*reader.summary().split("\n"), *writing.summary()]
    ordered = [entry for entry in stages.entries() if entry["split"] in writing.splits]
    if not ordered:
        raise InputError(
            f"{', '.join(config.data)}: no conversation is left to learn from: {'; '.join(lines)}"
        )
    writing.write_left_out()
    write_manifest(
        folder,
        writing.splits,
        vocab_size=tokenizer.vocab_size,
        tokenizer_hash=tokenizer.hash,
        token_bytes=tokenizer.token_bytes(),
        facts={
            "made_from": made_from,
            "stages": ordered,
            "conversations": {**reader.facts(), "summary": lines},
        },
    )


def _check(reader: ConversationReader, config: SftConfig, folder: Path) -> None:
    """Write the quarantine and check its size; on refusal, keep it in `<output>/data`."""
    reader.write_quarantine(folder)
    try:
        reader.check(config.max_quarantine_share)
    except InputError:
        kept = Path(config.output) / "data"
        fs.make_folder(kept)
        reader.write_quarantine(kept)
        raise


def _shown(reader: GradedReader, field: str, title: str) -> Iterator[tuple[Conversation, float]]:
    """Yield the reader's conversations and grades, with a progress bar over the bytes read."""
    with Progress(title, reader.size / 1e6, "MB") as progress:
        done = 0
        for item in reader.graded(field):
            yield item
            if reader.done != done:
                progress.advance((reader.done - done) / 1e6)
                done = reader.done
        progress.advance((reader.done - done) / 1e6)  # bytes after the last record


class _Writing:
    """Encodes conversations, many at a time, and writes them into the splits."""

    def __init__(self, folder: Path, vocab_size: int, template: ChatTemplate, context: int) -> None:
        self.splits: dict[str, ShardWriter] = {}
        self._folder, self._vocab_size = folder, vocab_size
        self._template, self._context = template, context
        self._waiting: list[tuple[str, Conversation]] = []
        self._left_out: list[dict[str, Any]] = []
        self._reasons: Counter[str] = Counter()
        self._counts: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}

    def add(self, split: str, conversation: Conversation) -> None:
        self._waiting.append((split, conversation))
        if len(self._waiting) == _ENCODED_AT_A_TIME:
            self.flush()

    def flush(self) -> None:
        """Encode and write the waiting conversations, in order."""
        waiting, self._waiting = self._waiting, []
        fitted = fit([c.messages for _, c in waiting], self._template, self._context + 1)
        for (split, conversation), one in zip(waiting, fitted, strict=True):
            if one.reason:
                facts = {"tokens": one.tokens, "messages_dropped": one.dropped}
                self.leave_out(conversation, one.reason, **facts)
            if one.encoded is None:
                continue
            ids, mask = one.encoded.ids, one.encoded.mask
            if split not in self.splits:
                self.splits[split] = ShardWriter(self._folder, split, self._vocab_size, masked=True)
            self.splits[split].add(ids, mask=mask)
            counts = self._counts[split == HELDOUT]
            counts += Counter(conversations=1, tokens=ids.size, trained=int(mask[1:].sum()))

    def leave_out(self, conversation: Conversation, reason: str, **facts: int) -> None:
        """Record that a conversation, or a part of it, is not trained on."""
        self._reasons[reason] += 1
        entry = {"id": conversation.id, "source": conversation.source, "reason": reason, **facts}
        self._left_out.append(entry)

    def write_left_out(self) -> None:
        if self._left_out:
            fs.write_jsonl(self._folder / LEFT_OUT, self._left_out)

    def summary(self) -> list[str]:
        lines = [
            f"{'held out' if held_out else 'to learn from'}: {counts['conversations']:,}"
            f" conversations, {counts['tokens']:,} tokens, {counts['trained']:,} of them trained"
            for held_out, counts in sorted(self._counts.items())
            if counts
        ]
        lines += [f"  {n:,} x {reason} ({LEFT_OUT})" for reason, n in self._reasons.most_common()]
        return lines


@dataclass(frozen=True)
class Fitted:
    """A conversation as ids, or the reason why it has none.

    Attributes:
        encoded: up to its last trained token; None if the conversation is left out.
        tokens: number of tokens of the whole conversation.
        dropped: number of messages left out from its end.
        reason: why it, or a part of it, is left out; "" if it is whole.
    """

    encoded: Encoded | None
    tokens: int
    dropped: int = 0
    reason: str = ""


SHORTENED = "longer than the context: whole turns dropped from its end"
TOO_LONG = "longer than the context, its first answer too"


def fit(
    conversations: Sequence[Sequence[Message]], template: ChatTemplate, longest: int
) -> list[Fitted]:
    """Encode conversations; each loses whole turns until it has at most `longest` tokens."""
    fitted: list[Fitted | None] = [None] * len(conversations)
    whole: dict[int, int] = {}  # tokens of the uncut conversation
    left = {number: list(messages) for number, messages in enumerate(conversations)}
    while left:
        shorter: dict[int, list[Message]] = {}
        encodings = template.encode_each(list(left.values()))
        for (number, messages), encoded in zip(left.items(), encodings, strict=True):
            if isinstance(encoded, str):
                fitted[number] = Fitted(None, 0, reason=encoded)
                continue
            # Tokens that a template puts after the last end token are never trained.
            trained = np.flatnonzero(encoded.mask)
            end = int(trained[-1]) + 1 if trained.size else 0
            tokens = whole.setdefault(number, end)
            dropped = len(conversations[number]) - len(messages)
            if not encoded.mask[1:].any():
                fitted[number] = Fitted(None, tokens, reason="nothing to train on")
            elif end <= longest:
                cut = Encoded(encoded.ids[:end], encoded.mask[:end])
                fitted[number] = Fitted(cut, tokens, dropped, SHORTENED if dropped else "")
            elif kept := _fitting_turns(messages, encoded.mask, longest):
                shorter[number] = kept
            else:
                fitted[number] = Fitted(None, tokens, len(conversations[number]), TOO_LONG)
        left = shorter
    return [one for one in fitted if one is not None]


def _fitting_turns(messages: list[Message], mask: NDArray[np.bool_], longest: int) -> list[Message]:
    """The messages up to the last answer that ends within `longest` tokens; [] if none does.

    Always fewer than before: the ids of a part may differ from those in the whole.
    """
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    ends = np.flatnonzero(mask & ~np.append(mask[1:], False)) + 1
    fit_by_mask = int((ends <= longest).sum())
    fitting = min(fit_by_mask, len(answers) - 1) if ends.size == len(answers) else len(answers) - 1
    return messages[: answers[fitting - 1] + 1] if fitting else []


# --- the curriculum ------------------------------------------------------------------------------


class GradedReader(ConversationReader):
    """Reads conversations with a number from a field of their record."""

    def graded(self, field: str) -> Iterator[tuple[Conversation, float]]:
        """Yield each conversation and its grade, 0 without a field.

        A record whose field holds no number is quarantined.
        """

        def made(
            layout: ModuleType, record: Record, labels: Labels
        ) -> Iterator[tuple[Conversation, float]]:
            grade = _number(record, field) if field else 0.0
            return (
                (conversation, grade)
                for conversation in self._conversations(layout, record, labels)
            )

        return self._read(made)


def _number(record: Record, field: str) -> float:
    value = record.get(field)
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Unusable(f"curriculum: field {field!r} holds no number")
    return number


class Stages:
    """The split of each grade: one per value, or `curriculum_stages` of equal size."""

    def __init__(self, config: SftConfig, reader: GradedReader) -> None:
        self._graded, self._bounds = bool(config.curriculum), None
        self._grades: dict[str, list[float]] = {}  # split -> lowest and highest grade
        if config.curriculum_stages:
            if config.data == ("-",):
                raise ConfigError("curriculum_stages reads the data twice; give files, not -")
            grades = sorted(grade for _, grade in reader.graded(config.curriculum))
            cuts = range(1, config.curriculum_stages)
            share = len(grades) / config.curriculum_stages
            self._bounds = [grades[int(cut * share)] for cut in cuts] if grades else []

    def split(self, grade: float) -> str:
        """The name of a grade's split; names say nothing about the order."""
        if not self._graded:
            name = "train"
        elif self._bounds is None:
            name = f"train-{grade:g}"
        else:
            name = f"train-{bisect.bisect_right(self._bounds, grade) + 1}"
        low_high = self._grades.setdefault(name, [grade, grade])
        low_high[:] = min(low_high[0], grade), max(low_high[1], grade)
        if len(self._grades) > _MOST_STAGES:
            raise ConfigError(
                f"the curriculum's field has more than {_MOST_STAGES} different values; cut them"
                " into stages: --curriculum-stages 3"
            )
        return name

    def entries(self) -> list[dict[str, Any]]:
        """The manifest's entries of the stages, from low to high."""
        ordered = sorted(self._grades.items(), key=lambda item: item[1])
        return [{"split": name, "low": low, "high": high} for name, (low, high) in ordered]


def _fingerprint(
    config: SftConfig, tokenizer: Tokenizer, template: ChatTemplate, context: int
) -> str:
    """A hash of everything that the shards are made from."""
    own_layout = config.layout.endswith(".py")
    return fingerprint.of_json(
        {
            "format": _FORMAT,
            "data": _contents(config.data),
            "heldout": _contents(config.heldout),
            "heldout_share": config.heldout_share,
            "seed": config.loop.seed,
            "layout": fs.sha256(Path(config.layout)) if own_layout else config.layout,
            "fill": list(config.fill),
            "curriculum": [config.curriculum, config.curriculum_stages],
            "template": template.source,
            "tokenizer": tokenizer.hash,
            "context": context,
        }
    )


def _contents(inputs: Sequence[str]) -> list[str]:
    if list(inputs) in ([], ["-"]):
        return list(inputs)
    return [fs.sha256(file) for file in records.survey(inputs).files]
