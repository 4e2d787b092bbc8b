"""Memory that runs out while answers are written: smaller batches, the same answers, a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import folders
from hanllama import cli
from hanllama.base.errors import HanllamaError
from hanllama.model import decode as decoding
from hanllama.model import generate
from hanllama.model.answers import Answerer
from hanllama.model.batches import FittingBatches
from hanllama.model.decode import Token
from hanllama.model.sampling import Sampling

PLAIN = decoding.decode


def decoder_that_holds(rows: int) -> Callable[..., Iterator[Token]]:
    """The decoder on a device whose memory ends at the third token of more than so many rows."""

    def small_memory(
        model: Any, prompts: Sequence[Any], *rest: Any, **more: Any
    ) -> Iterator[Token]:
        for number, token in enumerate(PLAIN(model, prompts, *rest, **more)):
            if len(prompts) > rows and number == 2 * len(prompts):
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield token

    return small_memory


def test_a_batch_that_does_not_fit_is_halved_and_so_are_all_later_ones() -> None:
    told: list[str] = []
    tried: list[list[int]] = []

    def write(jobs: Sequence[int]) -> list[int]:
        tried.append(list(jobs))
        if len(jobs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(jobs)

    batches = FittingBatches(5, "rollout.batch", tell=told.append)
    assert [n for part in batches(range(7), write) for n in part] == list(range(7))
    assert tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3], [4, 5], [6]] and batches.size == 2
    assert told == [
        "out of memory while answers were written with rollout.batch 5; going on with 2"
    ]
    assert list(batches([], write)) == []


@pytest.mark.parametrize(
    ("size", "may_halve", "message"),
    [
        (1, True, "rollout.batch 1: lower rollout.max_new_tokens, or choose a smaller model"),
        (4, True, "rollout.batch 1: lower rollout.max_new_tokens, or choose a smaller model"),
        (4, False, "rollout.batch 4: lower rollout.batch or rollout.max_new_tokens, or choose"),
    ],
)
def test_where_nothing_fits_the_setting_is_named(size: int, may_halve: bool, message: str) -> None:
    def write(jobs: Sequence[int]) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
        )

    batches = FittingBatches(size, "rollout.batch", may_halve=may_halve, tell=lambda text: None)
    with pytest.raises(HanllamaError, match=message):
        list(batches(range(4), write))


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def write(jobs: Sequence[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(FittingBatches(4, "batch")(range(4), write))


def test_a_chat_models_answers_are_the_same_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answerer = Answerer(folders.chat_model(tmp_path / "chat", seed=5), device="cpu")
    prompts = [[{"role": "user", "content": text}] for text in ("好", "小狗呢？", "阿花！", "苹果")]
    sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=3)
    whole = answerer(prompts, sampling, samples=2)
    monkeypatch.setattr(decoding, "decode", decoder_that_holds(3))
    counted: list[int] = []
    assert answerer(prompts, sampling, samples=2, batch=8, answered=counted.append) == whole
    assert counted == [2, 2, 2, 2]
    said = capsys.readouterr().err
    assert "with batch 8; going on with 4" in said and "with batch 4; going on with 2" in said
    assert answerer(prompts, sampling, samples=2, batch=8) == whole
    assert capsys.readouterr().err == "", "what fits is known by now"


def test_generate_writes_the_same_texts_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = folders.chat_model(tmp_path / "chat", seed=5)
    words = ["generate", str(model), "--prompt", "小明", "--count", "5", "--max-new-tokens", "9"]
    words += ["--device", "cpu", "--temperature", "1"]
    capsys.readouterr()
    assert cli.main(words) == 0
    whole = capsys.readouterr().out
    monkeypatch.setattr(generate, "decode", decoder_that_holds(2))
    assert cli.main(words) == 0
    shown = capsys.readouterr()
    assert shown.out == whole and "with batch 5; going on with 2" in shown.err
    monkeypatch.setattr(generate, "decode", decoder_that_holds(0))
    assert cli.main(words) == 2
    assert "batch 1: lower max_new_tokens, or choose a smaller model" in capsys.readouterr().err
