"""`hanllama chat` as a process: on a terminal and through a pipe, with a real (untrained) model."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import folders
from builders.terminal import Typed
from hanllama import cli
from hanllama.base import fs
from hanllama.chat.chat import Chat, Pipe, Terminal, joined
from hanllama.chat.session import Answer, ModelSpeaker, Session
from hanllama.model.card import ModelCard, Stage
from hanllama.model.checkpoint import load_model, save_model
from hanllama.model.llama import Llama
from hanllama.model.sampling import Sampling
from hanllama.tokenizer import chat
from hanllama.tokenizer.load import load_tokenizer


def _model(
    place: Path,
    *,
    template: bool,
    context: int = 200,
    stage: str = "sft",
    endless: bool = False,
) -> Path:
    """A random two-layer model, with or without a chat template.

    An endless one cannot write its end token: a part of the residual stream that every token
    leads with speaks against it.
    """
    tokenizer = folders.tokenizer(place / "tokenizer")
    if template:
        (tokenizer / chat.FILE).write_text(chat.source("llama2"), encoding="utf-8")
    config = folders.grouped(load_tokenizer(tokenizer).vocab_size, context)
    torch.manual_seed(4)
    model = Llama(config)
    if endless:
        with torch.no_grad():
            embedding = model.state_dict()["model.embed_tokens.weight"]  # the head's, too
            embedding[:, 0] = 1.0
            embedding[config.eos_token_id, 0] = -20.0
    card = ModelCard("tiny", lineage=(Stage(stage),))
    with fs.publish(place / "model") as folder:
        save_model(folder, model, tokenizer, card)
    return place / "model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _model(tmp_path_factory.mktemp("chat"), template=True)


def _words(model: Path, *words: str) -> list[str]:
    return ["chat", str(model), "--device", "cpu", *words]


def _pipe(model: Path, said: str | bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    """The command in this process, with streams that are no terminal."""
    data = said if isinstance(said, bytes) else said.encode()
    buffers = [io.BytesIO(data), io.BytesIO(), io.BytesIO()]
    with pytest.MonkeyPatch.context() as patch:
        for name, buffer in zip(("stdin", "stdout", "stderr"), buffers, strict=True):
            patch.setattr(sys, name, io.TextIOWrapper(buffer, encoding="utf-8", write_through=True))
        code = cli.main(_words(model, *words))
        out, err = (bytes(buffer.getvalue()) for buffer in buffers[1:])
    return subprocess.CompletedProcess([], code, out, err)


SHORT = ("--max-new-tokens", "6", "--temperature", "0")


def test_through_a_pipe_every_question_gets_one_line(model: Path) -> None:
    done = _pipe(model, "你好\n\n说说看\n//斜线\n", *SHORT)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")
    assert len(lines) == 4 and lines[3] == "" and all(lines[:3])
    again = _pipe(model, "你好\n\n说说看\n//斜线\n", *SHORT)
    assert again.stdout == done.stdout
    assert "context 200 tokens" in done.stderr.decode()


def test_a_process_answers_each_line_when_it_comes(model: Path) -> None:
    """A script may look at the answer before it asks on."""
    command = [sys.executable, "-m", "hanllama", *_words(model, *SHORT)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin and process.stdout
        lines = []
        for question in ("你好", "说说看"):
            process.stdin.write(f"{question}\n".encode())
            process.stdin.flush()
            lines.append(process.stdout.readline())
        process.stdin.close()
        assert process.wait(30) == 0
    assert b"".join(lines) == _pipe(model, "你好\n说说看\n", *SHORT).stdout


def test_answers_are_those_of_the_session_word_for_word(model: Path) -> None:
    """And so no character is cut: an untrained model writes bytes of many."""
    words = ["--json", "--max-new-tokens", "40", "--temperature", "1.5"]
    done = _pipe(model, "你好\n然后呢\n", *words)
    found = [json.loads(line) for line in done.stdout.decode().splitlines()]
    tokenizer = load_tokenizer(model)
    template = chat.ChatTemplate(tokenizer)
    speaker = ModelSpeaker(load_model(model), tokenizer, template, template.end_ids)
    session = Session(speaker, Sampling(max_new_tokens=40, temperature=1.5))
    for question, line in zip(("你好", "然后呢"), found, strict=True):
        answer = Answer()
        pieces = list(session.answer(question, answer))
        assert "".join(pieces) == line["answer"] == answer.text
        assert line["finish"] == answer.finish and line["tokens"] == len(pieces)


def test_commands_work_through_a_pipe_and_speak_on_stderr(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "said.jsonl"
    script = [
        "/set temperature 0",
        "/set temperature hot",
        "/set temprature 1",
        "/nonsense",
        "/retry",
        "/system 你是小汉",
        "你好",
        f"/save {saved}",
        "/history",
        "/undo",
        "/undo",
        f"/load {saved}",
        "/retry",
        "/reset",
        "/help",
        "/quit",
        "不再回答",
    ]
    done = _pipe(model, "\n".join(script), "--max-new-tokens", "5")
    said = done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and len(lines) == 2, said
    assert lines[0] == lines[1]  # greedy: the retry says the same
    for words in (
        *("temperature 0.0", "or more, not 'hot'", "did you mean 'temperature'"),
        *("there is no command /nonsense", "nothing was asked yet", "system prompt: 你是小汉"),
        *("saved 1 exchanges", "taken back: 你好", "nothing was said yet", "1 exchanges from"),
        *("a new conversation", "change a setting"),
    ):
        assert words in said, words
    messages = json.loads(saved.read_text())["messages"]
    assert messages[0] == {"role": "system", "content": "你是小汉"}


def test_a_full_context_says_what_the_model_no_longer_sees(model: Path) -> None:
    done = _pipe(
        model, "小明在河边看见了苹果，奶奶在家里。\n" * 8 + "长" * 300 + "\n好\n", "--json", *SHORT
    )
    found = [json.loads(line) for line in done.stdout.decode().splitlines()]
    said = done.stderr.decode()
    assert [f["forgotten"] > 0 for f in found[:8]].index(True) >= 1
    assert re.search(r"no longer sees the oldest \d of \d exchanges", said)
    assert found[8]["finish"] == "error" and "say it shorter" in found[8]["error"]
    assert len(found) == 10 and found[9]["answer"]


def test_a_retry_that_fails_keeps_the_old_answer(model: Path) -> None:
    script = f"好\n/system {'长' * 300}\n/retry\n/history\n/system -\n/retry\n/history\n"
    done = _pipe(model, script, *SHORT)
    said, lines = done.stderr.decode(), done.stdout.decode().splitlines()
    assert "say it shorter" in said and "the answer before stays" in said
    assert len(lines) == 3 and lines[0] == lines[2] and lines[1] == "", "greedy: said again"
    assert said.count("you: 好\nmodel: ") == 2 and "taken back" not in said


def test_a_retry_stopped_before_its_first_token_keeps_the_old_answer(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(model)
    template = chat.ChatTemplate(tokenizer)

    class Impatient(ModelSpeaker):
        """Somebody presses Ctrl-C while the prompt is read."""

        def write(self, *args: Any) -> Iterator[tuple[str, str]]:
            if impatient:
                os.kill(os.getpid(), signal.SIGINT)
            yield from super().write(*args)

    speaker = Impatient(load_model(model), tokenizer, template, template.end_ids)
    session = Session(speaker, Sampling(max_new_tokens=6, temperature=1.0))
    for screen in (Terminal(), Pipe()):
        session.reset()
        talk, impatient = Chat(session, screen), False
        talk.turn("好")
        kept = [dict(turn) for turn in session.turns]
        assert len(kept) == 2
        impatient = True
        talk.turn("/retry")
        talk.turn("/retry")
        assert session.turns == kept
        talk.turn("再说")  # asked for the first time there is nothing to keep
        assert session.turns == kept
        shown = "".join(capsys.readouterr())
        assert shown.count("the one before stays") == 2 and shown.count("was taken back") == 1
        impatient = False
        talk.turn("/retry")
        assert [t["content"] for t in session.turns[::2]] == ["好", "再说"]
        assert session.turns[:2] == kept
        talk.turn("/retry")
        assert len(session.turns) == 4 and session.turns[:2] == kept


def test_several_lines_are_one_message(model: Path) -> None:
    done = _pipe(model, '第一行\\\n第二行\n"""\n甲\n乙\n"""\n/history\n', *SHORT)
    assert len(done.stdout.decode().splitlines()) == 2
    said = done.stderr.decode()
    assert "you: 第一行\n第二行" in said and "you: 甲\n乙" in said


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["你好"], "你好"),
        (["一\\", "二\\", "三"], "一\n二\n三"),
        (['"""', "一", "", "二", '"""'], "一\n\n二"),
        (['"""一', '二"""'], "一\n二"),
        (['"""一"""'], "一"),
    ],
)
def test_how_lines_become_a_message(lines: list[str], message: str) -> None:
    rest = iter(lines)
    assert joined(lambda goes_on: next(rest)) == message
    assert list(rest) == []


def test_a_base_model_is_said_to_be_one_and_goes_on_with_a_text(tmp_path: Path) -> None:
    base = _model(tmp_path, template=False, stage="pretrain")
    done = _pipe(base, "从前\n/more\n/system 你好\n", *SHORT)
    said = done.stderr.decode()
    assert "is a base model: it carries no chat template" in said and "continuation" in said
    assert len(done.stdout.decode().splitlines()) == 2
    assert "there is no command /system" in said
    refused = _pipe(base, "", "--system", "你好")
    assert refused.returncode == 2 and b"needs a chat template" in refused.stderr
    tried = _pipe(base, "你好\n", "--template", "llama2", *SHORT)
    assert b"base model by its card" in tried.stderr and len(tried.stdout.splitlines()) == 1


def test_a_text_that_has_ended_is_not_called_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    class Once:
        """Goes on with a text by one letter, and then no more."""

        context = 40

        def ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
            return [ord(letter) for letter in messages[-1]["content"]]

        def write(self, prompt: list[int], *rest: Any) -> Iterator[tuple[str, str]]:
            yield ("" if ord("完") in prompt else "完"), "eos"

    session = Session(Once(), Sampling())
    talk = Chat(session, Pipe(), continues=True)
    talk.turn("从前")
    talk.turn("/more")
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["完", ""]
    assert "nothing came after this text" in shown.err and "question" not in shown.err
    assert [turn["content"] for turn in session.turns] == ["从前", "完"]


def test_what_cannot_be_read_ends_with_one_sentence(model: Path, tmp_path: Path) -> None:
    assert _pipe(tmp_path / "nothing", "好\n").returncode == 2
    broken = _pipe(model, "你好\n".encode("gbk"), *SHORT)
    assert broken.returncode == 2 and b"standard input, line 1: not UTF-8" in broken.stderr
    marked = _pipe(model, b"\xef\xbb\xbf" + "你好\r\n".encode(), *SHORT)
    assert marked.stdout == _pipe(model, "你好\n", *SHORT).stdout


def test_the_conversation_given_is_gone_on_with(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    messages = [{"role": "user", "content": "甲"}, {"role": "assistant", "content": "乙"}]
    path.write_text(json.dumps({"messages": messages}))
    done = _pipe(model, "/history\n", "--load", str(path))
    assert "you: 甲\nmodel: 乙" in done.stderr.decode()


# --- on a terminal -------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
def test_on_a_terminal_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    endless = _model(tmp_path, template=True, context=100_000, endless=True)
    with Typed(*_words(endless, "--max-new-tokens", "20000", "--temperature", "1")) as typed:
        typed.until("> ")
        typed.type("你好\n")
        typed.until("你好\r\n")
        while len(typed.seen) == typed.looked:  # the answer has not begun
            typed.read()
        typed.process.send_signal(signal.SIGINT)
        typed.until("stopped")
        typed.until("> ")
        for _ in range(40):  # readline misses a signal that comes before it waits
            time.sleep(0.5)
            typed.process.send_signal(signal.SIGINT)  # at the prompt it gives the line up
            if typed.shows("> ", seconds=1):
                break
        typed.type("/history\n")
        typed.until("you: 你好")
        typed.until("> ")
        typed.type("\x04")
        assert typed.process.wait(20) == 0


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
@pytest.mark.parametrize("name", ["C", "zh_XX.UTF-8"])
def test_chinese_can_be_typed_and_taken_back_where_no_locale_is_set_up(
    model: Path, name: str
) -> None:
    with Typed(*_words(model, *SHORT), LC_ALL=name) as typed:
        typed.until("> ")
        typed.type("/system 你好们\x7f\n")  # one key takes one character back
        typed.until("> ")
        typed.type("/system\n")
        assert "system prompt: 你好\x1b[0m" in typed.until("> ")
        typed.type("\x04")
        assert typed.process.wait(20) == 0
