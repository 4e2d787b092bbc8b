"""Obedience is counted as the gold checker says, with honest intervals and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import folders
from hanllama import cli
from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.evaluate.story_obeyed import Asked, Measured, mean_interval, obeyed, wilson
from hanllama.evaluate.story_options import ObeyedConfig
from hanllama.stories import tasks as story_tasks

MADE = list(story_tasks.instructions(30, seed=2, heldout=True))


def answers(path: Path, wrong: int) -> Path:
    """The 30 conversations with the first `wrong` answers replaced by nonsense."""
    lines = []
    for number, made in enumerate(MADE):
        messages = [dict(message) for message in made.messages]
        if number < wrong:
            messages[-1]["content"] = "我不知道。"
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_answers_from_a_file_are_judged_by_their_own_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = answers(tmp_path / "mine.jsonl", wrong=6)
    assert cli.main(["corpus", "obeyed", str(file), "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "80.0% (62.7%-90.5%)" in shown  # 24 of 30, Wilson
    assert "not obeyed: no story of the grammar" in shown and "模型：我不知道。" in shown
    fs.verify_sums(tmp_path / "out")
    figures = json.loads((tmp_path / "out" / "obeyed.json").read_text())
    assert figures[0]["obeyed"][0] == pytest.approx(0.8)
    assert figures[0]["by_kind"]["theme"][0] == pytest.approx(0.8)
    kept = (tmp_path / "out" / "answers-mine.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["obeyed"] for line in kept] == [False] * 6 + [True] * 24
    assert "我不知道" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_models_answer_the_same_prompts_and_are_compared_with_the_first(tmp_path: Path) -> None:
    first = folders.chat_model(tmp_path / "01-sft", seed=1)
    later = folders.chat_model(tmp_path / "02-dpo", seed=2)
    short = [m for m in MADE if m.task.kind != "question"][:6]  # the tiny context is 160
    prompts = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"messages": list(m.messages[:-1])}) + "\n" for m in short]
    prompts.write_text("".join(lines))
    config = ObeyedConfig(
        models=(str(first), str(first), str(later)),
        prompts=str(prompts),
        stories=3,
        max_new_tokens=12,
        device="cpu",
        batch=4,
    )
    base, same, other = obeyed(config)
    assert (base.name, same.name, other.name) == ("sft", "sft-2", "dpo")
    assert base.texts == same.texts != other.texts
    assert (base.kl, same.kl) == (None, 0.0) and other.kl is not None and other.kl > 0.1
    assert base.bits_per_byte == same.bits_per_byte != other.bits_per_byte
    assert [f.share()[0] for f in (base, same, other)] == [0, 0, 0]


def base_model(folder: Path) -> Path:
    """A chat model without what makes it one."""
    made = folders.chat_model(folder, seed=1)
    (made / "chat_template.jinja").unlink()
    fs.write_sums(made)
    return made


def test_a_base_model_is_not_asked_and_says_what_the_language_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_model(tmp_path / "05-pretrain")
    sft = folders.chat_model(tmp_path / "08-sft", seed=1)
    dpo = folders.chat_model(tmp_path / "12-dpo", seed=2)
    theme = [m for m in MADE if m.task.kind == "theme"][:4]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"messages": m.messages[:-1]}) + "\n" for m in theme))
    words = ["--prompts", str(prompts), "--stories", "3", "--max-new-tokens", "6"]
    words += ["--device", "cpu", "--output", str(tmp_path / "out")]
    capsys.readouterr()
    assert cli.main(["corpus", "obeyed", str(base), str(sft), str(dpo), *words]) == 0
    table = [line for line in capsys.readouterr().out.split("\n") if "%" in line or "asked" in line]
    assert table[0].split() == ["pretrain", "base", "model:", "not", "asked", table[0].split()[-1]]
    assert table[1].startswith("sft") and "points" not in table[1]
    assert table[2].startswith("dpo") and "+0.0 (+0.0 to +0.0) points" in table[2]
    first, second, third = json.loads(
        (tmp_path / "out" / "obeyed.json").read_text(), parse_constant=pytest.fail
    )
    nothing = {"theme": None, "words": None, "question": None}
    bits = first.pop("bits_per_byte")
    assert first == {
        "model": "pretrain",
        "base_model": True,
        "prompts": 0,
        "obeyed": None,
        "by_kind": nothing,
        "kl_nats": None,
    }
    assert bits == second["bits_per_byte"] != third["bits_per_byte"], "the same weights"
    assert second["by_kind"] == {**nothing, "theme": second["obeyed"]} and "gain" not in second
    assert second["kl_nats"] is None and third["kl_nats"] > 0 and third["gain"] == [0, 0, 0]
    assert sorted(path.name for path in (tmp_path / "out").glob("answers-*")) == [
        "answers-dpo.jsonl",
        "answers-sft.jsonl",
    ]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "base model: not asked" in page and "Chats of dpo" in page


def test_base_models_alone_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = base_model(tmp_path / "base")
    config = ObeyedConfig(
        models=(str(base),), stories=3, device="cpu", output=str(tmp_path / "out")
    )
    (found,) = obeyed(config)
    assert found.bits_per_byte and found.share() is None
    assert "base   base model: not asked" in capsys.readouterr().out
    assert "Chats" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_gain_is_counted_prompt_by_prompt() -> None:
    asked = [Asked(m.messages[:-1], m.task) for m in MADE[:4]]

    def measured(*obedient: bool) -> Measured:
        judged = [story_tasks.Judgement(o, "" if o else "no") for o in obedient]
        return Measured("m", asked, ["…"] * 4, judged)

    before, after = measured(True, False, False, False), measured(True, True, True, False)
    # Differences 0, 1, 1, 0: mean 0.5, sample deviation 0.5774, over 2 and by 1.96.
    assert after.gain(before) == pytest.approx((0.5, 0.5 - 0.5658, 0.5 + 0.5658), abs=1e-4)


def test_intervals_by_hand() -> None:
    assert wilson(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.0, 0.1611), abs=1e-4)
    assert wilson(20, 20)[2] == 1.0
    assert mean_interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no conversation"),
        ("nonsense\n", "line 1: invalid JSON"),
        ('{"messages": 3}\n', "line 1: no conversation"),
        (
            '{"messages": [{"role": "user", "content": "你好"}]}\n',
            "line 1: not a story",
        ),
    ],
)
def test_what_cannot_be_judged_is_an_error_with_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        obeyed(ObeyedConfig(models=(str(tmp_path / "a.jsonl"),)))


def test_an_output_stays_unless_forced_and_options_are_checked(tmp_path: Path) -> None:
    file = str(answers(tmp_path / "mine.jsonl", wrong=0))
    output = str(tmp_path / "out")
    obeyed(ObeyedConfig(models=(file,), output=output))
    with pytest.raises(InputError, match="--force"):
        obeyed(ObeyedConfig(models=(file,), output=output))
    assert obeyed(ObeyedConfig(models=(file,), output=output, force=True))[0].share()[0] == 1.0
    with pytest.raises(ConfigError, match=r"count must be .* not 0"):
        ObeyedConfig(models=(file,), count=0)
    with pytest.raises(InputError, match="cannot be read"):
        obeyed(ObeyedConfig(models=("absent.jsonl",)))
