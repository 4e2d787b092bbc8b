"""Many requests: in order, nothing asked twice, the budget kept, whatever happens in between."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.endpoint import Fault, LookalikeEndpoint
from hanllama.base import fs
from hanllama.base.config import option
from hanllama.base.errors import CorruptError, InputError
from hanllama.feedback.asking import JOURNAL, WINDOW, Asker, Journal, Request, working
from hanllama.feedback.endpoint import Endpoint, EndpointError
from hanllama.feedback.options import AskConfig


def _requests(count: int) -> Iterator[Request]:
    for number in range(count):
        yield Request([{"role": "user", "content": f"问题{number}"}])


def _echo(body: dict[str, Any]) -> str:
    return f"答：{body['messages'][-1]['content']}"


def _late_echo(body: dict[str, Any]) -> str:
    time.sleep(random.random() * 0.03)
    return _echo(body)


def _ask(
    fake: LookalikeEndpoint, journal: Path, count: int, **options: Any
) -> tuple[list[str], Asker]:
    ask = AskConfig(**{"concurrency": 4, "max_tokens": 20, "retries": 2, **options})
    held = Journal(journal)
    try:
        with Asker(Endpoint(fake.url, "m", ask, 0.01), held, ask) as asker:
            texts = [reply.text for reply in asker.replies(_requests(count))]
    finally:
        held.close()
    return texts, asker


def test_replies_come_in_the_order_of_the_requests(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_late_echo) as fake:
        texts, asker = _ask(fake, tmp_path / "j", 40)
    assert texts == [f"答：问题{n}" for n in range(40)]
    assert 2 <= fake.most_at_a_time <= 4
    assert asker.usage.requests == 40 and not asker.capped
    assert asker.usage.prompt_tokens == sum(len(f"问题{n}") for n in range(40))


def test_a_rerun_asks_nothing_twice(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_echo) as fake:
        first, _ = _ask(fake, tmp_path / "j", 10)
        again, asker = _ask(fake, tmp_path / "j", 15)
        assert len(fake.asked) == 15
    assert again[:10] == first
    assert (asker.usage.requests, asker.usage.replayed) == (15, 10)


def test_what_failed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    with LookalikeEndpoint(answer=_echo, faults=[Fault()] * 7 + [Fault(500)] * 30) as fake:
        with pytest.raises(EndpointError):
            _ask(fake, tmp_path / "j", 20, concurrency=1, retries=1)
        fake.faults = []
        before = len(fake.asked)
        texts, asker = _ask(fake, tmp_path / "j", 20)
    assert texts == [f"答：问题{n}" for n in range(20)]
    assert len(fake.asked) - before == 20 - asker.usage.replayed == 13


def test_a_line_cut_by_a_kill_is_asked_again_and_a_broken_one_refused(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    with LookalikeEndpoint(answer=_echo) as fake:
        _ask(fake, journal, 3)
        journal.write_bytes(journal.read_bytes()[:-5])
        texts, _ = _ask(fake, journal, 3)
        assert len(fake.asked) == 4 and texts[2] == "答：问题2"
        lines = journal.read_bytes().split(b"\n")
        journal.write_bytes(b"\n".join([lines[0], b"{broken", *lines[1:]]))
        with pytest.raises(CorruptError, match="line 2"):
            _ask(fake, journal, 3)


def test_equal_requests_are_one_question_and_a_tag_makes_them_two(tmp_path: Path) -> None:
    same = [{"role": "user", "content": "说点什么"}]
    ask = AskConfig()
    with LookalikeEndpoint(seconds=0.05) as fake:
        with Asker(Endpoint(fake.url, "m", ask), Journal(tmp_path / "j"), ask) as asker:
            list(asker.replies([Request(same), Request(same), Request(same, "2")]))
        assert len(fake.asked) == 2 == asker.usage.requests


@pytest.mark.parametrize("cap", [60, 200, 1000])
def test_the_token_cap_is_never_exceeded(tmp_path: Path, cap: int) -> None:
    with LookalikeEndpoint(answer=lambda body: "答" * 20, seconds=0.01) as fake:
        texts, asker = _ask(fake, tmp_path / "j", 60, token_cap=cap, max_tokens=20)
        used = asker.usage.prompt_tokens + asker.usage.answer_tokens
        assert asker.capped and used <= cap and len(texts) == len(fake.asked)
        # A larger cap goes on, and counts what was used before.
        more, later = _ask(fake, tmp_path / "j", 60, token_cap=2 * cap, max_tokens=20)
        assert more[: len(texts)] == texts and len(more) > len(texts)
        assert later.usage.prompt_tokens + later.usage.answer_tokens <= 2 * cap


def test_the_cost_cap_counts_in_prices(tmp_path: Path) -> None:
    prices = {"price_prompt": 1e6, "price_answer": 2e6}  # 1 a token of a prompt, 2 of an answer
    with LookalikeEndpoint(answer=_echo) as fake:
        _, asker = _ask(fake, tmp_path / "j", 60, cost_cap=300.0, max_tokens=10, **prices)
    spent = asker.usage.prompt_tokens + 2 * asker.usage.answer_tokens
    assert asker.capped and 240 < spent <= 300


def test_a_cap_without_counts_cannot_be_kept(tmp_path: Path) -> None:
    with LookalikeEndpoint(usage=False) as fake:
        with pytest.raises(EndpointError, match="no cap can be kept"):
            _ask(fake, tmp_path / "j", 3, token_cap=10_000)
        texts, asker = _ask(fake, tmp_path / "k", 3)
    assert len(texts) == 3 == asker.usage.unreported


def test_an_endpoint_that_refuses_everything_ends_the_work(tmp_path: Path) -> None:
    refusals = [Fault(400, "no such parameter")] * 50
    said = r"8 requests in a row.*no such parameter"
    with LookalikeEndpoint(faults=refusals) as fake, pytest.raises(EndpointError, match=said):
        _ask(fake, tmp_path / "j", 50, concurrency=1)
    assert len(fake.asked) < 12


def test_no_request_is_taken_further_ahead_than_the_window(tmp_path: Path) -> None:
    taken, replied = 0, 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for request in _requests(100):
            taken += 1
            assert taken - replied <= WINDOW
            yield request

    ask = AskConfig(concurrency=16)
    with (
        LookalikeEndpoint(answer=_late_echo) as fake,
        Asker(Endpoint(fake.url, "m", ask), Journal(tmp_path / "j"), ask) as asker,
    ):
        for _ in asker.replies(requests()):
            replied += 1
    assert replied == 100


def test_what_is_still_under_way_at_the_end_is_counted(tmp_path: Path) -> None:
    ask = AskConfig(concurrency=4)
    journal = Journal(tmp_path / "j")
    with LookalikeEndpoint(answer=_echo, seconds=0.05) as fake:
        with Asker(Endpoint(fake.url, "m", ask), journal, ask) as asker:
            next(iter(asker.replies(_requests(100))))
        assert asker.usage.requests == len(fake.asked) == len(journal.replies)


# --- the folder beside the output ----------------------------------------------------------------


@dataclass(frozen=True)
class _Config:
    output: str = option("", help="")
    count: int = option(1, help="")
    seed: int = option(0, help="")
    force: bool = option(False, help="")
    ask: AskConfig = option(AskConfig(), help="")


def _publish(output: Path, config: _Config, *, complete: bool = True) -> bool:
    with working(dataclasses.replace(config, output=str(output)), grows=["count"]) as work:
        if work is None:
            return False
        with work.publish(complete=complete, facts={}) as folder:
            (folder / "part-00000.jsonl").write_text("{}\n")
    return True


def test_a_finished_output_is_complete_already_and_a_larger_count_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert _publish(output, _Config())
    assert not _publish(output, _Config())
    assert not _publish(output, _Config(ask=AskConfig(concurrency=9, cost_cap=0)))
    assert _publish(output, _Config(count=2))
    assert fs.read_json(output / "manifest.json")["options"]["count"] == 2
    assert (output / JOURNAL).is_file() and not (tmp_path / "out.partial").exists()


def test_an_output_that_a_cap_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    assert _publish(tmp_path / "out", _Config(), complete=False)
    assert _publish(tmp_path / "out", _Config())


def test_other_options_are_refused_by_name_and_force_begins_anew(tmp_path: Path) -> None:
    _publish(tmp_path / "out", _Config())
    with pytest.raises(InputError, match="seed was 0 and is 3"):
        _publish(tmp_path / "out", _Config(seed=3))
    assert _publish(tmp_path / "out", _Config(seed=3, force=True))


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    other = tmp_path / "out"
    other.mkdir()
    (other / "novel.txt").write_text("很久以前")
    for force in (False, True):
        with pytest.raises(InputError):
            _publish(other, _Config(force=force))
    assert (other / "novel.txt").read_text() == "很久以前"


def test_the_journal_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLLAMA_API_KEY", "sk-hidden")
    refused = Fault(400, "your key sk-hidden may not")
    with LookalikeEndpoint(faults=[refused]) as fake:
        _ask(fake, tmp_path / "j", 2)
    text = (tmp_path / "j").read_text()
    assert "sk-hidden" not in text and json.loads(text.split("\n")[0])["text"] in ("", "好的。")
