"""Pairs become tokens: what counts, what is left out and said, who is held out, what is kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import pairs, rollouts
from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.parallel import World
from hanllama.train.preferences.data import Row, reference_log_probs
from hanllama.train.preferences.dpo import dpo
from hanllama.train.preferences.objective import Watch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("preference")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return pairs.base_model(folder / "base")


def texts(base: Path, row: Row) -> list[tuple[str, str]]:
    """(what is looked at, what counts) of both sequences."""
    tokens = load_tokenizer(base)
    return [
        (tokens.decode(s.ids[~s.mask].tolist()), tokens.decode(s.ids[s.mask].tolist()))
        for s in (row.first, row.second)
    ]


def test_only_the_last_answer_counts_and_nothing_lies_behind_it(base: Path, tmp_path: Path) -> None:
    """Earlier answers of a conversation are looked at; ChatML's newline at the end is cut off."""
    prompt = [
        {"role": "user", "content": "小明在河边"},
        {"role": "assistant", "content": "看见苹果"},
        {"role": "user", "content": "老王呢"},
    ]
    record = {"prompt": prompt, "chosen": "老王在学校。", "rejected": "小狗"}
    data = pairs.write(tmp_path / "data.jsonl", [record])
    (row,) = pairs.rows(base, data).train
    (before, good), (same, bad) = texts(base, row)
    assert (good.strip(), bad.strip()) == ("老王在学校。", "小狗")
    assert before == same and "看见苹果" in before
    ends = ChatTemplate(load_tokenizer(base)).end_ids
    for sequence in (row.first, row.second):
        assert sequence.ids[-1] in ends and sequence.mask[-1]
    assert row.answer_tokens == (int(row.first.mask.sum()), int(row.second.mask.sum()))


def bad_records() -> list[dict[str, Any]]:
    return [
        {"prompt": "小明在哪", "chosen": "河边", "rejected": "河边"},
        {"prompt": "小明在哪", "chosen": "河边", "rejected": " "},
        {
            "prompt": [{"role": "assistant", "content": "我是小明"}],
            "chosen": "河边",
            "rejected": "山上",
        },
        {"prompt": "小明在哪" * 100, "chosen": "河边", "rejected": "山上"},
    ]


def test_bad_lines_are_counted_named_and_kept(base: Path, tmp_path: Path) -> None:
    """Equal sides, an empty answer, a conversation that begins with the assistant, too long."""
    data = pairs.write(tmp_path / "data.jsonl", [*bad_records(), *pairs.records(6)])
    found = pairs.rows(base, data, notes=tmp_path)
    assert len(found.train) == 6
    kept = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [entry["line"] for entry in kept] == [1, 2, 3]
    reasons = [entry["reason"] for entry in kept]
    assert "equal" in reasons[0] and "empty" in reasons[1] and "begins with" in reasons[2]
    (skipped,) = [json.loads(x) for x in (tmp_path / "left_out.jsonl").read_text().splitlines()]
    assert skipped["id"].endswith("data.jsonl:4") and skipped["tokens"] > 160
    assert "3 quarantined" in found.summary and "1 longer than 160 tokens" in found.summary


@pytest.mark.parametrize("paired", [True, False])
def test_what_the_template_cannot_render_is_left_out_and_named(
    base: Path, tmp_path: Path, paired: bool
) -> None:
    tool = [
        {"role": "user", "content": "小明在哪"},
        {"role": "assistant", "content": "问一问"},
        {"role": "tool", "content": "河边"},
    ]
    record = {"prompt": tool, "chosen": "在河边", "rejected": "在山上"}
    data = pairs.write(tmp_path / "d.jsonl", [record, *pairs.records(6)])
    found = pairs.rows(base, data, notes=tmp_path, paired=paired, template="llama2")
    named = [json.loads(x) for x in (tmp_path / "left_out.jsonl").read_text().splitlines()]
    assert len(named) == (1 if paired else 2)
    assert named[0]["id"].endswith("d.jsonl:1")
    assert len(found.train) == (6 if paired else 12)
    assert "refused by the chat template" in found.summary


def test_too_many_bad_lines_end_the_run_before_it_begins(base: Path, tmp_path: Path) -> None:
    data = pairs.write(tmp_path / "data.jsonl", [*bad_records(), *pairs.records(6)])
    with pytest.raises(InputError, match="more than the share of"):
        dpo(pairs.dpo_config(data, tmp_path / "run", base))
    assert not (tmp_path / "run" / "config.yaml").exists()
    with pytest.raises(InputError, match="no pairs are left to learn from: 7 are longer"):
        pairs.rows(base, data, context=5)
    config = pairs.dpo_config(data, tmp_path / "run", base, context=1000)
    with pytest.raises(ConfigError, match="context 1000 exceeds the 160"):
        dpo(config)


def test_equal_prompts_are_held_out_together(base: Path, tmp_path: Path) -> None:
    """Three answers to each question: none has some here and some there."""
    made = []
    for record in pairs.records(30):
        made += [{**record, "rejected": record["rejected"] + end} for end in ("吗", "呢", "吧")]
    data = pairs.write(tmp_path / "data.jsonl", made)
    found = pairs.rows(base, data, heldout_share=0.3)
    train, heldout = ({row.prompt for row in part} for part in (found.train, found.heldout))
    assert not train & heldout
    assert len(train | heldout) == len({record["prompt"] for record in made})
    assert 0.1 < len(heldout) / len(train | heldout) < 0.6
    assert all(n % 3 == 0 for n in Counter(row.prompt for row in found.heldout).values())
    # More data moves nobody from one side to the other.
    more = pairs.write(tmp_path / "more.jsonl", [*pairs.records(9, 8), *made])
    again = pairs.rows(base, more, heldout_share=0.3)
    assert heldout <= {row.prompt for row in again.heldout}


def test_unpaired_rows_lie_beside_another_prompts_answer(base: Path, tmp_path: Path) -> None:
    made = pairs.records(12)
    data = pairs.write(tmp_path / "data.jsonl", made)
    rows = pairs.rows(base, data, paired=False).train
    assert [row.good for row in rows] == [True, False] * 12
    answers_to: dict[str, set[str]] = {}
    for row in rows:
        (prompt, answer), _ = texts(base, row)
        answers_to.setdefault(prompt, set()).add(answer)
    for row in rows:
        (prompt, _), (same, other) = texts(base, row)
        assert prompt == same
        assert any(other in a for p, a in answers_to.items() if p != prompt)
    lone = pairs.write(tmp_path / "lone.jsonl", made[:1])
    with pytest.raises(InputError, match="answer the same one"):
        pairs.rows(base, lone, paired=False)


def test_the_reference_is_asked_once(base: Path, tmp_path: Path) -> None:
    """What it said is found again; for another reference it is asked anew; damage is refused."""
    data = pairs.write(tmp_path / "data.jsonl", pairs.records(5))
    rows = pairs.rows(base, data).train
    asked = []

    def of_rows(part: Any) -> Any:
        asked.extend(part)
        return np.array([[-float(row.first.ids.size), -1.5] for row in part])

    def get(fingerprint: str) -> Any:
        return reference_log_probs(
            rows,
            of_rows,
            kept=tmp_path / "reference",
            fingerprint=fingerprint,
            micro_batch_size=2,
            world=World(),
            device=torch.device("cpu"),
        )

    first = get("one")
    assert first.tolist() == [[-float(row.first.ids.size), -1.5] for row in rows]
    assert np.array_equal(get("one"), first) and len(asked) == 5
    assert np.array_equal(get("other"), first) and len(asked) == 10
    (tmp_path / "reference" / "log_probs.npy").write_bytes(b"nothing")
    with pytest.raises(CorruptError, match="log_probs"):
        get("other")


def test_a_killed_reference_pass_begins_again(base: Path, tmp_path: Path) -> None:
    """A run that died before its first step left data/ alone: that is no foreign folder."""
    data = pairs.write(tmp_path / "data.jsonl", pairs.records(20))
    run = tmp_path / "run"
    (run / "data" / ".tmp-reference-train").mkdir(parents=True)
    (run / "data" / ".tmp-reference-train" / "log_probs.npy").write_bytes(b"half")
    dpo(pairs.dpo_config(data, run, base, loop={"max_steps": 1}))
    assert (run / "data" / "reference-train" / "SHA256SUMS").is_file()
    assert (run / "model" / "model.safetensors").is_file()


def test_another_template_travels_with_the_result(base: Path, tmp_path: Path) -> None:
    data = pairs.write(tmp_path / "data.jsonl", pairs.records(20))
    config = pairs.dpo_config(
        data, tmp_path / "run", base, template="llama2", loop={"max_steps": 1}
    )
    dpo(config)
    written = (tmp_path / "run" / "model" / "chat_template.jinja").read_text()
    assert "[INST]" in written and "im_start" not in written


def figures(accuracy: float, drift: float) -> dict[str, float]:
    return {"accuracy": accuracy, "drift_chosen": drift}


def test_alarms_are_raised_once_and_again_when_it_gets_worse() -> None:
    watch = Watch()
    assert watch.look_at({}) == [] == watch.look_at(figures(0.5, -0.4))
    assert "0.60 nats per token" in watch.look_at(figures(0.5, -0.6))[0]
    assert watch.look_at(figures(0.5, -0.9)) == []
    assert "1.10 nats per token" in watch.look_at(figures(0.5, -1.1))[0]


def test_alarms_are_the_same_after_a_resume() -> None:
    """Neither repeated nor missed: a checkpoint holds what they depend on."""
    course = [figures(1.0, -0.6)] * 30
    whole, before, after = Watch(), Watch(), Watch()
    expected = [whole.look_at(step) for step in course]
    found = [before.look_at(step) for step in course[:12]]
    after.restore(json.loads(json.dumps(before.state())))
    assert found + [after.look_at(step) for step in course[12:]] == expected
    assert [number for number, alarms in enumerate(expected) if alarms] == [0, 19]


@pytest.mark.parametrize(("accuracy", "words"), [(1.0, "ranked right"), (0.0, "ranked wrong")])
def test_alarms_of_an_accuracy_that_says_nothing(accuracy: float, words: str) -> None:
    watch = Watch()
    found = [watch.look_at(figures(accuracy, 0.0)) for _ in range(20)]
    assert not any(found[:19]) and words in found[19][0]
    mixed = Watch()
    assert not any(mixed.look_at(figures(accuracy if i % 19 else 0.5, 0.0)) for i in range(60))


def test_placeholders_are_filled(base: Path, tmp_path: Path) -> None:
    record = {"prompt": "你是谁？", "chosen": "我是{{name}}。", "rejected": "{{name}}"}
    data = pairs.write(tmp_path / "data.jsonl", [record])
    (row,) = pairs.rows(base, data, fill=("name=小明",)).train
    (_, good), (_, bad) = texts(base, row)
    assert (good.strip(), bad.strip()) == ("我是小明。", "小明")
    config = pairs.dpo_config(data, tmp_path / "run", base, fill=("小明",))
    with pytest.raises(ConfigError, match="not of the form name=value"):
        dpo(config)


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"context": 16}, "has 16 positions, and .* are needed"), ({"vocab_size": 380}, "tokenizer")],
)
def test_a_reference_that_would_read_something_else_is_refused(
    base: Path, tmp_path: Path, changed: dict[str, int], words: str
) -> None:
    data = pairs.write(tmp_path / "data.jsonl", pairs.records(20))
    other = rollouts.chat_model(tmp_path / "other", **changed)  # type: ignore[arg-type]
    given = {"reference_model": str(other), "loop": {"max_steps": 1}}
    with pytest.raises(InputError, match=f"reference model .*{words}.*cannot be compared"):
        dpo(pairs.dpo_config(data, tmp_path / "run", base, **given))


def test_a_reference_for_a_loss_without_one_is_refused(base: Path, tmp_path: Path) -> None:
    config = pairs.dpo_config(
        tmp_path / "data.jsonl", tmp_path / "run", base, loss="simpo", reference_model=str(base)
    )
    with pytest.raises(ConfigError, match="simpo uses no reference_model"):
        dpo(config)
