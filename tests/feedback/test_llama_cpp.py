"""The client against a server that is not ours: llama.cpp's, over HTTP, with a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import folders
from builders.llama_server import LlamaCpp, write
from hanllama.feedback.asking import Asker, Journal, Request
from hanllama.feedback.endpoint import Endpoint
from hanllama.feedback.options import AskConfig

ASK = [{"role": "user", "content": "小明在哪里？"}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("llama_cpp")
    server = LlamaCpp(write(folders.tokenizer(place / "tokenizer"), place / "tiny.gguf"))
    yield f"{server.url}/v1"


def test_an_answer_and_its_counts(url: str) -> None:
    reply = Endpoint(url, "tiny", AskConfig(max_tokens=5, retries=0)).chat(ASK)
    assert reply.refused == "" and reply.finish == "length" and reply.text
    assert reply.answer_tokens == 5 and reply.prompt_tokens is not None
    # The promise that the budget stands on: no prompt has more tokens than bytes and its template.
    assert reply.prompt_tokens <= len(ASK[0]["content"].encode()) + 16


def test_a_prompt_beyond_the_context_is_a_refused_reply_and_not_the_end(
    url: str, tmp_path: Path
) -> None:
    ask = AskConfig(max_tokens=4, retries=0, concurrency=2)
    long = [{"role": "user", "content": "小明在河边看见苹果。" * 40}]
    requests = [Request(ASK), Request(long), Request(ASK, "again")]
    with Asker(Endpoint(url, "tiny", ask), Journal(tmp_path / "j"), ask) as asker:
        replies = list(asker.replies(requests))
    assert [bool(reply.refused) for reply in replies] == [False, True, False]
    assert "400" in replies[1].refused and "context" in replies[1].refused
    assert (asker.usage.requests, asker.usage.refused) == (3, 1)
