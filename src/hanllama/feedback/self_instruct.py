"""`hanllama data self-instruct`: a teacher writes new tasks after the pattern of seed tasks.

Self-Instruct (Wang et al. 2022, arXiv:2212.10560) in the form of Stanford Alpaca (Taori et al.
2023): a request shows a few tasks and asks for several new ones, instruction, input and answer in
one go; what comes back is taken apart, filtered, and dropped where its instruction is too similar
(ROUGE-L above 0.7) to any that was kept before, seeds included.

A request is a function of the seed, its number, and the tasks kept LAG requests earlier. So the
result depends neither on how many requests are under way nor on which answer comes first, and a
run that was stopped goes on to the same tasks: every answer is in the journal.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from hanllama.base import fs, report
from hanllama.base.card import Card
from hanllama.base.config import Count, Natural, checked, option
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.progress import Progress
from hanllama.feedback import task_filters
from hanllama.feedback.asking import WINDOW, Asker, Request, Work, working
from hanllama.feedback.endpoint import Endpoint, Reply
from hanllama.feedback.options import AskConfig
from hanllama.reading import records
from hanllama.reading.rows import of_file
from hanllama.talks.conversations.form import Conversation, assistant, user
from hanllama.text.similarity import Kept, symbols_of

LAG = WINDOW
SAMPLES = 12  # tasks on the page
SEEDS = Path(__file__).parent / "seed_tasks.jsonl"
FEWEST_KEPT = 0.02  # of the tasks of the last PATIENCE requests; below, the teacher is exhausted
PATIENCE = 50


@checked
class SelfInstructConfig:
    """Options of `hanllama data self-instruct`."""

    output: str = option(help="the folder to write")
    endpoint: str = option(help="an OpenAI-compatible address: http://localhost:8000/v1")
    teacher: str = option(help="the model to ask there")
    count: Count = option(1000, help="tasks to keep; a larger number goes on from a smaller one")
    seeds: str = option("", help="seed tasks of your own: JSON lines; without it the 103 shipped")
    topic: str = option("", help="what the tasks should be about, in words for the teacher")
    tasks_per_request: Count = option(8, help="new tasks that one request asks for")
    seeds_per_request: Count = option(3, help="seed tasks that a request shows")
    machine_per_request: Natural = option(1, help="earlier tasks that it shows, where there are")
    max_similarity: float = option(0.7, gt=0, le=1, help="ROUGE-L above which a task is a copy")
    seed: int = option(0, help="which tasks are shown when")
    licence: str = option("", help="what the records state as their licence: the teacher's terms")
    force: bool = option(False, help="replace the output, and give up answers made so far")
    ask: AskConfig = option(AskConfig(), help="how the teacher is asked")


@dataclass(frozen=True)
class Task:
    """An instruction, what it is about, the answer."""

    instruction: str
    input: str
    output: str

    def conversation(self, **labels: str) -> Conversation:
        """As a question and an answer; the input follows the instruction on a line of its own."""
        question = f"{self.instruction}\n{self.input}" if self.input else self.instruction
        return Conversation([user(question), assistant(self.output)], **labels)


@dataclass
class Made:
    """What came of the work so far."""

    kept: list[Task] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)  # of each kept one, to the nearest before
    dropped: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)  # kept after each request
    seen: list[int] = field(default_factory=list)  # tasks in the reply to each request
    ended: str = ""  # why there are fewer than asked for


def self_instruct(config: SelfInstructConfig) -> Made | None:
    """The command; None where the output is complete already.

    Raises EndpointError, ResumeError, InputError; Interrupted on Ctrl-C and SIGTERM.
    """
    seeds = read_seeds(Path(config.seeds) if config.seeds else SEEDS)
    if config.seeds_per_request > len(seeds):
        raise ConfigError(f"seeds_per_request {config.seeds_per_request} of {len(seeds)} seeds")
    with working(config, reads=[config.seeds], grows=["count"]) as work:
        if work is None:
            return None
        endpoint = Endpoint(config.endpoint, config.teacher, config.ask)
        made = Made()
        with Asker(endpoint, work.journal, config.ask) as asker:
            _make(made, config, seeds, asker)
        card = _publish(work, config, made, asker)
    print(f"{len(made.kept):,} of {config.count:,} tasks in {config.output}")
    card.print()
    print(f"see {Path(config.output) / 'report.html'}")
    return made


def _make(made: Made, config: SelfInstructConfig, seeds: list[Task], asker: Asker) -> None:
    """Ask until enough is kept, the budget ends or the teacher has nothing new to say."""
    pool = Kept()
    for task in seeds:
        pool.add(task.instruction)
    asked = 0

    def requests() -> Iterator[Request | None]:
        nonlocal asked
        while True:
            # Not more than are likely to be needed: each costs money.
            under_way = asked - len(made.sizes)
            missing = config.count - len(made.kept)
            if under_way and under_way * max(_yield_of(made, config), 0.5) >= missing:
                yield None
                continue
            before = made.sizes[asked - LAG] if asked >= LAG else 0
            yield build_request(config, seeds, made.kept[:before], asked)
            asked += 1

    with Progress("self-instruct", config.count, "tasks") as progress:
        for number, reply in enumerate(asker.replies(requests())):
            before = len(made.kept)
            _take(made, config, pool, reply, number)
            progress.advance(len(made.kept) - before, dropped=made.reasons.total())
            if len(made.kept) >= config.count:
                return
            if _is_exhausted(made):
                made.ended = (
                    f"of the last {PATIENCE} requests fewer than {FEWEST_KEPT:.0%} of the tasks"
                    " were new: the teacher repeats itself"
                )
                return
    made.ended = "the budget is used up; a larger cap goes on from here"


def _yield_of(made: Made, config: SelfInstructConfig) -> float:
    """Tasks that a request is likely to bring."""
    if not made.sizes:
        return config.tasks_per_request * 0.8
    return made.sizes[-1] / len(made.sizes)


def _is_exhausted(made: Made) -> bool:
    if len(made.sizes) <= PATIENCE:
        return False
    kept = made.sizes[-1] - made.sizes[-1 - PATIENCE]
    return kept < FEWEST_KEPT * max(sum(made.seen[-PATIENCE:]), PATIENCE)


def _take(made: Made, config: SelfInstructConfig, pool: Kept, reply: Reply, number: int) -> None:
    """Take one reply apart and keep what passes, up to `count`."""
    tasks, broken = parse_tasks(reply)
    made.seen.append(len(tasks) + len(broken))
    for reason, text in broken:
        made.reasons[reason] += 1
        made.dropped.append({"reason": reason, "request": number, "text": text})
    for task in tasks:
        if len(made.kept) == config.count:
            break  # so that a smaller count is the beginning of a larger one
        reason = task_filters.reason_against(task.instruction, task.input, task.output)
        score, near = 0.0, -1
        if not reason:
            score, near = pool.nearest(task.instruction, 0.0)
            reason = task_filters.COPY if score > config.max_similarity else ""
        if reason:
            made.reasons[reason] += 1
            entry: dict[str, Any] = {"reason": reason, "request": number, **vars(task)}
            if reason == task_filters.COPY:
                entry |= {"rouge_l": round(score, 4), "like": near}
            made.dropped.append(entry)
            continue
        pool.add(task.instruction)
        made.kept.append(task)
        made.similarity.append(score)
    made.sizes.append(len(made.kept))


# --- what the teacher is asked, and what it says -------------------------------------------------

_PROMPT = """请你编写 {count} 个新的任务，用来训练一个中文对话助手。要求：
1. 任务种类要多样：问答、写作、改写、分类、抽取、推理、计算、翻译、编程、建议等，\
不要总用同一个动词。
2. 指令的说法也要多样，可以是问句，也可以是祈使句，一到两句话说清楚。
3. 任务必须只靠文字就能完成：不要图片、音频、视频、网址、附件，\
不要求上网或提醒、预约之类的动作。
4. 指令、输入、回答都用中文（翻译和编程任务除外）。
5. “输入”是指令要处理的材料，内容要真实具体，不要写“某篇文章”这样的占位文字；\
不需要材料时写“无”。
6. “回答”要正确、具体，通常不超过三百字，直接回答，不说客套话。{topic}

严格按照下面例子的格式，每个任务三项，任务之间用单独一行“###”隔开。

{examples}
###

现在写出 {count} 个与例子不同的新任务："""
_TOPIC = "\n7. 所有任务都与这个主题有关：{topic}。"
_NOTHING = "无"


def build_request(
    config: SelfInstructConfig, seeds: Sequence[Task], made: Sequence[Task], number: int
) -> Request:
    """Request `number`: a few seeds and a few of the tasks made so far, in mixed order."""
    draw = random.Random(f"self-instruct {config.seed} {number}")
    shown = draw.sample(list(seeds), config.seeds_per_request)
    shown += draw.sample(list(made), min(config.machine_per_request, len(made)))
    draw.shuffle(shown)
    content = _PROMPT.format(
        count=config.tasks_per_request,
        topic=_TOPIC.format(topic=config.topic) if config.topic else "",
        examples="\n###\n".join(_shown(task) for task in shown),
    )
    return Request([user(content)], tag=str(number))


def _shown(task: Task) -> str:
    return f"指令：{task.instruction}\n输入：{task.input or _NOTHING}\n回答：{task.output}"


# `指令：`, `3. 指令:`, `**指令**：`, `【指令】`; at the beginning of a line.
_LABEL = re.compile(
    r"^[ \t#*\-【\[]*(?:\d+[ \t]*[.、．)）][ \t]*)?[*【\[]*(?:任务\s*\d*\s*)?"
    r"(?P<name>指令|输入|回答|输出)[*】\]]*[ \t]*[:：][*]*[ \t]*",
    re.MULTILINE,
)
_SEPARATOR = re.compile(r"^\s*#{3,}[^\n]*$", re.MULTILINE)
_EMPTY_INPUTS = {"", "无", "（无）", "(无)", "<无>", "无。", "无输入", "<noinput>", "none", "n/a"}
CUT, PARTS = "cut at max_tokens", "a part is missing"
REFUSED, NO_TASK = "the endpoint refused the request", "no task in the answer"


def parse_tasks(reply: Reply) -> tuple[list[Task], list[tuple[str, str]]]:
    """(the tasks in a reply, what in it is none: reason and beginning)."""
    if reply.refused:
        return [], [(REFUSED, reply.refused)]
    blocks: list[dict[str, str]] = []
    labels = list(_LABEL.finditer(reply.text))
    bounds = [*(label.start() for label in labels), len(reply.text)]
    for label, end in zip(labels, bounds[1:], strict=True):
        body = _SEPARATOR.split(reply.text[label.end() : end])[0].strip()
        name = "回答" if label["name"] == "输出" else label["name"]
        if name == "指令" or not blocks or name in blocks[-1]:
            blocks.append({})
        blocks[-1][name] = body
    if not blocks:
        return [], [(NO_TASK, reply.text[:500])]
    tasks, broken = [], []
    for number, block in enumerate(blocks):
        shown = json.dumps(block, ensure_ascii=False)[:500]
        if reply.finish == "length" and number == len(blocks) - 1:
            broken.append((CUT, shown))
        elif not block.get("指令") or not block.get("回答"):
            broken.append((PARTS, shown))
        else:
            given = block.get("输入", "")
            given = "" if given.lower() in _EMPTY_INPUTS else given
            tasks.append(Task(block["指令"], given, block["回答"]))
    return tasks, broken


def read_seeds(path: Path) -> list[Task]:
    """Tasks, records of `instruction`, `input`, `output`; an error for anything else."""
    tasks = []
    for row in of_file(path, "seed tasks"):
        told = {n: row.value.get(n) or "" for n in ("instruction", "input", "output")}
        is_text = all(isinstance(text, str) for text in told.values())
        if not is_text or not told["instruction"].strip() or not told["output"].strip():
            raise InputError(
                f"{path}, line {row.line}: a seed task needs `instruction` and `output` with text"
            )
        tasks.append(Task(**told))
    if not tasks:
        raise InputError(f"seed tasks {path}: no task in it")
    return tasks


# --- what is left behind -------------------------------------------------------------------------


def _publish(work: Work, config: SelfInstructConfig, made: Made, asker: Asker) -> Card:
    facts = {
        "kept": len(made.kept),
        "dropped": dict(made.reasons.most_common()),
        "requests": len(made.sizes),
        "ended": made.ended,
        "usage": vars(asker.usage),
        "cost": config.ask.cost(asker.usage.prompt_tokens, asker.usage.answer_tokens),
    }
    if not made.kept:
        raise InputError(f"nothing was kept: {records.counted(made.reasons)} {made.ended}".rstrip())
    with work.publish(complete=not made.ended, facts=facts) as folder:
        entries = []
        for number, task in enumerate(made.kept):
            conversation = task.conversation(
                id=f"self-instruct-{config.seed}:{number}", source=f"self-instruct:{config.teacher}"
            )
            licence = {"licence": config.licence} if config.licence else {}
            entries.append({**conversation.record(), **licence})
        fs.write_jsonl(folder / "part-00000.jsonl", entries)
        fs.write_jsonl(folder / "dropped.jsonl", made.dropped)
        card = _card(config, made, asker)
        card.write(folder)
    return card


def _card(config: SelfInstructConfig, made: Made, asker: Asker) -> Card:
    instructions, answers = [t.instruction for t in made.kept], [t.output for t in made.kept]
    symbols = [symbols_of(text) for text in instructions]
    beginnings = Counter("".join(s[:2]) for s in symbols)
    bigrams = Counter(pair for s in symbols for pair in pairwise(s))
    card = Card("Self-instruct", f"tasks written by {config.teacher}")
    card.section("Tasks")
    card.facts(
        {
            "kept": len(made.kept),
            "dropped": made.reasons.total(),
            "with an input": sum(bool(t.input) for t in made.kept),
            # Distinct-n: the share of different n-grams among all (Li et al. 2016).
            "distinct-2 of instructions": len(bigrams) / max(bigrams.total(), 1),
            "different beginnings (2 characters)": len(beginnings),
        }
    )
    for remark in (made.ended, asker.usage.words(config.ask)):
        if remark:
            card.note(remark)
    card.counts("dropped", made.reasons, "tasks")
    title = "ROUGE-L to the nearest task before"
    card.section("Diversity", report.histogram(made.similarity, title=title, x="ROUGE-L"))
    sizes = {"kept": (range(1, len(made.sizes) + 1), made.sizes)}
    card.add(report.chart(sizes, title="tasks kept", x="request", y="tasks"))
    title = "the most frequent beginnings"
    rows = beginnings.most_common(30)
    card.add(report.table(rows, headings=("beginning", "tasks"), title=title))
    card.section("Lengths")
    for title, texts in (("instructions", instructions), ("answers", answers)):
        card.add(report.histogram(map(len, texts), title=title, x="characters"))
    card.section("Samples")
    for task in made.kept[:: max(len(made.kept) // SAMPLES, 1)][:SAMPLES]:
        card.add(report.text(f"{task.instruction}\n\n{task.output}"))
    return card
