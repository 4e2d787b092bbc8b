"""A teacher's tasks: taken apart, filtered, no two alike; stopped and gone on without asking twice.

The teacher here writes tasks that follow from the request alone, so equal requests give equal
answers, in whatever order they come.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from builders.endpoint import Fault, LookalikeEndpoint
from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.feedback import self_instruct as si
from hanllama.feedback import task_filters
from hanllama.feedback.endpoint import EndpointError, Reply
from hanllama.feedback.options import AskConfig
from hanllama.talks.conversations import ConversationReader
from hanllama.text.similarity import Kept

_LETTERS = [chr(0x4E00 + 7 * n) for n in range(1500)]


def _teacher(body: dict[str, Any]) -> str:
    draw = random.Random(body["messages"][0]["content"])
    blocks = []
    for number in range(4):
        words = "".join(draw.choices(_LETTERS, k=draw.randint(8, 20)))
        given = "无" if number % 2 else "".join(draw.choices(_LETTERS, k=10))
        blocks.append(f"指令：请说明{words}\n输入：{given}\n回答：{words[::-1]}。")
    return "\n###\n".join(blocks)


def _config(output: Path, fake: LookalikeEndpoint, **options: Any) -> si.SelfInstructConfig:
    ask = AskConfig(**{"concurrency": 4, "retries": 1, "max_tokens": 600, **options.pop("ask", {})})
    settings = {"count": 60, "tasks_per_request": 4, **options}
    return si.SelfInstructConfig(
        output=str(output), endpoint=fake.url, teacher="teacher", ask=ask, **settings
    )


def _records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "part-00000.jsonl").read_text().splitlines()]


def test_the_seeds_are_many_different_and_pass_their_own_filters() -> None:
    seeds = si.read_seeds(si.SEEDS)
    assert len(seeds) >= 100
    pool = Kept()
    for task in seeds:
        assert task_filters.reason_against(task.instruction, task.input, task.output) == ""
        assert pool.nearest(task.instruction)[0] <= 0.7, task.instruction
        pool.add(task.instruction)
    categories = {json.loads(line)["category"] for line in si.SEEDS.read_text().splitlines()}
    assert len(categories) >= 10


def test_tasks_become_conversations_that_sft_reads(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_teacher) as fake:
        made = si.self_instruct(_config(tmp_path / "out", fake))
        # Not many more requests than tasks were needed: each costs money.
        assert len(fake.asked) <= 60 / 4 + 4
    assert made is not None and len(made.kept) == 60
    reader = ConversationReader([str(tmp_path / "out")])
    found = list(reader)
    assert len(found) == 60 and reader.quarantine.count == 0
    assert found[0].messages[0]["content"].count("\n") == 1  # the input on a line of its own
    assert found[0].source == "self-instruct:teacher"
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") >= 3
    fs.verify_sums(tmp_path / "out")
    asked = fake.asked[0]["messages"][0]["content"]
    assert asked.count("指令：") == 3 and "4 个新的任务" in asked


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_result_does_not_depend_on_how_many_ask_at_a_time(
    tmp_path: Path, concurrency: int
) -> None:
    """Enough requests that tasks made before stand in later ones."""
    with LookalikeEndpoint(answer=_teacher) as fake:
        options: dict[str, Any] = {"count": 170, "machine_per_request": 2}
        si.self_instruct(_config(tmp_path / "a", fake, ask={"concurrency": 4}, **options))
        made = {t["messages"][0]["content"].split("\n")[0] for t in _records(tmp_path / "a")}
        shown = "".join(fake.contents())
        assert any(instruction in shown for instruction in made)
        other = _config(tmp_path / "b", fake, ask={"concurrency": concurrency}, **options)
        si.self_instruct(other)
    first, second = ((tmp_path / n / "part-00000.jsonl").read_bytes() for n in "ab")
    assert first == second


def test_a_larger_count_goes_on_and_a_rerun_asks_nothing(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_teacher) as fake:
        si.self_instruct(_config(tmp_path / "out", fake, count=40))
        first, asked = _records(tmp_path / "out"), len(fake.asked)
        assert si.self_instruct(_config(tmp_path / "out", fake, count=40)) is None
        assert len(fake.asked) == asked
        si.self_instruct(_config(tmp_path / "out", fake, count=80))
        assert _records(tmp_path / "out")[:40] == first
        si.self_instruct(_config(tmp_path / "whole", fake, count=80))
        assert _records(tmp_path / "whole") == _records(tmp_path / "out")
        contents = fake.contents()
    assert contents[:asked] == list(dict.fromkeys(contents[:asked]))


def test_copies_are_dropped_with_what_they_copy(tmp_path: Path) -> None:
    seed = si.read_seeds(si.SEEDS)[0]

    def parrot(body: dict[str, Any]) -> str:
        return _teacher(body) + f"\n###\n指令：{seed.instruction}\n输入：无\n回答：好。"

    with LookalikeEndpoint(answer=parrot) as fake:
        made = si.self_instruct(_config(tmp_path / "out", fake, count=20))
    assert made is not None and made.reasons[task_filters.COPY] == made.sizes.__len__() - 1
    dropped = json.loads((tmp_path / "out" / "dropped.jsonl").read_text().split("\n")[0])
    assert dropped["reason"] == task_filters.COPY and dropped["rouge_l"] == 1.0
    assert dropped["like"] == 0


def test_a_teacher_that_repeats_itself_is_left(tmp_path: Path) -> None:
    say = _teacher({"messages": [{"content": "always"}]})
    with LookalikeEndpoint(answer=lambda body: say) as fake:
        made = si.self_instruct(_config(tmp_path / "out", fake, count=500))
        assert len(fake.asked) < 80
    assert made is not None and len(made.kept) == 4 and "repeats itself" in made.ended


def test_the_cap_publishes_what_there_is_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_teacher) as fake:
        made = si.self_instruct(_config(tmp_path / "out", fake, ask={"token_cap": 12_000}))
        assert made is not None and 0 < len(made.kept) < 60 and "budget" in made.ended
        manifest = fs.read_json(tmp_path / "out" / "manifest.json")
        usage = manifest["usage"]
        assert usage["prompt_tokens"] + usage["answer_tokens"] <= 12_000
        assert not manifest["complete"]
        asked = len(fake.asked)
        made = si.self_instruct(_config(tmp_path / "out", fake, ask={"token_cap": 10**6}))
        assert made is not None and len(made.kept) == 60
        assert len(set(fake.contents())) == len(fake.asked) > asked


def test_nothing_usable_is_an_error_that_counts(tmp_path: Path) -> None:
    said = r"nothing was kept: \d+ x no task in the answer"
    with (
        LookalikeEndpoint(answer=lambda body: "我不会。") as fake,
        pytest.raises(InputError, match=said),
    ):
        si.self_instruct(_config(tmp_path / "out", fake))
    assert not (tmp_path / "out").exists()


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_teacher, seconds=0.05) as fake:
        si.self_instruct(_config(tmp_path / "whole", fake, count=80))
        needed = len(fake.asked)
        words = ["--count", "80", "--tasks-per-request", "4", "--max-tokens", "600"]
        words += ["--output", str(tmp_path / "out"), "--endpoint", fake.url]
        words += ["--teacher", "teacher", "--concurrency", "2", "--retries", "1"]
        command = [sys.executable, "-m", "hanllama", "data", "self-instruct", *words]
        for number in (signal.SIGKILL, signal.SIGTERM):
            fake.asked.clear()
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            while len(fake.asked) < 5 and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate(timeout=20)
            if number == signal.SIGTERM:
                assert process.returncode == 143 and "goes on from here" in said
            assert not (tmp_path / "out").exists()
        fake.asked.clear()
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert 0 < len(fake.asked) < needed
        assert "80 of 80 tasks" in done.stdout
    whole, found = ((tmp_path / n / "part-00000.jsonl").read_bytes() for n in ("whole", "out"))
    assert found == whole


def test_a_failing_endpoint_leaves_the_work_and_says_so(tmp_path: Path) -> None:
    faults = [Fault()] * 4 + [Fault(401, "expired")] * 99
    with LookalikeEndpoint(answer=_teacher, faults=faults) as fake:
        with pytest.raises(EndpointError, match="HANLLAMA_API_KEY is not set"):
            si.self_instruct(_config(tmp_path / "out", fake))
        assert (tmp_path / "out.partial" / "answers.journal").stat().st_size > 0


# --- taking answers apart ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "指令：说出三种鱼\n输入：无\n回答：草鱼、鲤鱼、鲫鱼\n###\n指令：比大小\n输入：3和5\n回答：5大",
        "1. 指令: 说出三种鱼\n1. 输入: <无>\n1. 回答: 草鱼、鲤鱼、鲫鱼\n\n###\n\n"
        "2. 指令: 比大小\n2. 输入: 3和5\n2. 输出: 5大\n###",
        "好的！\n### 任务1\n**指令**：说出三种鱼\n**输入**：无\n**回答**：草鱼、鲤鱼、鲫鱼\n\n"
        "### 任务2\n**指令**：比大小\n**输入**：3和5\n**回答**：5大",
        "【指令】：说出三种鱼\n【输入】：\n【回答】：草鱼、鲤鱼、鲫鱼\n"
        "【指令】：比大小\n【输入】：3和5\n【回答】：5大\n",
        "指令：说出三种鱼\n回答：草鱼、鲤鱼、鲫鱼\n指令：比大小\n输入：\n3和5\n回答：\n5大",
    ],
    ids=["as asked", "numbered", "markdown", "brackets", "no input"],
)
def test_the_ways_in_which_models_write_a_format(text: str) -> None:
    tasks, broken = si.parse_tasks(Reply(text))
    assert broken == []
    assert tasks == [
        si.Task("说出三种鱼", "", "草鱼、鲤鱼、鲫鱼"),
        si.Task("比大小", "3和5", "5大"),
    ]


def test_an_answer_of_several_lines_stays_whole() -> None:
    answer = "第一步：洗。\n第二步：切。\n\n1. 指令要清楚，输入也是"
    tasks, _ = si.parse_tasks(Reply(f"指令：怎么切菜\n输入：无\n回答：{answer}\n###"))
    assert tasks[0].output == answer


def test_a_task_cut_at_the_limit_is_dropped_and_so_is_half_a_task() -> None:
    text = "指令：甲乙丙丁\n输入：无\n回答：戊己\n###\n指令：说说看\n输入：无\n回答：这个问题"
    tasks, broken = si.parse_tasks(Reply(text, "length"))
    assert [t.output for t in tasks] == ["戊己"] and broken[0][0] == si.CUT
    assert si.parse_tasks(Reply("指令：甲乙丙丁\n输入：无"))[1][0][0] == si.PARTS
    assert si.parse_tasks(Reply("随便说说"))[1] == [(si.NO_TASK, "随便说说")]
    assert si.parse_tasks(Reply("", refused="status 400"))[1] == [(si.REFUSED, "status 400")]


@pytest.mark.parametrize(
    ("instruction", "given", "answer", "word"),
    [
        ("写诗", "", "好", "too short"),
        ("请" + "写" * 300, "", "好", "too long"),
        ("，请解释这句话", "", "好", "punctuation"),
        ("Write a poem about spring", "", "好", "not Chinese"),
        ("描述这张图片的内容", "", "好", "more than text"),
        ("总结这个网址里的内容", "", "好", "more than text"),
        ("写一个程序计算阶乘", "", "好", "program"),
        ("总结下面的文章", "【此处插入文章】", "好", "placeholder"),
        ("告诉我明天的天气", "", "抱歉，我无法获取实时信息。", "refusal"),
        ("你喜欢吃什么呢", "", "作为一个人工智能，我不吃东西。", "refusal"),
        ("重复下面这句话", "天气真好", "天气真好", "repeats"),
        ("解释什么是云", "", "云" * 5000, "too long"),
        ("写一个函数求和，用Python", "", "def f(x): return sum(x)", ""),
        ("“春眠不觉晓”是谁写的？", "", "孟浩然", ""),
    ],
)
def test_filters_name_their_reason(instruction: str, given: str, answer: str, word: str) -> None:
    reason = task_filters.reason_against(instruction, given, answer)
    assert word in reason and bool(word) == bool(reason)


@pytest.mark.parametrize("line", ["{", "[1]", '{"instruction": "a"}', '{"instruction": "", "output": "b"}', '{"instruction": 3, "output": "b"}'])  # fmt: skip # noqa: E501
def test_a_broken_seed_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"instruction": "说话", "output": "好"}\n' + line, encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        si.read_seeds(path)


def test_seeds_that_an_editor_of_windows_wrote(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    line = '{"instruction": "说话", "output": "好"}\n'
    path.write_text(2 * line, encoding="utf-8-sig", newline="\r\n")
    assert si.read_seeds(path) == 2 * [si.Task("说话", "", "好")]


def test_more_seeds_than_there_are_cannot_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"instruction": "说话", "output": "好"}\n', encoding="utf-8")
    with LookalikeEndpoint() as fake, pytest.raises(ConfigError, match="3 of 1 seeds"):
        si.self_instruct(_config(tmp_path / "out", fake, seeds=str(path)))
    assert fake.asked == [] and os.listdir(tmp_path) == ["seeds.jsonl"]
