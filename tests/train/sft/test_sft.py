"""What `hanllama sft` makes of conversations: what enters, what is left out, and where it ends up.

Real files and real runs; the promises of the loop are in tests/reliability.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import chats
from hanllama import cli
from hanllama.base.errors import ConfigError, InputError
from hanllama.batches.mix import PackedRows
from hanllama.batches.shards import Shards, open_shards
from hanllama.model.card import read_card
from hanllama.model.checkpoint import load_model
from hanllama.model.folder import load_config, stop_ids
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.sft.config import SftConfig
from hanllama.train.sft.data import SHORTENED, TOO_LONG, fit, prepare, train_splits
from hanllama.train.sft.sft import neftune, noise_seeds, sft
from hanllama.train.sft.stages import Stages


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chats.base(tmp_path_factory.mktemp("sft") / "base")


def ask(question: str, *answers: str) -> dict[str, Any]:
    """A conversation: the question, then each answer, with 还有呢？ between them."""
    messages: list[dict[str, str]] = []
    for answer in answers:
        question, said = "还有呢？", question
        messages += [
            {"role": "user", "content": said},
            {"role": "assistant", "content": answer},
        ]
    return {"messages": messages}


def prepared(base: Path, data: Path, output: Path, context: int = 128, **changes: Any) -> Shards:
    """The shards that a run would train on."""
    config = chats.config(data, base, output, **changes)
    prepare(config, load_tokenizer(base), context, must_be_there=False)
    return open_shards(output / "data")


def left_out(output: Path) -> list[dict[str, Any]]:
    path = output / "data" / "left_out.jsonl"
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


def test_every_layout_is_found_and_what_does_not_fit_is_quarantined(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    chats.write(
        folder / "a.jsonl",
        [
            {"instruction": "谁在河边？", "input": "", "output": "小明在河边。"},
            {"instruction": "空的回答", "input": "", "output": " "},
            "{broken",
            {"messages": [{"role": "assistant", "content": "我先说。"}]},
        ],
    )
    turns = [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "你好，老师。"}]
    (folder / "b.json").write_text(json.dumps([{"conversations": turns}] * 4), encoding="utf-8")
    run = tmp_path / "run"
    config = chats.config(
        folder, base, run, heldout_share=0.0, max_steps=1, max_quarantine_share=0.5
    )
    sft(config)
    shown, progress = capsys.readouterr()
    assert "(100 %)" in next(x for x in progress.split("\n")[::-1] if "encode conversations" in x)
    assert "a.jsonl: 1 alpaca" in shown and "b.json: 4 sharegpt" in shown
    assert "5 conversations, 3 quarantined" in shown
    lines = (run / "data" / "quarantine.jsonl").read_text().splitlines()
    found = [(Path(q["file"]).name, q["line"], q["reason"]) for q in map(json.loads, lines)]
    assert [(f, n) for f, n, _ in found] == [("a.jsonl", 2), ("a.jsonl", 3), ("a.jsonl", 4)]
    assert "empty" in found[0][2] and "begins with the assistant" in found[2][2]


def test_too_much_quarantine_fails_and_leaves_it_to_be_read(base: Path, tmp_path: Path) -> None:
    data = chats.write(tmp_path / "a.jsonl", [ask("问", "答"), "{broken", "{broken"])
    words = ["sft", str(data), "--base-model", str(base), "--output", str(tmp_path / "run")]
    assert cli.main([*words, "--template", "llama2", "--loop.device", "cpu"]) == 2
    assert len((tmp_path / "run/data/quarantine.jsonl").read_text().splitlines()) == 2
    good = chats.write(tmp_path / "b.jsonl", [ask("问", "答")])
    sft(chats.config(good, base, tmp_path / "run", max_steps=1))  # the folder is not spoiled


def test_only_answers_and_their_end_are_trained(base: Path, tmp_path: Path) -> None:
    data = chats.write(tmp_path / "a.jsonl", [ask("小明在哪里？", "小明在河边。", "没有了。")])
    shards = prepared(base, data, tmp_path / "run", heldout_share=0.0)
    tokenizer, split = load_tokenizer(base), shards.split("train")
    batch = PackedRows(split, 128, 0, 0).rows(np.array([0]))
    labels = batch.labels_RT[0]
    trained = [int(x) for x in labels if x >= 0]
    assert trained.count(tokenizer.eos_id) == 2
    said = tokenizer.decode([t for t in trained if t != tokenizer.eos_id])
    assert said.replace(" ", "") == "小明在河边。没有了。"
    assert PackedRows(split, 128, 0, 0).n_predictions == len(trained)


def test_a_long_conversation_loses_whole_turns_and_a_longer_one_is_left_out(
    base: Path, tmp_path: Path
) -> None:
    long = "小明在河边看见苹果。" * 40
    talks = [
        ask("问一", "短。", "也短。"),
        ask("问二", "短。", long),
        ask("问三", long),
        ask(long, "短。"),
    ]
    data = chats.write(tmp_path / "a.jsonl", talks)
    shards = prepared(base, data, tmp_path / "run", heldout_share=0.0)
    split = shards.split("train")
    assert split.n_documents == 2
    found = left_out(tmp_path / "run")
    assert [f["reason"] for f in found] == [SHORTENED, TOO_LONG, TOO_LONG]
    assert [f["id"].rsplit(":", 1)[1] for f in found] == ["2", "3", "4"]
    assert found[0]["messages_dropped"] == 2 and found[0]["tokens"] > 128
    template = ChatTemplate(load_tokenizer(base), "llama2")
    whole = template.encode(ask("问二", "短。")["messages"])
    starts = split.document_starts()
    second = split.read(int(starts[1]), int(starts[2] - starts[1]))
    assert second.tolist() == whole.ids[: len(second)].tolist()
    assert f"1 x {SHORTENED}" in "\n".join(shards.manifest["conversations"]["summary"])


def test_fit_keeps_what_just_fits_and_drops_one_token_more(base: Path) -> None:
    template = ChatTemplate(load_tokenizer(base), "llama2")
    talk = ask("问", "小明。", "小红。")["messages"]
    n = int(np.flatnonzero(template.encode(talk).mask)[-1]) + 1
    (whole,) = fit([talk], template, n)
    (cut,) = fit([talk], template, n - 1)
    assert whole.encoded is not None and whole.encoded.ids.size == n and not whole.reason
    assert cut.encoded is not None and cut.dropped == 2 and cut.reason == SHORTENED
    (none,) = fit([talk], template, 3)
    assert none.encoded is None and none.reason == TOO_LONG


def test_what_the_template_refuses_is_named_and_the_rest_is_trained(
    base: Path, tmp_path: Path
) -> None:
    """A template without tools: the one conversation with a tool's answer is left out by name."""
    with_tool = ask("查天气", "晴。")
    with_tool["messages"].insert(1, {"role": "tool", "content": "晴"})
    data = chats.write(tmp_path / "a.jsonl", [ask("问", "答"), with_tool])
    template = tmp_path / "plain.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
        "{% elif m.role == 'user' %}{{ bos_token + m.content }}"
        "{% else %}{{ '：' + m.content + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '：' }}{% endif %}"
    )
    shards = prepared(base, data, tmp_path / "run", heldout_share=0.0, template=str(template))
    assert shards.split("train").n_documents == 1
    (found,) = left_out(tmp_path / "run")
    assert "no tools" in found["reason"] and found["id"].endswith("a.jsonl:2")


def test_equal_prompts_are_on_one_side_and_stay_there(base: Path, tmp_path: Path) -> None:
    talks = [ask(f"第{i % 40}问", f"答{i}。") for i in range(120)]
    data = chats.write(tmp_path / "a.jsonl", talks)
    shards = prepared(base, data, tmp_path / "one", heldout_share=0.3)
    sides = {name: prompts(shards, name) for name in ("train", "heldout")}
    assert not set(sides["train"]) & set(sides["heldout"])
    assert 0.1 < len(set(sides["heldout"])) / 40 < 0.5
    more = chats.write(tmp_path / "b.jsonl", [*talks, ask("新的问题", "答。")])
    after = prompts(prepared(base, more, tmp_path / "two", heldout_share=0.3), "heldout")
    assert set(sides["heldout"]) <= set(after)


def prompts(shards: Shards, name: str) -> list[str]:
    """What comes before the first answer, of each conversation of a split."""
    split, tokenizer = shards.split(name), load_tokenizer(shards.tokenizer_folder)
    starts = split.document_starts()
    found = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        first = int(np.flatnonzero(split.read_mask(start, end - start))[0])
        found.append(tokenizer.decode(split.read(start, first).tolist()))
    return found


def test_held_out_files_take_their_prompts_out_of_training(base: Path, tmp_path: Path) -> None:
    data = chats.write(tmp_path / "a.jsonl", [ask("甲", "一"), ask("乙", "二")])
    held = chats.write(tmp_path / "b.jsonl", [ask("乙", "三")])
    shards = prepared(base, data, tmp_path / "run", heldout=(str(held),), heldout_share=0.9)
    assert shards.split("train").n_documents == shards.split("heldout").n_documents == 1
    (found,) = left_out(tmp_path / "run")
    assert found["reason"] == "its prompt is among the held-out ones"


def test_nothing_left_to_learn_from_is_an_error_with_the_counts(base: Path, tmp_path: Path) -> None:
    data = chats.write(tmp_path / "a.jsonl", [ask("问", "小明在河边看见苹果。" * 40)])
    with pytest.raises(InputError, match=f"no conversation is left.*{TOO_LONG}"):
        prepared(base, data, tmp_path / "run")


def test_the_result_is_a_chat_model_that_stops(base: Path, tmp_path: Path) -> None:
    """Template, stop ids and card are in the folder; a prompt's answer ends at the end token."""
    data = chats.write(tmp_path / "a.jsonl", [ask("小明在哪里？", "在河边。")] * 8)
    config = chats.config(
        data, base, tmp_path / "run", max_steps=150, heldout_share=0.0, sample_tokens=16,
        sample_prompts=("小明在哪里？",), packing=False,
    )  # fmt: skip
    sft(config)
    folder = tmp_path / "run" / "model"
    template = ChatTemplate(load_tokenizer(folder))
    assert template.source == ChatTemplate(load_tokenizer(base), "llama2").source
    assert stop_ids(folder, load_config(folder)) == tuple(template.end_ids)
    assert load_model(folder).stop_ids == tuple(template.end_ids)
    card = read_card(folder)
    assert card is not None and [s.name for s in card.lineage] == ["sft"]
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    samples = [line["samples"] for line in lines if "samples" in line]
    # The template has a space between the answer and its end token.
    assert [text.rstrip() for text in samples[-1]] == ["小明在哪里？\n在河边。"]


def test_a_template_whose_tokens_are_missing_is_refused_with_advice(
    base: Path, tmp_path: Path
) -> None:
    data = chats.write(tmp_path / "a.jsonl", [ask("问", "答")])
    own = tmp_path / "own.jinja"
    own.write_text("{#- needs: <|turn|> -#}" + chat.source("llama2"))
    with pytest.raises(ConfigError, match=r"<\|turn\|>.*choose another template"):
        prepared(base, data, tmp_path / "run", template=str(own))
    with pytest.raises(InputError, match="carries no chat template"):
        prepared(base, data, tmp_path / "run", template="")


def test_a_rerun_reads_the_data_it_made_and_makes_it_anew_when_the_input_changed(
    base: Path, tmp_path: Path
) -> None:
    data = chats.write(tmp_path / "a.jsonl", [ask("问", "答")])
    prepared(base, data, tmp_path / "run", heldout_share=0.0)
    marker = tmp_path / "run" / "data" / "manifest.json"
    before = marker.stat().st_mtime_ns
    prepared(base, data, tmp_path / "run", heldout_share=0.0)
    assert marker.stat().st_mtime_ns == before
    chats.write(data, [ask("问", "答"), ask("再问", "再答")])
    assert prepared(base, data, tmp_path / "run", heldout_share=0.0).split("train").n_documents == 2


def test_without_packing_each_conversation_has_a_row_cut_to_the_longest(
    base: Path, tmp_path: Path
) -> None:
    data = chats.write(tmp_path / "a.jsonl", chats.records(30))
    losses = {}
    for packing in (True, False):
        run = tmp_path / f"run-{packing}"
        shards = prepared(base, data, run, packing=packing, heldout_share=0.0)
        rows = PackedRows(shards.split("train"), 128, 0, 0, packing=packing)
        losses[packing] = rows.n_rows, rows.n_predictions
    assert losses[False][0] == 30 > 1.5 * losses[True][0]
    assert losses[False][1] == losses[True][1]


# --- NEFTune -------------------------------------------------------------------------------------


def test_neftune_by_hand() -> None:
    """Two conversations of 4 and 9 tokens and 3 of padding: bounds alpha/sqrt(L x width)."""
    documents = torch.tensor([[0] * 4 + [1] * 9 + [-1] * 3])
    positions = torch.tensor([[*range(4), *range(9), 0, 0, 0]])
    noise = neftune(positions, documents, 100, 5.0, [7])[0]
    assert noise.shape == (16, 100)
    for where, length in ((slice(0, 4), 4), (slice(4, 13), 9)):
        bound = 5.0 / math.sqrt(length * 100)
        assert 0.95 * bound < noise[where].abs().max() <= bound
        assert abs(float(noise[where].mean())) < bound / 10
    alone = neftune(positions[:, :4], None, 100, 5.0, [7])[0]
    assert torch.equal(alone, noise[:4]), "a row of one conversation is counted as one of several"


def test_noise_belongs_to_the_row_and_the_step() -> None:
    seeds = noise_seeds(0, 3, [4, 5, 6])
    assert noise_seeds(0, 3, [6, 4]) == [seeds[2], seeds[0]]
    others = [noise_seeds(0, 4, [4]), noise_seeds(1, 3, [4]), noise_seeds(3, 0, [4])]
    assert len({*seeds, *(o[0] for o in others)}) == 6


def test_neftune_is_no_part_of_evaluation(base: Path, tmp_path: Path) -> None:
    data = chats.write(tmp_path / "a.jsonl", chats.records(40))
    figures = {}
    for alpha in (0.0, 30.0):
        run = tmp_path / f"run-{alpha}"
        rate = {"optim": type(chats.config(data, base, run).optim)(learning_rate=1e-12)}
        sft(chats.config(data, base, run, max_steps=1, neftune_alpha=alpha, **rate))
        lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
        figures[alpha] = (
            next(line["loss"] for line in lines if "loss" in line),
            next(line["heldout_loss"] for line in lines if "heldout_loss" in line),
        )
    assert figures[0.0][0] != figures[30.0][0]
    assert abs(figures[0.0][1] - figures[30.0][1]) < 1e-6


# --- curriculum ----------------------------------------------------------------------------------


def staged(base: Path, tmp_path: Path, grades: list[Any], **changes: Any) -> Shards:
    talks = [{**ask(f"第{i}问", f"答{i}。"), "grade": g} for i, g in enumerate(grades)]
    data = chats.write(tmp_path / "a.jsonl", talks)
    return prepared(base, data, tmp_path / "run", heldout_share=0.0, curriculum="grade", **changes)


def test_stages_come_from_low_to_high_whatever_the_order_of_the_data(
    base: Path, tmp_path: Path
) -> None:
    shards = staged(base, tmp_path, [10, 2, "2", 10, 2.5, 2])
    assert [e["low"] for e in shards.manifest["stages"]] == [2, 2.5, 10]
    assert [shards.split(n).n_documents for n in train_splits(shards)] == [3, 1, 2]


def test_stages_of_equal_size_are_cut_from_a_range(base: Path, tmp_path: Path) -> None:
    grades = [((i * 37) % 100) / 100 for i in range(90)]
    shards = staged(base, tmp_path, grades, curriculum_stages=3)
    assert [shards.split(n).n_documents for n in train_splits(shards)] == [30, 30, 30]
    edges = [(e["low"], e["high"]) for e in shards.manifest["stages"]]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(edges))


def test_a_record_without_a_grade_is_quarantined(base: Path, tmp_path: Path) -> None:
    shards = staged(base, tmp_path, [1, 2, "hard", None, True, "nan"], max_quarantine_share=0.9)
    reasons = shards.manifest["conversations"]["reasons"]
    assert reasons == {"curriculum: field 'grade' holds no number": 3}
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match="more than 100"):
        staged(base, tmp_path / "x", [i / 7 for i in range(120)])


def test_each_stage_ends_before_the_next_begins_and_repeats_its_own_rows(
    base: Path, tmp_path: Path
) -> None:

    shards = staged(base, tmp_path, [1] * 5 + [2] * 3 + [3] * 4)
    parts = [PackedRows(shards.split(n), 128, 0, 0, packing=False) for n in train_splits(shards)]
    stages = Stages(parts, total_rows=24, seed=0)
    assert stages.n_rows == 12
    steps = [stages.batch(step, 4).tolist() for step in range(6)]
    order = [row for step in steps for row in step]
    assert order[:10] != sorted(order[:10]), "shuffled inside a stage"
    assert Counter(order) == dict.fromkeys(range(12), 2), "two epochs"
    stage_of = [0 if r < 5 else 1 if r < 8 else 2 for r in order]
    assert stage_of == sorted(stage_of)
    assert stages.batch(4, 4).tolist() == steps[4], "a pure function of the step"
    mixed = stages.rows(np.array([0, 6, 11]))
    for place, (part, row) in enumerate([(0, 0), (1, 1), (2, 3)]):
        one = parts[part].rows(np.array([row]))
        assert mixed.tokens_RT[place].tolist() == one.tokens_RT[0].tolist()
        assert mixed.labels_RT[place].tolist() == one.labels_RT[0].tolist()
    assert stages.weights(np.array([0, 6])).tolist() == [
        int(parts[0].weights(np.array([0]))[0]),
        int(parts[1].weights(np.array([1]))[0]),
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"heldout_share": 2.0}, {"context": 1}, {"neftune_alpha": -1.0}, {"curriculum_stages": 2}],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SftConfig(data=("a",), base_model="b", output="c", **wrong)
