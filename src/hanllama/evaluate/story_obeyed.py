"""`hanllama corpus obeyed`: how often chat models obey held-out instructions about stories.

Every model answers the same prompts with the same random streams, and the gold checker
(`stories/tasks.py`) judges each answer. The models are stages of one training, so each is also
compared with the first: the gain prompt by prompt, the distance (KL), and its language (bits per
byte of new stories). A base model has no chat template, so it is not asked; its bits per byte show
the language before.

Intervals are of 95 %: Wilson's for a share, the normal one for a mean difference of pairs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hanllama.base import fs, report
from hanllama.base.card import Card
from hanllama.base.errors import InputError
from hanllama.base.making import making
from hanllama.base.progress import Progress
from hanllama.evaluate import drift
from hanllama.evaluate.story_options import ObeyedConfig
from hanllama.model.answers import Answer, Answerer
from hanllama.model.checkpoint import load_model
from hanllama.model.device import choose_device, choose_dtype
from hanllama.model.llama import Llama
from hanllama.reading.rows import of_file
from hanllama.stories import grammar
from hanllama.stories import tasks as story_tasks
from hanllama.stories.tasks import KINDS, Judgement, Messages, Task
from hanllama.tokenizer.chat import of_folder
from hanllama.tokenizer.load import Tokenizer, load_tokenizer
from hanllama.train.sequences import TokenSequence

_NEW_STORIES = 2**31  # the seed of the stories to measure on: no training uses it
_Z = 1.959964  # of a two-sided interval of 95 %
Interval = tuple[float, float, float]
"""(estimate, lower end, upper end)."""


@dataclass(frozen=True)
class Asked:
    """A prompt and its task."""

    messages: Messages
    task: Task


@dataclass
class Measured:
    """The answers and figures of one model.

    `kl` is the mean over answers of the summed exact KL(model || first model) of the tokens' full
    distributions, in nats; None for the first model and for answers from a file. `bits_per_byte` is
    measured on stories outside any training; None for answers from a file. A base model has nothing
    else.
    """

    name: str
    asked: Sequence[Asked]
    texts: Sequence[str]
    judged: Sequence[Judgement]
    kl: float | None = None
    bits_per_byte: float | None = None

    @property
    def is_base(self) -> bool:
        """Whether this is a base model, which is not asked."""
        return not self.asked

    def share(self, kind: str = "") -> Interval | None:
        """The share of prompts (of one kind) that were obeyed; None without prompts."""
        chosen = [j for a, j in zip(self.asked, self.judged, strict=True) if _is(a.task, kind)]
        return wilson(sum(j.obeyed for j in chosen), len(chosen)) if chosen else None

    def gain(self, first: Measured) -> Interval:
        """The share of prompts obeyed, minus that of `first`."""
        pairs = zip(self.judged, first.judged, strict=True)
        return mean_interval([after.obeyed - before.obeyed for after, before in pairs])


def obeyed(config: ObeyedConfig) -> list[Measured]:
    """The command: ask, judge, print, and write the output folder if one is named.

    Raises InputError for prompts that are no instructions about stories, and when the output exists
    and `force` was not given.
    """
    with making(config.output, force=config.force) if config.output else nullcontext() as made:
        results = _measure(config)
        card = _card(results, config)
        card.print()
        if made:
            with made.publish() as folder:
                for found in _asked(results):
                    fs.write_jsonl(folder / f"answers-{found.name}.jsonl", _records(found))
                figures = [_figures(found, _gain(found, results)) for found in results]
                card.write(folder, figures, "obeyed.json")
            print(f"report: {made.output / 'report.html'}")
    return results


# Measuring ----------------------------------------------------------------------------------


def _measure(config: ObeyedConfig) -> list[Measured]:
    prompts = _prompts(config)
    stories = [story.text for story in grammar.stories(config.stories, _NEW_STORIES)]
    results: list[Measured] = []
    first: Answerer | None = None
    for place, name in zip(config.models, _names(config.models), strict=True):
        if place.endswith(".jsonl"):
            results.append(_from_file(name, Path(place)))
            continue
        tokenizer = load_tokenizer(place)
        if of_folder(tokenizer.folder) is None:
            device = choose_device(config.device)
            base = load_model(place, device=device, dtype=choose_dtype("auto", device))
            bits = _bits_per_byte(base, tokenizer, stories)
            results.append(Measured(name, [], [], [], bits_per_byte=bits))
            continue
        model = Answerer(place, device=config.device)
        answers = _ask(model, name, prompts, config)
        found = _judged(name, prompts, [answer.text for answer in answers])
        if first is not None:
            found.kl = drift.kl_per_answer(model.model, first.model, _sequences(answers))
        found.bits_per_byte = _bits_per_byte(model.model, tokenizer, stories)
        first = first or model
        results.append(found)
    return results


def _bits_per_byte(model: Llama, tokenizer: Tokenizer, stories: Sequence[str]) -> float | None:
    if not stories:
        return None
    documents = tokenizer.encode_documents(stories)
    return drift.bits_per_byte(model, documents, tokenizer.token_bytes())


def _prompts(config: ObeyedConfig) -> list[Asked]:
    if config.prompts:
        return [Asked(messages, task) for messages, task, _ in _read(Path(config.prompts))]
    made = story_tasks.instructions(config.count, config.seed, heldout=True)
    return [Asked(instruction.messages[:-1], instruction.task) for instruction in made]


def _read(path: Path) -> Iterator[tuple[Messages, Task, str]]:
    """(prompt, task, answer or "") of each line.

    Raises InputError for a line that is no instruction about stories.
    """
    found = False
    for row in of_file(path, "instructions"):
        where = f"{path}, line {row.line}"
        try:
            messages = row.value["messages"]
            task = story_tasks.understand(messages)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: no conversation: {row.shown}") from error
        if task is None:
            raise InputError(
                f"{where}: not a story instruction that can be judged: {messages[-1]!r:.80}"
            )
        answered = messages[-1]["role"] == "assistant"
        found = True
        yield (
            messages[:-1] if answered else messages,
            task,
            (messages[-1]["content"] if answered else ""),
        )
    if not found:
        raise InputError(f"{path} holds no conversation")


def _names(places: Sequence[str]) -> list[str]:
    """`runs/x/06-sft/model` -> sft; a second model of the same name gets a number."""
    names: list[str] = []
    for place in places:
        path = Path(place)
        part = path.parent.name if path.name == "model" and path.parent.name else path.stem
        name = re.sub(r"^\d+-", "", part) or part
        same = sum(n == name or n.startswith(f"{name}-") for n in names)
        names.append(f"{name}-{same + 1}" if same else name)
    return names


def _from_file(name: str, path: Path) -> Measured:
    lines = list(_read(path))
    asked = [Asked(messages, task) for messages, task, _ in lines]
    return _judged(name, asked, [answer for _, _, answer in lines])


def _ask(
    model: Answerer, name: str, prompts: Sequence[Asked], config: ObeyedConfig
) -> list[Answer]:
    with Progress(f"answers of {name}", len(prompts), "answers") as progress:
        answers = model(
            [asked.messages for asked in prompts],
            config.sampling(),
            batch=config.batch,
            answered=progress.advance,
        )
    return [answer for (answer,) in answers]


def _judged(name: str, prompts: Sequence[Asked], texts: Sequence[str]) -> Measured:
    judged = [story_tasks.judge(a.task, text) for a, text in zip(prompts, texts, strict=True)]
    return Measured(name, prompts, texts, judged)


def _sequences(answers: Sequence[Answer]) -> list[TokenSequence]:
    """Prompt and answer as ids; only the answer's ids count."""
    found = []
    for answer in answers:
        n_prompt, ids = len(answer.prompt_ids), np.array(answer.prompt_ids + answer.ids)
        found.append(TokenSequence(ids, np.arange(ids.size) >= n_prompt))
    return found


def _is(task: Task, kind: str) -> bool:
    return not kind or task.kind == kind


# Figures ------------------------------------------------------------------------------------


def wilson(successes: int, trials: int) -> Interval:
    """A share and its 95 % score interval (Wilson 1927), which also holds near 0 and 1."""
    share, spread = successes / trials, _Z * _Z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt((share * (1 - share) + spread / 4) / trials)
    return (share, max(0.0, middle - half), min(1.0, middle + half))


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean and its normal interval of 95 %."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return (mean, math.nan, math.nan)
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    half = _Z * math.sqrt(variance / n)
    return (mean, mean - half, mean + half)


# Showing ------------------------------------------------------------------------------------


def _card(results: Sequence[Measured], config: ObeyedConfig) -> Card:
    asked = _asked(results)
    card = Card("Instructions about stories", " -> ".join(found.name for found in results))
    for last in asked[-1:]:
        for number in _chosen(last, config.show):
            card.say(*_chat(last, number))
    card.section("Obeyed")
    rows = _rows(results)
    card.table([list(row.values()) for row in rows], list(rows[0]))
    if asked:
        title = "share obeyed, by stage"
        card.add(report.chart(_curves(asked), title=title, x="stage", y="share"))
    for last in asked[-1:]:
        disobeyed = [n for n, judgement in enumerate(last.judged) if not judgement.obeyed]
        for title, numbers in (
            (f"Chats of {last.name}", _chosen(last, max(config.show, 12))),
            (f"Prompts that {last.name} did not obey", disobeyed),
        ):
            card.section(title, *(report.text("\n".join(_chat(last, n))) for n in numbers))
    return card


def _rows(results: Sequence[Measured]) -> list[dict[str, str]]:
    """One row per model, without columns that are empty for every model."""
    rows = []
    for found in results:
        row = {"model": found.name, "obeyed": "base model: not asked", "prompts": ""}
        if share := found.share():
            row["obeyed"] = "{:.1%} ({:.1%}-{:.1%})".format(*share)
            row["prompts"] = str(len(found.judged))
        for kind in KINDS:
            of_kind = found.share(kind)
            row[kind] = f"{of_kind[0]:.1%}" if of_kind else ""
        gain = _gain(found, results)
        points = "{:+.1f} ({:+.1f} to {:+.1f}) points"
        row["gain"] = points.format(*(100 * value for value in gain)) if gain else ""
        row["KL, nats"] = "" if found.kl is None else f"{found.kl:.2f}"
        row["bits per byte"] = "" if found.bits_per_byte is None else f"{found.bits_per_byte:.4f}"
        rows.append(row)
    kept = [heading for heading in rows[0] if any(row[heading] for row in rows)]
    return [{heading: row[heading] for heading in kept} for row in rows]


def _asked(results: Sequence[Measured]) -> list[Measured]:
    return [found for found in results if not found.is_base]


def _gain(found: Measured, results: Sequence[Measured]) -> Interval | None:
    """The gain over the first chat model; None for that model and for other prompts."""
    first = next(iter(_asked(results)), found)
    return found.gain(first) if found is not first and found.asked is first.asked else None


def _chosen(found: Measured, show: int) -> list[int]:
    """The numbers of the prompts to show: the kinds in turn, obeyed or not."""
    by_kind = [[n for n, a in enumerate(found.asked) if a.task.kind == kind] for kind in KINDS]
    longest = max(len(numbers) for numbers in by_kind)
    turns = [numbers[i] for i in range(longest) for numbers in by_kind if i < len(numbers)]
    return turns[:show]


def _chat(found: Measured, number: int) -> Iterator[str]:
    for message in found.asked[number].messages:
        yield f"{'用户' if message['role'] == 'user' else '模型'}：{message['content']}"
    yield f"模型：{found.texts[number].strip()}"
    judgement = found.judged[number]
    yield "-> obeyed\n" if judgement.obeyed else f"-> not obeyed: {judgement.reason}\n"


def _curves(asked: Sequence[Measured]) -> dict[str, tuple[list[float], list[float]]]:
    """kind -> (stages from 1, shares obeyed)."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for stage, found in enumerate(asked, 1):
        for kind in KINDS:
            if share := found.share(kind):
                stages, shares = curves.setdefault(str(kind), ([], []))
                stages.append(float(stage))
                shares.append(share[0])
    return curves


def _records(found: Measured) -> Iterator[Mapping[str, object]]:
    for asked, text, judgement in zip(found.asked, found.texts, found.judged, strict=True):
        yield {
            "messages": [*asked.messages, {"role": "assistant", "content": text}],
            "category": asked.task.kind,
            "obeyed": judgement.obeyed,
            "reason": judgement.reason,
        }


def _figures(found: Measured, gain: Interval | None) -> Mapping[str, object]:
    """The figures as JSON; `obeyed` and the kinds are null for a model that was not asked."""
    figures: dict[str, object] = {
        "model": found.name,
        "base_model": found.is_base,
        "prompts": len(found.judged),
        "obeyed": found.share(),
        "by_kind": {kind: found.share(kind) for kind in KINDS},
        "kl_nats": found.kl,
        "bits_per_byte": found.bits_per_byte,
    }
    if gain:
        figures["gain"] = gain
    return figures
