"""`hanllama data grade`: how hard each conversation is, as a field for the curriculum of `sft`.

Ziya goes from easy to hard, graded by a model. Three grades:
- `judge`: a model at an endpoint says 1 (a child can) to 5 (an expert thinks);
- `perplexity`: how surprised a local model is by the answers, exp of the mean loss a token;
- `ifd`: instruction-following difficulty (Li et al. 2023, arXiv:2308.12032), the perplexity of the
  answers after their questions over that of the answers by themselves. Near 1 the question helps
  not at all, so the model has it to learn; above 1 question and answer hardly belong together.

The records are written again with the field `grade`; `hanllama sft --curriculum grade` reads it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from hanllama.base import fs, report
from hanllama.base.card import Card
from hanllama.base.config import Count, Share, checked, option
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.progress import Progress
from hanllama.feedback.asking import Asker, Request, Work, working
from hanllama.feedback.endpoint import Endpoint, Reply
from hanllama.feedback.options import JudgeConfig
from hanllama.talks.conversations import Conversation, ConversationReader
from hanllama.talks.conversations.form import user

FIELD = "grade"
Graded = tuple[Conversation, float | None, str]
"""A conversation, its grade (None: it got none), and why it got none."""


@checked
class GradeConfig:
    """Options of `hanllama data grade`."""

    inputs: tuple[str, ...] = option(help="files or folders of conversations", positional=True)
    output: str = option(help="the folder to write")
    by: Literal["judge", "perplexity", "ifd"] = option(
        "ifd", help="a judge at an endpoint, or a local model's perplexity or IFD"
    )
    model: str = option("", help="of perplexity and ifd: the model folder")
    endpoint: str = option("", help="of judge: an OpenAI-compatible address")
    judge: str = option("", help="of judge: the model to ask there")
    template: str = option("", help="chat template for a model folder that carries none")
    batch: Count = option(16, help="conversations a local model reads at a time")
    max_quarantine_share: Share = option(0.05, help="share of records that may be unusable")
    force: bool = option(False, help="replace the output, and give up answers made so far")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    ask: JudgeConfig = option(JudgeConfig(), help="how the judge is asked")

    def __post_init__(self) -> None:
        if self.by == "judge" and not (self.endpoint and self.judge):
            raise ConfigError("by judge needs endpoint and judge")
        if self.by != "judge" and not self.model:
            raise ConfigError(f"by {self.by} needs model, a model folder")


def grade(config: GradeConfig) -> int | None:
    """The command; returns how many were graded, None where the output is complete already.

    Raises EndpointError, InputError, ResumeError; Interrupted on Ctrl-C and SIGTERM.
    """
    output = Path(config.output)
    reads = [*config.inputs, config.model]
    with working(config, reads=reads, grows=["device"]) as work:
        if work is None:
            return None
        reader = ConversationReader(config.inputs)
        items = list(reader)
        reader.check(config.max_quarantine_share)
        if config.by == "judge":
            graded, words = _by_judge(config, work, items)
        else:
            graded, words = list(_by_model(config, work, items)), ""
        grades = [g for _, g, _ in graded if g is not None]
        if not grades:
            raise InputError(f"nothing could be graded: {graded[0][2] if graded else words}")
        complete = len(graded) == len(items)
        with work.publish(complete=complete, facts={"input": reader.facts()}) as folder:
            kept = ({**c.record(), FIELD: round(g, 6)} for c, g, _ in graded if g is not None)
            fs.write_jsonl(folder / "part-00000.jsonl", kept)
            dropped = ({"reason": why, **c.record()} for c, g, why in graded if g is None)
            fs.write_jsonl(folder / "dropped.jsonl", dropped)
            reader.write_quarantine(folder)
            card = _card(config, graded, grades, words)
            card.write(folder)
    print(reader.summary())
    print(f"{len(grades):,} of {len(items):,} graded in {output}")
    card.print()
    return len(grades)


def _card(
    config: GradeConfig, graded: Sequence[Graded], grades: Sequence[float], words: str
) -> Card:
    card = Card("Grades", config.judge or config.model)
    card.section("Grades", report.histogram(grades, title=config.by, x="grade"))
    card.facts({"lowest": min(grades), "median": median(grades), "highest": max(grades)})
    if words:
        card.note(words)
    card.counts("dropped", Counter(why for _, _, why in graded if why), "conversations")
    ordered = sorted(((c, g) for c, g, _ in graded if g is not None), key=lambda item: item[1])
    card.section("Both ends")
    for name, items in (("easiest", ordered[:4]), ("hardest", ordered[-4:])):
        for c, g in items:
            talk = "\n".join(f"{m['role']}: {m['content'][:300]}" for m in c.messages)
            card.add(report.text(talk, title=f"{name}, {g:.4g}"))
    return card


# --- a judge -------------------------------------------------------------------------------------

_QUESTION = """给下面的任务评定难度，从1到5：
1：小学生就能完成，几乎不需要思考
2：需要一点常识或简单的组织
3：需要专门的知识或几步推理
4：需要较深的知识，或较长的推理与写作
5：专家也要认真思考
只看完成任务有多难，不看回答写得好不好。只写一个数字。

【任务】
{conversation}
【任务结束】

难度："""
_GRADE = re.compile(r"(?<![\d.])([1-5])(?![\d.])")


def _by_judge(
    config: GradeConfig, work: Work, items: Sequence[Conversation]
) -> tuple[list[Graded], str]:
    endpoint = Endpoint(config.endpoint, config.judge, config.ask)
    graded: list[Graded] = []
    with (
        Asker(endpoint, work.journal, config.ask) as asker,
        Progress("grade", len(items), "conversations") as progress,
    ):
        replies = asker.replies(_question(item) for item in items)
        for item, reply in zip(items, replies, strict=False):  # fewer where the budget ends
            value = read_grade(reply)
            why = "" if value else reply.refused or f"no grade in the answer: {reply.text[:80]}"
            graded.append((item, value, why))
            progress.advance(1)
    words = asker.usage.words(config.ask)
    if asker.capped:
        words = f"the budget is used up; a larger cap goes on from here; {words}"
    return graded, words


def _question(item: Conversation) -> Request:
    shown = "\n".join(m["content"] for m in item.messages if m["role"] != "assistant")
    return Request([user(_QUESTION.format(conversation=shown))])


def read_grade(reply: Reply) -> float | None:
    """1.0 to 5.0: the first such digit that stands by itself; None where there is none."""
    found = _GRADE.search(reply.text)
    return float(found[1]) if found else None


# --- a local model -------------------------------------------------------------------------------


def _by_model(config: GradeConfig, work: Work, items: Sequence[Conversation]) -> Iterator[Graded]:
    measure: Measure | None = None

    def grades(part: Sequence[Conversation]) -> list[tuple[float | None, str]]:
        nonlocal measure
        measure = measure or _measure(config)
        return measure(part)

    with Progress("grade", len(items), "conversations") as progress:
        for begin in range(0, len(items), config.batch):
            part = items[begin : begin + config.batch]
            what = [c.messages for c in part]
            found = work.journal.computed(what, partial(grades, part))
            yield from ((item, *result) for item, result in zip(part, found, strict=True))
            progress.advance(len(part))


Measure = Callable[[Sequence[Conversation]], list[tuple[float | None, str]]]


def _measure(config: GradeConfig) -> Measure:
    """What gives each conversation of a batch its grade, or None and the reason."""
    import torch

    from hanllama.model.checkpoint import load_model
    from hanllama.model.device import choose_device, fast_products
    from hanllama.tokenizer.chat import ChatTemplate, Encoded
    from hanllama.tokenizer.load import load_tokenizer
    from hanllama.train.sequences import TokenSequence, pack_sequences, sequence_log_probs

    tokenizer = load_tokenizer(config.model)
    template = ChatTemplate(tokenizer, config.template)
    device = choose_device(config.device)
    model = load_model(config.model, device=device)
    context = model.config.max_position_embeddings
    before = [tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id]

    def mean_losses(groups: Sequence[Sequence[TokenSequence]]) -> list[float]:
        """The mean loss a token that counts, nats, over the sequences of each group."""
        flat = [sequence for group in groups for sequence in group]
        batch = pack_sequences(flat, pad=0, device=device)
        with torch.inference_mode(), fast_products(device):
            sums_S, counts_S = sequence_log_probs(model, batch)
        sums, counts, losses, at = sums_S.tolist(), counts_S.tolist(), [], 0
        for group in groups:
            here = slice(at, at + len(group))
            losses.append(-sum(sums[here]) / sum(counts[here]))
            at += len(group)
        return losses

    def alone(encoded: Encoded) -> list[TokenSequence]:
        """Each answer by itself, as the beginning of a text."""
        places = np.flatnonzero(encoded.mask)
        spans = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        found = []
        for span in spans:
            ids = np.array([*before, *encoded.ids[span]])
            found.append(TokenSequence(ids, np.arange(ids.size) > 0))
        return found

    def measure(part: Sequence[Conversation]) -> list[tuple[float | None, str]]:
        chosen: list[Encoded] = []
        reasons = []
        for encoded in template.encode_each([c.messages for c in part]):
            if isinstance(encoded, str):
                reasons.append(encoded)
            elif encoded.ids.size > context:
                reasons.append(f"longer than the model's context of {context:,} tokens")
            else:
                reasons.append("")
                chosen.append(encoded)
        values: list[float] = []
        if chosen:
            given = mean_losses([[TokenSequence(e.ids, e.mask)] for e in chosen])
            values = [math.exp(loss) for loss in given]
            if config.by == "ifd":
                by_itself = mean_losses([alone(e) for e in chosen])
                values = [math.exp(a - b) for a, b in zip(given, by_itself, strict=True)]
        numbers = iter(values)
        return [(None, why) if why else (next(numbers), "") for why in reasons]

    return measure
