"""What was said, without a model: what fits, what is taken back, what is saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.chat.session import Answer, Session, changed
from hanllama.model.sampling import Sampling
from hanllama.talks.conversations import ConversationReader


class Echo:
    """Says the question back, a character a token; a token a character of every message."""

    context = 40
    continues = False

    def __init__(self) -> None:
        self.prompts: list[list[str]] = []
        self.streams: list[int] = []

    def ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        self.asked = [m["content"] for m in messages]
        return [ord(c) for m in messages for c in m["content"]]

    def write(
        self, prompt: list[int], sampling: Sampling, stream: int, wanted: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        self.prompts.append(self.asked)
        self.streams.append(stream)
        text = self.asked[-1]
        for number, letter in enumerate(text, 1):
            if not wanted():
                yield letter, "stopped"
                return
            yield letter, "eos" if number == len(text) else ""


def _say(session: Session, question: str) -> Answer:
    answer = Answer()
    assert "".join(session.answer(question, answer)) == answer.text
    return answer


def _session(system: str = "") -> tuple[Session, Echo]:
    echo = Echo()
    return Session(echo, Sampling(max_new_tokens=10), system), echo


def test_every_turn_sees_what_was_said_before() -> None:
    session, echo = _session("请简短")
    assert _say(session, "你好").finish == "eos"
    _say(session, "再见")
    assert echo.prompts == [["请简短", "你好"], ["请简短", "你好", "你好", "再见"]]
    assert [m["role"] for m in session.messages] == ["system", *["user", "assistant"] * 2]
    assert echo.streams == [0, 1]  # asked again, it is answered otherwise


def test_the_oldest_exchanges_leave_the_prompt_and_stay_in_the_conversation() -> None:
    session, echo = _session("系统")
    for word in ("一一一一", "二二二二", "三三三三", "四四四四"):
        assert _say(session, word).forgotten == 0
    answer = _say(session, "五五五五")  # 2 + 32 + 4 tokens, and 10 for the answer, of 40
    assert answer.forgotten == 1 and echo.prompts[-1][:2] == ["系统", "二二二二"]
    assert len(session.turns) == 10 and session.turns[0]["content"] == "一一一一"


def test_a_question_that_leaves_no_room_is_refused_and_nothing_is_lost() -> None:
    session, _ = _session("系统")
    _say(session, "你好")
    with pytest.raises(InputError, match=r"31 tokens .* context of 40 must leave 10"):
        _say(session, "长" * 29)
    assert len(session.turns) == 2
    assert _say(session, "长" * 28).forgotten == 1


def test_an_answer_that_was_stopped_is_kept_and_an_empty_one_is_not() -> None:
    session, _ = _session()
    answer = Answer()
    pieces = session.answer("一二三四", answer, lambda: len(answer.text) < 2)
    assert "".join(pieces) == "一二三" and answer.finish == "stopped"
    assert session.turns[-1]["content"] == "一二三"
    _say(session, "  ")
    assert len(session.turns) == 2


def test_an_answer_given_anew_takes_the_place_of_the_old_one_only_when_it_is_there() -> None:
    session, echo = _session("系统")
    _say(session, "甲")
    _say(session, "乙")
    before = [dict(turn) for turn in session.turns]

    def again(question: str, wanted: bool = True) -> Answer:
        answer = Answer()
        for _ in session.answer(question, answer, lambda: wanted, instead=True):
            assert session.turns == before, "until it is complete"
        return answer

    assert again("乙", wanted=False) == Answer(finish="stopped")  # before its first token
    assert again("  ").finish == "eos"
    with pytest.raises(InputError, match="say it shorter"):
        again("长" * 29)
    assert session.turns == before
    assert again("丙").text == "丙"
    assert [m["content"] for m in session.turns] == ["甲", "甲", "丙", "丙"]
    assert echo.prompts[-1] == ["系统", "甲", "甲", "丙"], "the old answer is not in the prompt"
    assert len(set(echo.streams)) == len(echo.streams)


def test_undo_and_reset() -> None:
    session, _ = _session("系统")
    _say(session, "甲")
    _say(session, "乙")
    assert session.undo() == "乙" and session.undo() == "甲" and session.undo() is None
    _say(session, "丙")
    session.reset()
    assert session.messages == [{"role": "system", "content": "系统"}]


def test_what_is_saved_is_loaded_and_is_a_conversation_to_train_on(tmp_path: Path) -> None:
    session, _ = _session("系统")
    path = tmp_path / "said.jsonl"
    with pytest.raises(InputError, match="nothing was said"):
        session.save(path)
    _say(session, "甲\u2028乙")
    session.save(path)
    other, _ = _session()
    other.load(path)
    assert other.messages == session.messages and other.system == "系统"
    other.save(path)  # a conversation may be replaced by a later one
    assert len(list(ConversationReader([str(path)]))) == 1


def test_a_file_that_is_no_conversation_is_neither_loaded_nor_replaced(tmp_path: Path) -> None:
    session, _ = _session()
    _say(session, "甲")
    path = tmp_path / "novel.txt"
    path.write_text("很久以前", encoding="utf-8")
    with pytest.raises(InputError, match="no conversation"):
        session.save(path)
    assert path.read_text(encoding="utf-8") == "很久以前"
    wrong: list[tuple[Any, str]] = [
        ([], "no conversation"),
        ({"messages": 3}, "no conversation"),
        ({"messages": [{"role": "assistant", "content": "好"}]}, "begins with the assistant"),
        ({"messages": [{"role": "user", "content": "好"}]}, "do not alternate"),
        ({"messages": [{"role": "user", "content": ""}]}, "empty message"),
    ]
    for held, word in wrong:
        path.write_text(json.dumps(held), encoding="utf-8")
        with pytest.raises(InputError, match=word):
            session.load(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(CorruptError):
        session.load(path)
    with pytest.raises(InputError):
        session.load(tmp_path)
    assert [m["content"] for m in session.turns] == ["甲", "甲"]


def test_settings_are_changed_by_name_and_checked() -> None:
    sampling = Sampling()
    assert changed(sampling, "temperature", "0.25").temperature == 0.25
    assert changed(sampling, "max-new-tokens", "9").max_new_tokens == 9
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        changed(sampling, "temprature", "1")
    for value in ("hot", "", "1.5.2"):
        with pytest.raises(ConfigError, match=f"temperature must be .* not '{value}'"):
            changed(sampling, "temperature", value)
    with pytest.raises(ConfigError, match=r"top_k must be .* not '1e400'"):
        changed(sampling, "top_k", "1e400")
    for name, value in (("temperature", "-1"), ("temperature", "nan"), ("top_p", "2")):
        with pytest.raises(ConfigError):
            changed(sampling, name, value)
