"""A chat model's answers follow from model, prompt and stream, not from the batch they came in."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import folders
from hanllama.base.errors import InputError
from hanllama.model.answers import Answerer
from hanllama.model.decode import generate_tokens
from hanllama.model.sampling import Sampling

SAMPLING = Sampling(max_new_tokens=20, temperature=1.0, seed=3)
PROMPTS = [
    [{"role": "user", "content": text}]
    for text in ("小明在河边看见什么？", "好", "奶奶在家里画了西瓜。" * 4, "小狗呢？", "阿花！")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.chat_model(tmp_path_factory.mktemp("chat"), seed=5)


def test_an_answer_does_not_depend_on_its_batch(folder: Path) -> None:
    answerer = Answerer(folder, device="cpu")
    together = answerer(PROMPTS, SAMPLING, samples=3, batch=32)
    apart = answerer(PROMPTS, SAMPLING, samples=3, batch=2)
    assert together == apart
    assert [len(answers) for answers in together] == [3] * len(PROMPTS)
    assert len({answer.text for answers in together for answer in answers}) > len(PROMPTS)


def test_an_answer_is_what_the_decoder_writes_after_the_templates_prompt(folder: Path) -> None:
    answerer = Answerer(folder, device="cpu")
    told: list[int] = []
    found = answerer(PROMPTS, SAMPLING, batch=2, answered=told.append)
    assert told == [2, 2, 1]
    ends = answerer.template.end_ids
    for number, (answer,) in enumerate(found):
        prompt = answerer.template.prompt(PROMPTS[number])
        ids = generate_tokens(answerer.model, [prompt], SAMPLING, ends, streams=[number])[0]
        assert (answer.prompt_ids, answer.ids) == (prompt, ids)
        assert answer.complete == (ids[-1] in ends)
        assert "<|im_end|>" not in answer.text


def test_a_base_model_and_a_prompt_beyond_the_context_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    long = [[{"role": "user", "content": "小明在河边看见了苹果。" * 60}]]
    with pytest.raises(InputError, match="context is 160"):
        Answerer(folder, device="cpu")(long, SAMPLING)
    with pytest.raises(InputError, match="carries no chat template"):
        Answerer(folders.tokenizer(tmp_path / "tokenizer"), device="cpu")
