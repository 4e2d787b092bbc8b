"""How hard a conversation is: by a local model, by a judge, or as it stands in the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.endpoint import LookalikeEndpoint
from builders.judges import TOOL, lines_of
from hanllama.base.errors import ConfigError, InputError
from hanllama.feedback.endpoint import Reply
from hanllama.feedback.grade import GradeConfig, grade, read_grade
from hanllama.feedback.options import JudgeConfig
from hanllama.model.checkpoint import load_model
from hanllama.model.losses import token_log_probs
from hanllama.tokenizer import chat
from hanllama.tokenizer.load import load_tokenizer


def _talks(path: Path) -> list[dict[str, Any]]:
    records = [
        {
            "messages": [
                {"role": "user", "content": "小明在哪里？"},
                {"role": "assistant", "content": "小明在河边看见苹果。"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "你好"},
                {"role": "assistant", "content": "你好。"},
                {"role": "user", "content": "谁在山上？"},
                {"role": "assistant", "content": "老王在山上画了小船。"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "长" * 100},
                {"role": "assistant", "content": "好"},
            ]
        },
    ]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return records


@pytest.mark.parametrize("by", ["perplexity", "ifd"])
def test_a_local_models_grade_is_its_definition(
    tmp_path: Path, models: tuple[Path, Path], by: Any
) -> None:
    records = _talks(tmp_path / "talks.jsonl")
    config = GradeConfig(
        inputs=(str(tmp_path / "talks.jsonl"),),
        output=str(tmp_path / "out"),
        by=by,
        model=str(models[0]),
        device="cpu",
    )
    assert grade(config) == 2
    model, tokenizer = load_model(models[0]), load_tokenizer(models[0])
    template = chat.ChatTemplate(tokenizer)

    def losses(ids: list[int]) -> torch.Tensor:
        tokens = torch.tensor([ids])
        with torch.no_grad():
            hidden = model.hidden(tokens)[0, :-1]
            return -token_log_probs(hidden, model.output_weight(), tokens[0, 1:])

    graded = lines_of(tmp_path / "out" / "part-00000.jsonl")
    for record, found in zip(records[:-1], graded, strict=True):  # the last one is too long
        encoded = template.encode(record["messages"])
        ids, mask = encoded.ids.tolist(), torch.from_numpy(encoded.mask)
        given = losses(ids)[mask[1:]].mean()
        wanted = given.exp()
        if by == "ifd":
            alone, span = [], []
            for token, counts in zip([*ids, 0], [*mask.tolist(), False], strict=True):
                if counts:
                    span.append(token)
                elif span:
                    alone.append(losses([tokenizer.bos_id or 0, *span]))
                    span = []
            wanted = (given - torch.cat(alone).mean()).exp()
        assert found["grade"] == pytest.approx(float(wanted), rel=1e-4)
    dropped = lines_of(tmp_path / "out" / "dropped.jsonl")
    assert "context of 160" in dropped[0]["reason"]


def test_what_the_template_refuses_gets_no_grade_and_the_others_do(
    tmp_path: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "talks.jsonl"
    talks = [{"messages": m} for m in (TOOL, [TOOL[0], TOOL[3]])]
    source.write_text("".join(json.dumps(t) + "\n" for t in talks))
    config = GradeConfig(
        inputs=(str(source),), output=str(tmp_path / "out"), model=str(models[0]), device="cpu"
    )
    assert grade(config) == 1
    (dropped,) = lines_of(tmp_path / "out" / "dropped.jsonl")
    assert dropped["messages"] == TOOL and "not tool" in dropped["reason"]
    assert "1 x chat template" in capsys.readouterr().out


def test_a_judge_grades_and_what_it_does_not_grade_is_dropped(tmp_path: Path) -> None:
    _talks(tmp_path / "talks.jsonl")

    def judge(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        return "难度：2" if "小明" in text else "4" if "山上" in text else "不好说"

    with LookalikeEndpoint(answer=judge) as fake:
        config = GradeConfig(
            inputs=(str(tmp_path / "talks.jsonl"),),
            output=str(tmp_path / "out"),
            by="judge",
            endpoint=fake.url,
            judge="judge",
            ask=JudgeConfig(retries=0),
        )
        assert grade(config) == 2
        assert grade(config) is None and len(fake.asked) == 3
        assert "小明在河边看见" not in "".join(fake.contents())  # the task is graded, no answer
    found = lines_of(tmp_path / "out" / "part-00000.jsonl")
    assert [f["grade"] for f in found] == [2.0, 4.0] and found[0]["messages"]
    assert "no grade" in lines_of(tmp_path / "out" / "dropped.jsonl")[0]["reason"]


def test_grades_that_stand_by_themselves() -> None:
    said = {"3": 3, "难度：5。": 5, "我给4分": 4, "10": None, "3.5": None, "很难": None, "6": None}
    assert {text: read_grade(Reply(text)) for text in said} == said


@pytest.mark.parametrize("wrong", [{"by": "judge"}, {"by": "ifd"}, {"model": "m", "batch": 0}])
def test_a_grade_needs_somebody_who_grades(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GradeConfig(inputs=("x",), output=str(tmp_path / "out"), **wrong)


def test_nothing_graded_is_an_error(tmp_path: Path) -> None:
    _talks(tmp_path / "talks.jsonl")
    with LookalikeEndpoint(answer=lambda body: "不知道") as fake:
        config = GradeConfig(
            inputs=(str(tmp_path / "talks.jsonl"),),
            output=str(tmp_path / "out"),
            by="judge",
            endpoint=fake.url,
            judge="judge",
        )
        with pytest.raises(InputError, match="nothing could be graded"):
            grade(config)
