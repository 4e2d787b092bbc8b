"""`hanllama data rank`: a judge at an endpoint compares answers; what it prefers becomes pairs.

AI feedback (Bai et al. 2022, arXiv:2212.08073; Ziya's). Every two answers to a prompt are compared
twice, each once in the first place: judges prefer a place (Zheng et al. 2023, arXiv:2306.05685),
and a preference that turns with the order is none. What is left is a pair; ties, verdicts that
turn and answers that name no winner are counted and dropped.

The files' own order of the answers is not shown to the judge; where it is people's, the report
says how often the judge agrees with it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from hanllama.base import fs, report
from hanllama.base.card import Card
from hanllama.base.config import Natural, Share, checked, option
from hanllama.base.errors import InputError
from hanllama.base.progress import Progress
from hanllama.base.report import share
from hanllama.feedback.asking import Asker, Request, working
from hanllama.feedback.endpoint import Endpoint, Reply
from hanllama.feedback.options import JudgeConfig
from hanllama.reading import records
from hanllama.talks.conversations.form import Message, user
from hanllama.talks.preferences import Pair, PreferenceReader, Ranked

FIRST, SECOND, TIE = "甲", "乙", "平"
CRITERIA = "是否正确、是否有用、是否切题完整、表达是否清楚；长短本身不算优点"


@checked
class RankConfig:
    """Options of `hanllama data rank`."""

    inputs: tuple[str, ...] = option(
        help="files of prompts with two or more answers: preferences, rankings, what best-of-n"
        " writes as candidates",
        positional=True,
    )
    output: str = option(help="the folder to write")
    endpoint: str = option(help="an OpenAI-compatible address: http://localhost:8000/v1")
    judge: str = option(help="the model to ask there")
    criteria: str = option(CRITERIA, help="what the judge should look at, in words for it")
    most_answers: int = option(
        4, ge=2, help="answers of a prompt that are compared; n of them cost n (n - 1) requests"
    )
    limit: Natural = option(0, help="prompts to take; 0 means all")
    max_quarantine_share: Share = option(0.05, help="share of records that may be unusable")
    force: bool = option(False, help="replace the output, and give up answers made so far")
    ask: JudgeConfig = option(JudgeConfig(), help="how the judge is asked")


@dataclass
class Verdicts:
    """What the judge said, counted."""

    pairs: list[Pair] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    firsts: int = 0  # times the answer in the first place won, of `decided`
    decided: int = 0
    agreed: int = 0  # pairs in the files' own order
    dropped: list[dict[str, Any]] = field(default_factory=list)


PAIR, TIED, TURNED, UNCLEAR = "a pair", "a tie", "turned with the order", "no verdict"


def rank(config: RankConfig) -> Verdicts | None:
    """The command; None where the output is complete already.

    Raises EndpointError, InputError, ResumeError; Interrupted on Ctrl-C and SIGTERM.
    """
    output = Path(config.output)
    with working(config, reads=config.inputs, grows=["limit"]) as work:
        if work is None:
            return None
        reader = PreferenceReader(config.inputs)
        rankings = list(reader.ranked())
        reader.check(config.max_quarantine_share)
        rankings = rankings[: config.limit or None]
        matches = [match for ranking in rankings for match in _matches(ranking, config)]
        endpoint = Endpoint(config.endpoint, config.judge, config.ask)
        verdicts = Verdicts()
        with Asker(endpoint, work.journal, config.ask) as asker:
            finished = _compare(verdicts, matches, config, asker)
        if not verdicts.pairs:
            raise InputError(f"the judge preferred nothing: {records.counted(verdicts.outcomes)}")
        facts = {
            "outcomes": dict(verdicts.outcomes),
            "usage": vars(asker.usage),
            "input": reader.facts(),
        }
        with work.publish(complete=finished, facts=facts) as folder:
            pairs = (pair.record() for pair in verdicts.pairs)
            fs.write_jsonl(folder / "part-00000.jsonl", pairs)
            fs.write_jsonl(folder / "dropped.jsonl", verdicts.dropped)
            reader.write_quarantine(folder)
            card = _card(config, verdicts, asker, finished)
            card.write(folder)
    print(reader.summary())
    print(f"{len(verdicts.pairs):,} pairs in {output}")
    card.print()
    return verdicts


@dataclass(frozen=True)
class _Match:
    """Two answers of a ranking, by place in the files' order."""

    ranking: Ranked
    a: int
    b: int


def _matches(ranking: Ranked, config: RankConfig) -> Iterator[_Match]:
    count = min(len(ranking.answers), config.most_answers)
    for a, b in combinations(range(count), 2):
        yield _Match(ranking, a, b)


def _compare(
    verdicts: Verdicts, matches: Sequence[_Match], config: RankConfig, asker: Asker
) -> bool:
    """Ask about every match in both orders; returns whether the budget sufficed."""

    def requests() -> Iterator[Request]:
        for match in matches:
            answers = match.ranking.answers
            for x, y in ((match.a, match.b), (match.b, match.a)):
                yield question(match.ranking.prompt, answers[x], answers[y], config.criteria)

    with Progress("rank", len(matches), "comparisons") as progress:
        replies = asker.replies(requests())
        for match in matches:
            both = list(itertools.islice(replies, 2))
            if len(both) < 2:  # the budget is used up
                return False
            _judge(verdicts, match, both)
            progress.advance(1, pairs=len(verdicts.pairs))
    return True


def _judge(verdicts: Verdicts, match: _Match, both: Sequence[Reply]) -> None:
    said = [verdict(reply) for reply in both]
    for place in said:
        verdicts.decided += place in (FIRST, SECOND)
        verdicts.firsts += place == FIRST
    if "" in said:
        outcome = UNCLEAR
    elif said == [FIRST, SECOND]:
        outcome, chosen, rejected = PAIR, match.a, match.b
    elif said == [SECOND, FIRST]:
        outcome, chosen, rejected = PAIR, match.b, match.a
    else:
        outcome = TIED if said == [TIE, TIE] else TURNED
    verdicts.outcomes[outcome] += 1
    answers, ranking = match.ranking.answers, match.ranking
    identity = f"{ranking.id}#{match.a + 1}-{match.b + 1}"
    if outcome == PAIR:
        verdicts.agreed += chosen < rejected
        verdicts.pairs.append(
            Pair(ranking.prompt, answers[chosen], answers[rejected], None, identity, ranking.source)
        )
    else:
        words = [reply.refused or reply.text[:500] for reply in both]
        verdicts.dropped.append({"id": identity, "reason": outcome, "verdicts": words})


# --- what the judge is asked, and what it says ---------------------------------------------------

_QUESTION = """请比较同一个问题的两个回答，判断哪一个更好。评判时看：{criteria}。\
回答的先后顺序与好坏无关。

【对话】
{conversation}

【回答甲】
{first}
【回答甲结束】

【回答乙】
{second}
【回答乙结束】

先用一两句话说明理由，然后另起一行，只写下面三种结论之一：
结论：甲
结论：乙
结论：平"""
_ROLES = {"system": "系统", "user": "用户", "assistant": "助手", "tool": "工具"}
_VERDICT = re.compile(r"结论\W{0,6}(?:回答)?\W{0,3}(甲|乙|平)")
_BARE = re.compile(r"\W*(?:回答)?(甲|乙|平)(?:更好|局|手)?\W*")


def question(prompt: Sequence[Message], first: str, second: str, criteria: str) -> Request:
    """What asks the judge to compare two answers."""
    conversation = "\n".join(f"{_ROLES[m['role']]}：{m['content']}" for m in prompt)
    parts = {"conversation": conversation, "first": first, "second": second}
    return Request([user(_QUESTION.format(criteria=criteria, **parts))])


def verdict(reply: Reply) -> str:
    """甲, 乙, 平, or "" where the reply names none. The last one named counts."""
    found = _VERDICT.findall(reply.text)
    if found:
        return str(found[-1])
    bare = _BARE.fullmatch(reply.text.strip())
    return bare[1] if bare else ""


# --- what is left behind -------------------------------------------------------------------------


def _card(config: RankConfig, verdicts: Verdicts, asker: Asker, finished: bool) -> Card:
    pairs = verdicts.pairs
    card = Card("AI feedback", f"judged by {config.judge}")
    card.section("Comparisons")
    card.counts("outcome", verdicts.outcomes, "comparisons")
    card.note(
        f"the answer in the first place won {share(verdicts.firsts, verdicts.decided)} of the"
        " verdicts (50 % is no preference of a place)"
    )
    agreed = share(verdicts.agreed, len(pairs))
    card.note(f"the judge agrees with the files' order in {agreed} of the pairs")
    card.note(asker.usage.words(config.ask))
    if not finished:
        card.note("the budget is used up; a larger cap goes on from here", "warning")
    longer = [len(p.chosen) - len(p.rejected) for p in pairs]
    chart = report.histogram(longer, title="chosen minus rejected", x="characters", y="pairs")
    card.section("Length", chart)
    of_pairs = share(sum(n > 0 for n in longer), len(longer))
    card.note(f"the longer answer was chosen in {of_pairs} of the pairs")
    return card
