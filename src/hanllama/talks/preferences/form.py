"""The forms of preferences here: pairs, single judgements, rankings.

A layout in `layouts/` turns a record into one of the three or raises `Unusable`. `refusal` checks
them for all layouts: empty answers, equal answers and prompts that cannot be answered teach nothing
or the wrong thing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hanllama.talks.conversations.form import (
    Message,
    Record,
    Unusable,
    assistant,
    labels,
    text,
    turn,
    turns,
    user,
)
from hanllama.talks.conversations.reader import problem


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, a better and a worse answer.

    Attributes:
        prompt: messages that an answer of the assistant can follow.
        chosen: the better answer's text.
        rejected: the worse one's.
        margin: how much better it is, in the data's units; None if the data does not say.
        id: the record's id, else `folder/file:line`.
        source: the record's origin.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    margin: float | None = None
    id: str = ""
    source: str = ""

    def record(self) -> dict[str, Any]:
        """The pair as a record, one line of JSON lines; TRL reads it too."""
        sides = {"chosen": [assistant(self.chosen)], "rejected": [assistant(self.rejected)]}
        margin = {} if self.margin is None else {"margin": self.margin}
        return {"prompt": self.prompt, **sides, **margin, **labels(self)}


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt, an answer, and whether it is good (for KTO)."""

    prompt: list[Message]
    answer: str
    good: bool
    id: str = ""
    source: str = ""

    def record(self) -> dict[str, Any]:
        """The judgement as a record, in TRL's unpaired form with messages."""
        answer = {"completion": [assistant(self.answer)], "label": self.good}
        return {"prompt": self.prompt, **answer, **labels(self)}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt and its answers, the best first."""

    prompt: list[Message]
    answers: list[str]
    id: str = ""
    source: str = ""

    def record(self) -> dict[str, Any]:
        """The ranking as a record."""
        return {"prompt": self.prompt, "answers": self.answers, **labels(self)}


Preference = Pair | Judged | Ranked


# --- one form from another ----------------------------------------------------------------------


def pairs(item: Preference) -> list[Pair]:
    """The pairs of an item: a ranking of n answers has n (n - 1) / 2 (InstructGPT, section 3.5)."""
    if isinstance(item, Pair):
        return [item]
    if isinstance(item, Judged):
        raise Unusable("a single judged answer makes no pair (kto learns from it)")
    made = []
    for better, chosen in enumerate(item.answers):
        for worse in range(better + 1, len(item.answers)):
            pair = Pair(item.prompt, chosen, item.answers[worse], None, item.id, item.source)
            several = len(item.answers) > 2
            made.append(
                replace(pair, id=f"{item.id}#{better + 1}-{worse + 1}") if several else pair
            )
    return made


def judged(item: Preference) -> list[Judged]:
    """A pair's better answer as good and its worse one as bad; a ranking's first and last."""
    if isinstance(item, Judged):
        return [item]
    ranking = ranked(item)
    ends = ((ranking.answers[0], True), (ranking.answers[-1], False))
    return [Judged(item.prompt, answer, good, item.id, item.source) for answer, good in ends]


def ranked(item: Preference) -> Ranked:
    """The ranking of an item; a pair is a ranking of two."""
    if isinstance(item, Ranked):
        return item
    if isinstance(item, Judged):
        raise Unusable("a single judged answer makes no ranking (kto learns from it)")
    return Ranked(item.prompt, [item.chosen, item.rejected], item.id, item.source)


def mapped(item: Preference, change: Callable[[str], str]) -> Preference:
    """The item with every text changed."""
    prompt = [{**message, "content": change(message["content"])} for message in item.prompt]
    if isinstance(item, Pair):
        chosen, rejected = change(item.chosen), change(item.rejected)
        return replace(item, prompt=prompt, chosen=chosen, rejected=rejected)
    if isinstance(item, Judged):
        return replace(item, prompt=prompt, answer=change(item.answer))
    return replace(item, prompt=prompt, answers=[change(answer) for answer in item.answers])


# --- the check -----------------------------------------------------------------------------------


def refusal(item: Preference) -> str | None:
    """Why an item cannot be learnt from; None if it can."""
    if isinstance(item, Pair):
        sides = {"chosen": item.chosen, "rejected": item.rejected}
        for name, answer in sides.items():
            if not answer.strip():
                return f"the {name} answer is empty"
        if item.chosen.strip() == item.rejected.strip():
            return "the two answers are equal"
        answers = list(sides.values())
    elif isinstance(item, Judged):
        answers = [item.answer]
        if not item.answer.strip():
            return "the answer is empty"
    else:
        answers = item.answers
        if len(answers) < 2:
            return "a ranking of fewer than two answers"
        if not all(answer.strip() for answer in answers):
            return "an empty answer in a ranking"
        if len({answer.strip() for answer in answers}) < len(answers):
            return "equal answers in a ranking"
    for answer in answers:
        if reason := problem([*item.prompt, assistant(answer)]):
            return reason
    return None


# --- for layouts ---------------------------------------------------------------------------------


def answer(value: Any, field: str) -> str:
    """An answer's text: a text, a turn, or a list of one turn."""
    value = read_turns(value)
    if isinstance(value, list):
        if len(value) != 1:
            raise Unusable(f"{field} is not one message of the assistant")
        value = value[0]
    if isinstance(value, Mapping):
        message = turn(value)
        if message["role"] != "assistant":
            raise Unusable(f"{field} is a message of the {message['role']}")
        value = message["content"]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable(f"{field} is not text")
    return value


def pair(prompt: list[Message], record: Record) -> Pair:
    """A pair from a prompt and a record's two sides and margin."""
    sides = answer(record["chosen"], "chosen"), answer(record["rejected"], "rejected")
    return Pair(prompt, *sides, margin=margin(record))


def asked(record: Record) -> list[Message]:
    """The messages of `prompt`, which may be one text."""
    value = read_turns(record.get("prompt"))
    return turns(value) if isinstance(value, list) else [user(text(record, "prompt"))]


def read_turns(value: Any) -> Any:
    """A field's value; if it is the JSON of a list of turns, as in CSV, that list.

    A text may begin with a bracket without being JSON.
    """
    if isinstance(value, str) and re.match(r"\s*\[\s*\{", value):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        is_turns = all(isinstance(v, dict) and {"role", "from"} & v.keys() for v in found)
        return found if is_turns else value
    return value


def split_last(messages: Sequence[Message], field: str) -> tuple[list[Message], str]:
    """Split a conversation into its prompt and the assistant's last answer."""
    if not messages or messages[-1]["role"] != "assistant":
        raise Unusable(f"{field} does not end with the assistant")
    return list(messages[:-1]), answer(messages[-1], field)


def from_conversations(chosen: Sequence[Message], rejected: Sequence[Message]) -> Pair:
    """A pair of whole conversations that are the same up to the last answer."""
    prompt, better = split_last(chosen, "chosen")
    other, worse = split_last(rejected, "rejected")
    if prompt != other:
        raise Unusable("the two conversations part before the last answer")
    return Pair(prompt, better, worse)


_SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))


def margin(record: Record) -> float | None:
    """`margin`, or the difference of two scores; None if the record has neither.

    Raises Unusable when the worse answer has the higher score.
    """
    value = _number(record, "margin")
    for better, worse in _SCORES:
        a, b = _number(record, better), _number(record, worse)
        if value is None and a is not None and b is not None:
            value = a - b
    if value is not None and value < 0:
        raise Unusable("the margin is negative: the rejected answer is scored above the chosen")
    return value


def _number(record: Record, field: str) -> float | None:
    value = record.get(field)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise Unusable(f"field {field!r} is not a number")
    return number
