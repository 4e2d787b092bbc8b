"""`hanllama data best-of-n`: of several answers to a prompt the best, as data for SFT.

Rejection-sampling tuning (Touvron et al. 2023, section 3.2.3; Ziya's HFFT on answers that people
ranked): the answers come from a model, n to a prompt, or are those that the files hold; the best is
the one with the highest score of rule rewards and a reward model, or where nothing scores them the
first in the files' own order, which is people's. Best and worst also make a preference pair. Of
answers at several temperatures these are mostly a careful and a careless one, and `dpo` learns from
few of them to be careful; of answers that were all drawn alike it needs many more.

An answer that `max_new_tokens` cut off would teach to stop nowhere: whatever it scores, it is never
the best and never chosen, but a pair may reject it.

    OUTPUT/sft/part-00000.jsonl         {"messages"}: prompt and best answer
    OUTPUT/pairs/part-00000.jsonl       {"prompt", "chosen", "rejected", "margin"}
    OUTPUT/candidates/part-00000.jsonl  {"prompt", "answers", "scores"}: two or more, best first,
                                        for `data rank`
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from hanllama.base import fs, report
from hanllama.base.card import Card
from hanllama.base.config import Count, Natural, NonNegative, Share, checked, option
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.progress import Progress
from hanllama.feedback.asking import Work, working
from hanllama.model.sampling import Sampling
from hanllama.talks.conversations.form import Conversation, Message, assistant
from hanllama.talks.preferences import Pair, PreferenceReader, Ranked

if TYPE_CHECKING:
    from hanllama.model.answers import Answerer
    from hanllama.talks.conversations.reader import LayoutReader
    from hanllama.train.rl.data import Prompt
    from hanllama.train.rl.scoring import WeightedRule

BLOCK = 64  # prompts answered and journaled together


@checked
class BestOfNConfig:
    """Options of `hanllama data best-of-n`."""

    inputs: tuple[str, ...] = option(
        help="files of prompts (conversations and preferences serve); without --model of answers,"
        " the best first",
        positional=True,
    )
    output: str = option(help="the folder to write")
    model: str = option("", help="the model that answers; without it the files' answers")
    n: int = option(4, help="answers to a prompt")
    rules: tuple[str | dict[str, Any], ...] = option(
        (), help="rule rewards that score, as 'length: {weight: 0.5, maximum: 100}'"
    )
    reward_model: str = option("", help="a reward model's folder (hanllama reward) that scores")
    reward_weight: float = option(1.0, help="what the reward model's score counts for")
    least_gain: NonNegative = option(
        0.0, help="a pair is made where best and worst differ by more than this"
    )
    pairs: Count = option(
        1, help="pairs of a prompt at most: the best with the worst, the next with the next worst"
    )
    limit: Natural = option(0, help="prompts to take; 0 means all")
    max_new_tokens: int = option(256, help="tokens of an answer at most")
    temperature: tuple[float, ...] = option(
        (1.0,), help="above 1 wilder, below 1 tamer; several: as many answers at each"
    )
    top_k: int = option(0, help="choose among this many likeliest tokens; 0: among all")
    top_p: float = option(1.0, help="choose among the likeliest tokens with this share; 1: all")
    seed: int = option(0, help="the same seed gives the same answers")
    batch: Count = option(32, help="answers written at a time; more use more memory")
    max_quarantine_share: Share = option(0.05, help="share of records that may be unusable")
    force: bool = option(False, help="replace the output, and give up answers made so far")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto", help="precision of the weights"
    )

    def __post_init__(self) -> None:
        if self.model and not (self.rules or self.reward_model):
            raise ConfigError(
                "nothing scores the model's answers: give rules, reward_model or both"
            )
        if self.model and self.n < 2:
            raise ConfigError(f"n must be at least 2, not {self.n}")
        if not self.temperature or self.n % len(self.temperature):
            raise ConfigError(
                f"n ({self.n}) answers cannot be shared out over {len(self.temperature)}"
                " temperatures evenly"
            )
        self.samplings()

    def samplings(self) -> list[Sampling]:
        """How the model answers, at each temperature; checked."""
        return [
            Sampling(
                max_new_tokens=self.max_new_tokens,
                temperature=temperature,
                top_k=self.top_k,
                top_p=self.top_p,
            )
            for temperature in self.temperature
        ]


@dataclass(frozen=True)
class Candidate:
    """An answer and whether its writer ended it."""

    text: str
    complete: bool = True


@dataclass(frozen=True)
class Contest:
    """A prompt with its answers, the best first, and their scores (empty: the files' order).

    Attributes:
        ended: how many of the answers were not cut off; those come first.
    """

    prompt: Sequence[Message]
    id: str
    source: str
    answers: list[str]
    scores: list[float]
    ended: int

    def best(self) -> Conversation:
        """Prompt and best answer."""
        return Conversation([*self.prompt, assistant(self.answers[0])], self.id, self.source)

    def pairs(self, most: int, least_gain: float) -> Iterator[Pair]:
        """The best with the worst, the next with the next worst and so on, `most` of them, while
        they differ by more than `least_gain`."""
        for better in range(min(most, len(self.answers) // 2, self.ended)):
            worse = len(self.answers) - 1 - better
            margin = self.scores[better] - self.scores[worse] if self.scores else None
            if margin is not None and margin <= least_gain:
                continue
            prompt = [dict(m) for m in self.prompt]
            chosen, rejected = self.answers[better], self.answers[worse]
            yield Pair(prompt, chosen, rejected, margin, self.id, self.source)

    def record(self) -> dict[str, Any]:
        """The answers that were not cut off, in the layout of rankings."""
        answers, scores = self.answers[: self.ended], self.scores[: self.ended]
        ranked = Ranked([dict(m) for m in self.prompt], answers, self.id, self.source)
        return {**ranked.record(), **({"scores": scores} if scores else {})}


def best_of_n(config: BestOfNConfig) -> list[Contest] | None:
    """The command; None where the output is complete already.

    Raises InputError when too much of the input cannot be used, ConfigError for a rule that does
    not exist; Interrupted on Ctrl-C and SIGTERM.
    """
    output = Path(config.output)
    rules = _rules(config)
    reads = [*config.inputs, config.model, config.reward_model, *_files_of(rules)]
    grows = ["limit", "batch"]
    with working(config, reads=reads, grows=grows) as work:
        if work is None:
            return None
        scorer = _scorer(config, rules)
        reader, contests, lost = (
            _sampled(config, work, scorer) if config.model else _given(config, scorer)
        )
        if not contests:
            raise InputError(f"nothing is left of {len(lost):,} prompts; {lost[0]['reason']}")
        with work.publish(complete=True, facts={"input": reader.facts()}) as folder:
            pairs = _write(folder, config, contests)
            fs.write_jsonl(folder / "dropped.jsonl", lost)
            reader.write_quarantine(folder)
            card = _card(config, contests, lost)
            card.write(folder)
    print(reader.summary())
    print(f"{len(contests):,} best answers and {pairs:,} pairs in {output}")
    card.print()
    return contests


# --- where the answers come from -----------------------------------------------------------------

Scorer = Callable[["Prompt", Sequence[Candidate]], list[float] | str]
"""The scores of a prompt's answers, or why they cannot be scored."""

CUT = "every answer was cut off: raise --max-new-tokens"
NO_ANSWER = "no answer with text, or the prompt fills the model's context"
TOO_LONG = "longer than the reward model's context"
Found = tuple["LayoutReader", list[Contest], list[dict[str, str]]]
"""The reader, the contests, and what was dropped: id and reason."""


def _given(config: BestOfNConfig, scorer: Scorer | None) -> Found:
    """The files' own answers, in their order or scored anew."""
    from hanllama.train.rl.data import Prompt

    reader = PreferenceReader(config.inputs)
    contests: list[Contest] = []
    lost = []
    with Progress("score" if scorer else "read", reader.size / 1e6, "MB") as progress:
        done = 0
        for ranking in reader.ranked():
            if config.limit and len(contests) == config.limit:
                break
            prompt = Prompt(ranking.prompt, "", ranking.id)
            candidates = [Candidate(text) for text in ranking.answers]
            scores = scorer(prompt, candidates) if scorer else []
            if isinstance(scores, str):
                lost.append({"id": ranking.id, "reason": scores})
            else:
                contests.append(_ordered(prompt, ranking.source, candidates, scores))
            progress.advance((reader.done - done) / 1e6)
            done = reader.done
        progress.advance((reader.done - done) / 1e6)  # the last file ends after its last record
    reader.check(config.max_quarantine_share)
    return reader, contests, lost


def _sampled(config: BestOfNConfig, work: Work, scorer: Scorer | None) -> Found:
    """n answers of the model to each prompt; what a stopped run answered is in the journal."""
    from hanllama.model.answers import Answerer
    from hanllama.train.rl.data import PromptReader

    assert scorer is not None
    reader = PromptReader(config.inputs)
    prompts = list({json.dumps(p.messages): p for p in reader}.values())[: config.limit or None]
    reader.check(config.max_quarantine_share)
    answerer: Answerer | None = None

    def answered(block: Sequence[Prompt], seed: int) -> list[list[tuple[str, bool]] | str]:
        """The answers to each prompt, or why it cannot be asked."""
        nonlocal answerer
        answerer = answerer or Answerer(config.model, device=config.device, dtype=config.dtype)
        reasons = [_unaskable(answerer, p) for p in block]
        asked = [p.messages for p, why in zip(block, reasons, strict=True) if not why]
        samplings = config.samplings()
        at_each = [
            answerer(
                asked,
                replace(sampling, seed=seed + i),
                samples=config.n // len(samplings),
                batch=config.batch,
            )
            for i, sampling in enumerate(samplings)
        ]
        found = map(itertools.chain.from_iterable, zip(*at_each, strict=True))
        return [why or [(a.text, a.complete) for a in next(found)] for why in reasons]

    contests: list[Contest] = []
    lost = []
    total = len(prompts) * config.n
    with Progress("best-of-n", total, "answers") as progress:
        for begin in range(0, len(prompts), BLOCK):
            block = prompts[begin : begin + BLOCK]
            seed = _seed(config.seed, begin)
            what = [seed, [list(p.messages) for p in block]]
            said = work.journal.computed(what, partial(answered, block, seed))
            for prompt, answers in zip(block, said, strict=True):
                progress.advance(config.n)
                scores: list[float] | str
                if isinstance(answers, str):
                    candidates, scores = [], answers
                else:
                    candidates = _different([Candidate(*a) for a in answers])
                    if not candidates:
                        scores = NO_ANSWER
                    elif not any(c.complete for c in candidates):
                        scores = CUT
                    else:
                        scores = scorer(prompt, candidates)
                if isinstance(scores, str):
                    lost.append({"id": prompt.id, "reason": scores})
                else:
                    contests.append(_ordered(prompt, config.model, candidates, scores))
    return reader, contests, lost


def _unaskable(answerer: Answerer, prompt: Prompt) -> str:
    """Why a prompt cannot be asked: the template refuses it, it fills the context. Else empty."""
    try:
        ids = answerer.template.prompt(prompt.messages)
    except InputError as error:
        return str(error)
    return "" if len(ids) < answerer.model.config.max_position_embeddings else NO_ANSWER


def _different(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those with a text, equal ones once: the one that was ended, if one was."""
    found: dict[str, Candidate] = {}
    for c in candidates:
        text = c.text.strip()
        if text and not (text in found and found[text].complete):
            found[text] = c
    return list(found.values())


def _seed(seed: int, begin: int) -> int:
    # Each block draws from streams 0, 1, …: another seed keeps two blocks apart.
    return int.from_bytes(hashlib.sha256(f"best-of-n {seed} {begin}".encode()).digest()[:6])


def _ordered(
    prompt: Prompt, source: str, candidates: Sequence[Candidate], scores: Sequence[float]
) -> Contest:
    """The best first, of equal ones the earlier, behind them those that were cut off; without
    scores as they stand."""
    order = list(range(len(candidates)))
    if scores:
        order.sort(key=lambda i: (not candidates[i].complete, -scores[i]))
    return Contest(
        prompt.messages,
        prompt.id,
        source,
        answers=[candidates[i].text for i in order],
        scores=[float(scores[i]) for i in order] if scores else [],
        ended=sum(c.complete for c in candidates),
    )


# --- what they are worth -------------------------------------------------------------------------


def _scorer(config: BestOfNConfig, rules: Sequence[WeightedRule]) -> Scorer | None:
    """What scores the answers of one prompt; None where nothing was asked for."""
    if not (rules or config.reward_model):
        return None
    from hanllama.train.rl.rewards import Answer

    of_model = _model_scorer(config) if config.reward_model else None

    def score(prompt: Prompt, candidates: Sequence[Candidate]) -> list[float] | str:
        totals = [0.0] * len(candidates)
        for rule in rules:
            if rule.needs_reference and not prompt.reference:
                raise InputError(f"rule {rule.title} needs the right answer; {prompt.id} has none")
            for i, c in enumerate(candidates):
                answer = Answer(c.text, prompt.messages, prompt.reference, c.complete)
                totals[i] += rule.weight * rule.reward(answer)
        if of_model:
            values = of_model(prompt, candidates)
            if isinstance(values, str):
                return values
            for i, value in enumerate(values):
                totals[i] += config.reward_weight * value
        return totals

    return score


def _rules(config: BestOfNConfig) -> list[WeightedRule]:
    if not config.rules:
        return []  # and torch need not be imported
    from hanllama.train.rl.scoring import build_rules

    return build_rules(config.rules, "rules")


def _files_of(rules: Sequence[WeightedRule]) -> list[str]:
    """The user's own files that the rules read: code and word lists (a rule of the package stands
    under its bare name, and where that is installed is nothing to remember)."""
    files = [item for rule in rules for item in rule.files.items() if item[0] != rule.title]
    return sorted({str(path) for _, path in files})


def _model_scorer(config: BestOfNConfig) -> Scorer:
    """The scores of a reward model, which reads answers through its own template.

    A score is read where training reads it, at the end token of the answer (`last_answer`).
    """
    import torch

    from hanllama.model.device import choose_device, fast_products
    from hanllama.model.reward import load_reward_model, padding_id
    from hanllama.tokenizer.chat import ChatTemplate
    from hanllama.tokenizer.load import load_tokenizer
    from hanllama.train.preferences.data import last_answer
    from hanllama.train.sequences import last_hidden, pack_sequences

    device = choose_device(config.device)
    model = load_reward_model(config.reward_model).to(device).eval()
    tokenizer = load_tokenizer(config.reward_model)
    template = ChatTemplate(tokenizer)
    pad = padding_id(tokenizer, template.end_ids)
    context = model.config.max_position_embeddings

    def score(prompt: Prompt, candidates: Sequence[Candidate]) -> list[float] | str:
        talks = [[*prompt.messages, assistant(c.text)] for c in candidates]
        sequences = []
        for encoded in template.encode_each(talks):
            if isinstance(encoded, str):
                return encoded
            sequences.append(last_answer(encoded))
        if max(s.ids.size for s in sequences) > context:
            return TOO_LONG
        batch = pack_sequences(sequences, pad, device)
        with torch.inference_mode(), fast_products(device):
            scores_S = model.scores(last_hidden(model, batch))
        return [float(s) for s in scores_S]

    return score


# --- what is left behind -------------------------------------------------------------------------


def _write(folder: Path, config: BestOfNConfig, contests: Sequence[Contest]) -> int:
    """The three parts; returns how many pairs there are."""
    pairs = [p.record() for c in contests for p in c.pairs(config.pairs, config.least_gain)]
    for name, records in (
        ("sft", (c.best().record() for c in contests)),
        ("pairs", pairs),
        ("candidates", (c.record() for c in contests if c.ended > 1)),
    ):
        fs.write_jsonl(folder / name / "part-00000.jsonl", records)
    return len(pairs)


def _card(
    config: BestOfNConfig, contests: Sequence[Contest], lost: Sequence[Mapping[str, str]]
) -> Card:
    card = Card("Best of n", config.model or "given answers")
    card.section("Scores")
    scored = [c for c in contests if c.scores]
    everything, best = [s for c in scored for s in c.scores], [c.scores[0] for c in scored]
    if scored:
        card.note(f"mean score {fmean(everything):.4g}, of the best {fmean(best):.4g}")
        equal = sum(len(set(c.scores)) == 1 for c in scored)
        card.note(f"{equal:,} of {len(scored):,} prompts have answers of equal score alone")
    card.note(f"{fmean(len(c.answers) for c in contests):.3g} different answers a prompt")
    if cut := sum(len(c.answers) - c.ended for c in contests):
        card.note(f"{cut:,} answers were cut off by max_new_tokens, and only serve to be rejected")
    if single := sum(c.ended == 1 for c in contests):
        card.note(f"{single:,} prompts have one answer that ended: no candidate for a ranking")
    card.counts("dropped", Counter(entry["reason"] for entry in lost), "prompts")
    if scored:
        card.add(report.histogram(everything, title="all answers", x="score"))
        card.add(report.histogram(best, title="the best", x="score"))
    shown = contests[:: max(len(contests) // 8, 1)][:8]
    card.section("Best and worst")
    for c in shown:
        card.add(report.text(f"{c.prompt[-1]['content']}\n\n{c.answers[0]}\n\n— {c.answers[-1]}"))
    return card
