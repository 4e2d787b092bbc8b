"""One request: what may pass is tried again, what will not ends with one sentence, no key leaks."""

from __future__ import annotations

import time

import pytest

from builders.endpoint import Fault, LookalikeEndpoint
from hanllama.base.errors import ConfigError
from hanllama.feedback.endpoint import Endpoint, EndpointError, Reply
from hanllama.feedback.options import AskConfig

ASK = [{"role": "user", "content": "你好"}]
SECRET = "sk-verysecret"


def _endpoint(fake: LookalikeEndpoint, pause: float = 0.01, **options: object) -> Endpoint:
    settings = {"retries": 3, "timeout": 5.0, **options}
    return Endpoint(fake.url, "teacher", AskConfig(**settings), pause)  # type: ignore[arg-type]


def test_an_answer_comes_with_its_counts() -> None:
    with LookalikeEndpoint() as fake:
        reply = _endpoint(fake, max_tokens=9, temperature=0.5, top_p=0.9).chat(ASK)
    assert reply == Reply("好的。", "stop", 2, 3)
    assert fake.asked == [
        {"model": "teacher", "messages": ASK, "max_tokens": 9, "temperature": 0.5, "top_p": 0.9}
    ]
    assert "Authorization" not in fake.headers[0]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, retry_after="0"),
        Fault(500),
        Fault(503),
        Fault(cut=True),
        Fault(drop=True),
        Fault(body=b"<html>busy</html>"),
        Fault(body=b'{"choices": []}'),
        Fault(body=b'{"choices": [{"message": {"content": 3}}]}'),
        Fault(body=b"[1]"),
        Fault(body=b""),
    ],
    ids=["429", "500", "503", "cut", "drop", "html", "empty", "number", "list", "nothing"],
)
def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    with LookalikeEndpoint(faults=[fault, fault]) as fake:
        reply = _endpoint(fake).chat(ASK)
    assert (reply.text, reply.tries, len(fake.asked)) == ("好的。", 3, 3)


def test_a_slow_answer_is_given_up_at_the_timeout_and_asked_again() -> None:
    with LookalikeEndpoint(faults=[Fault(wait=1.5)]) as fake:
        begin = time.monotonic()
        reply = _endpoint(fake, timeout=0.3).chat(ASK)
        assert time.monotonic() - begin < 1.4
    assert reply.tries == 2


def test_retry_after_is_kept_in_seconds_and_as_a_date() -> None:
    with LookalikeEndpoint(faults=[Fault(429, retry_after="1")]) as fake:
        begin = time.monotonic()
        _endpoint(fake).chat(ASK)
        assert 1.0 <= time.monotonic() - begin < 3
    far = Fault(429, retry_after="Wed, 21 Oct 2099 07:28:00 GMT")
    with LookalikeEndpoint(faults=[far]) as fake, pytest.raises(EndpointError, match="pause of"):
        _endpoint(fake).chat(ASK)


def test_after_the_last_try_it_says_what_happened() -> None:
    said = "4 tries; the last: status 500: the disk is full"
    faults = [Fault(500, "the disk is full")] * 9
    with LookalikeEndpoint(faults=faults) as fake, pytest.raises(EndpointError, match=said):
        _endpoint(fake).chat(ASK)
    assert len(fake.asked) == 4


def test_nobody_there_is_said() -> None:
    with pytest.raises(EndpointError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "m", AskConfig(retries=1), 0.01).chat(ASK)


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLLAMA_API_KEY", SECRET)
    with LookalikeEndpoint(key=SECRET) as fake:
        assert _endpoint(fake).chat(ASK).text == "好的。"
        fake.key = "another"
        with pytest.raises(EndpointError, match="is not accepted") as caught:
            _endpoint(fake).chat(ASK)
    assert SECRET not in str(caught.value) and "[key]" in str(caught.value)
    assert len(fake.asked) == 2  # a wrong key is not tried again


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    said = "MY_KEY is not set"
    with LookalikeEndpoint(key=SECRET) as fake, pytest.raises(EndpointError, match=said):
        _endpoint(fake, api_key_variable="MY_KEY").chat(ASK)


def test_a_redirect_does_not_carry_the_key_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLLAMA_API_KEY", SECRET)
    with LookalikeEndpoint() as other, LookalikeEndpoint() as fake:
        for status in (301, 302, 307, 308):
            fake.faults = [Fault(status, location=other.url + "/chat/completions")]
            with pytest.raises(EndpointError, match="does not answer as an endpoint"):
                _endpoint(fake).chat(ASK)
        assert other.asked == []


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_refused_for_itself_is_a_reply(status: int) -> None:
    with LookalikeEndpoint(faults=[Fault(status, "content policy")]) as fake:
        reply = _endpoint(fake).chat(ASK)
    assert reply.text == "" and reply.refused == f"status {status}: content policy"


def test_a_wrong_path_names_the_address_and_the_model() -> None:
    with LookalikeEndpoint() as fake:
        wrong = Endpoint(fake.url + "/nothing", "teacher", AskConfig())
        with pytest.raises(EndpointError, match=r"nothing.*'teacher'.*/v1"):
            wrong.chat(ASK)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://x/v1", "http://", "http://me:secret@host/v1", "http://h/v1?key=1"],
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(url, "m", AskConfig())
    assert "secret" not in str(caught.value)


def test_a_key_that_would_break_the_header_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLLAMA_API_KEY", "sk-a\r\nX-Evil: 1")
    with pytest.raises(ConfigError) as caught:
        Endpoint("http://h/v1", "m", AskConfig())
    assert "sk-a" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"concurrency": 0}, {"concurrency": 99}, {"timeout": 0}, {"cost_cap": 1.0}, {"retries": -1}],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AskConfig(**wrong)  # type: ignore[arg-type]
