"""The best of n: chosen by rules, by a reward model, by people; nothing sampled twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.judges import TOOL, lines_of
from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.feedback import best_of_n as bn
from hanllama.model import answers as answering
from hanllama.model import reward
from hanllama.model.reward import load_reward_model
from hanllama.model.sampling import Sampling
from hanllama.talks.conversations import ConversationReader
from hanllama.talks.preferences import PreferenceReader
from hanllama.tokenizer import chat
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train import sequences


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    asked = [f"第{n}个问题是什么？" for n in range(20)]
    lines = [json.dumps({"prompt": q}, ensure_ascii=False) for q in [*asked, asked[0]]]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], bool]], None]:
    """Says which answers their writer ended: untrained models hardly ever do."""
    real = answering.Answerer._write

    def patch(ended: Callable[[str], bool]) -> None:
        def written(*words: Any) -> list[answering.Answer]:
            return [replace(a, complete=ended(a.text)) for a in real(*words)]

        monkeypatch.setattr(answering.Answerer, "_write", written)

    patch(lambda text: True)
    return patch


def _config(output: Path, *inputs: Path, **options: Any) -> bn.BestOfNConfig:
    settings: dict[str, Any] = {"n": 4, "max_new_tokens": 12, "device": "cpu", **options}
    return bn.BestOfNConfig(inputs=tuple(map(str, inputs)), output=str(output), **settings)


SHORT = ({"length": {"maximum": 3, "tolerance": 20.0}},)


@pytest.mark.usefixtures("ending")
def test_the_models_best_answer_by_rules(
    tmp_path: Path, models: tuple[Path, Path], prompts: Path
) -> None:
    out = tmp_path / "out"
    contests = bn.best_of_n(_config(out, prompts, model=str(models[0]), rules=SHORT))
    assert contests is not None and len(contests) == 20
    for contest in contests:
        assert contest.scores == sorted(contest.scores, reverse=True)
        assert len(set(contest.answers)) == len(contest.answers) == len(contest.scores) <= 4
    best = list(ConversationReader([str(out / "sft")]))
    assert [c.messages[-1]["content"] for c in best] == [c.answers[0] for c in contests]
    pairs = list(PreferenceReader([str(out / "pairs")]))
    differing = [c for c in contests if c.scores[0] > c.scores[-1]]
    assert [p.chosen for p in pairs] == [c.answers[0] for c in differing] and pairs
    assert all(p.margin is not None and p.margin > 0 for p in pairs)
    ranked = PreferenceReader([str(out / "candidates")])
    several = [c for c in contests if len(c.answers) > 1]
    assert [r.answers for r in ranked.ranked()] == [c.answers for c in several]
    assert ranked.quarantine.count == 0
    fs.verify_sums(out)


@pytest.mark.usefixtures("ending")
def test_answers_at_several_temperatures_and_several_pairs_of_a_prompt(
    tmp_path: Path, models: tuple[Path, Path], prompts: Path
) -> None:
    options = {"model": str(models[0]), "rules": SHORT, "n": 4}
    greedy = _config(tmp_path / "greedy", prompts, **options, temperature=(0.0,))
    best = {c.id: c.answers[0] for c in bn.best_of_n(greedy) or []}
    # One answer alone is nothing to rank: `data rank` would put it in quarantine.
    assert len(lines_of(tmp_path / "greedy" / "sft" / "part-00000.jsonl")) == len(best) == 20
    assert lines_of(tmp_path / "greedy" / "candidates" / "part-00000.jsonl") == []
    both = _config(tmp_path / "both", prompts, **options, temperature=(0.0, 2.0), pairs=2)
    contests = bn.best_of_n(both)
    assert contests
    for contest in contests:
        assert best[contest.id] in contest.answers  # two at temperature 0 are one answer
        assert len(contest.answers) <= 3
    four = bn.best_of_n(_config(tmp_path / "four", prompts, **options, pairs=2))
    expected = []
    for contest in four or []:
        for better, worse in ((0, -1), (1, -2)):
            if len(contest.answers) < 2 * (better + 1):
                break
            if contest.scores[better] > contest.scores[worse]:
                expected.append((contest.answers[better], contest.answers[worse]))
    pairs = list(PreferenceReader([str(tmp_path / "four" / "pairs")]))
    assert [(p.chosen, p.rejected) for p in pairs] == expected
    assert len(expected) > len({p.id for p in pairs}) > 0
    # Each is a whole Sampling, but for the seed: nothing that was asked for is left to a default.
    asked = {"max_new_tokens": 7, "top_k": 5, "top_p": 0.9}
    for at, sampling in zip((0.0, 2.0), replace(both, **asked).samplings(), strict=True):
        assert sampling == Sampling(temperature=at, **asked)
    with pytest.raises(ConfigError, match="evenly"):
        _config(tmp_path / "odd", prompts, **options, temperature=(0.3, 0.6, 1.0))


@pytest.mark.usefixtures("ending")
def test_a_stopped_run_samples_nothing_twice_and_ends_the_same(
    tmp_path: Path,
    models: tuple[Path, Path],
    prompts: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"model": str(models[0]), "rules": SHORT}
    monkeypatch.setattr(bn, "BLOCK", 16)
    bn.best_of_n(_config(tmp_path / "whole", prompts, **options))
    calls = []
    real = answering.Answerer.__call__

    def failing(self: Any, conversations: Any, *words: Any, **more: Any) -> Any:
        calls.append(len(conversations))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, conversations, *words, **more)

    monkeypatch.setattr(answering.Answerer, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        bn.best_of_n(_config(tmp_path / "out", prompts, **options))
    assert not (tmp_path / "out").exists()
    bn.best_of_n(_config(tmp_path / "out", prompts, **options))
    assert calls == [16, 4, 4]
    for name in ("sft", "pairs", "candidates"):
        part = f"{name}/part-00000.jsonl"
        assert (tmp_path / "out" / part).read_bytes() == (tmp_path / "whole" / part).read_bytes()


def test_of_equal_answers_the_one_that_ended_counts() -> None:
    ended, cut = bn.Candidate("好。"), bn.Candidate("好。\n\n", complete=False)
    assert bn._different([ended, cut]) == bn._different([cut, ended]) == [ended]


def test_an_answer_that_was_cut_off_is_only_ever_rejected(
    tmp_path: Path,
    models: tuple[Path, Path],
    prompts: Path,
    ending: Callable[[Callable[[str], bool]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ended(text: str) -> bool:
        return sum(map(ord, text)) % 2 == 0

    ending(ended)
    # Twelve tokens are all too long: what scores best is the longest.
    rules = ({"length": {"minimum": 200, "tolerance": 200.0}},)
    options = {"model": str(models[0]), "rules": rules, "pairs": 2, "least_gain": 0.001}
    out = tmp_path / "out"
    contests = bn.best_of_n(_config(out, prompts, **options)) or []
    flags = [[ended(a) for a in c.answers] for c in contests]
    assert flags == [sorted(f, reverse=True) for f in flags] and sum(not all(f) for f in flags) > 3
    assert any(c.scores != sorted(c.scores, reverse=True) for c in contests)  # by score it had won
    best = list(ConversationReader([str(out / "sft")]))
    assert len(best) == len(contests) and all(ended(c.messages[-1]["content"]) for c in best)
    pairs = list(PreferenceReader([str(out / "pairs")]))
    assert all(ended(str(p.chosen)) for p in pairs)
    assert any(not ended(str(p.rejected)) for p in pairs)
    assert all(p.margin is not None and p.margin > 0 for p in pairs)
    ranked = PreferenceReader([str(out / "candidates")])
    assert all(ended(a) for r in ranked.ranked() for a in r.answers) and ranked.usable
    lost = lines_of(out / "dropped.jsonl")
    assert len(lost) + len(contests) == 20 and lost and {e["reason"] for e in lost} == {bn.CUT}
    cut = sum(f.count(False) for f in flags)
    assert f"{cut} answers were cut off by max_new_tokens" in capsys.readouterr().out


@pytest.mark.parametrize("template", ["models", "chatml"])
def test_a_reward_model_scores_what_it_is_shown(
    tmp_path: Path, template: str, request: pytest.FixtureRequest
) -> None:
    """By the definition: the head at the answer's end token, though ChatML writes on behind it."""
    folder = request.getfixturevalue(template)[1]
    source = tmp_path / "ranked.jsonl"
    answers = ["小明在河边。", "奶奶画了西瓜，很红。", "好"]
    source.write_text(json.dumps({"prompt": "谁在河边？", "answers": answers}, ensure_ascii=False))
    contests = bn.best_of_n(_config(tmp_path / "out", source, reward_model=str(folder)))
    assert contests is not None
    tokenizer = load_tokenizer(folder)
    model, asked = load_reward_model(folder), chat.ChatTemplate(tokenizer)
    for text, score in zip(contests[0].answers, contests[0].scores, strict=True):
        said = [{"role": "user", "content": "谁在河边？"}, {"role": "assistant", "content": text}]
        whole = asked.encode(said).ids.tolist()
        ends = [place for place, token in enumerate(whole) if token in asked.end_ids]
        assert (ends[-1] == len(whole) - 1) == (template == "models")
        with torch.no_grad():
            hidden = model.hidden(torch.tensor([whole[: ends[-1] + 1]]))
            wanted = float(model.score(hidden[0, -1]))
        assert score == pytest.approx(wanted, abs=1e-5)


def test_shorter_answers_are_padded_with_a_token_that_ends_none(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "padding_id", lambda tokenizer, ends: 7)
    seen = []
    real = sequences.pack_sequences

    def packed(*words: Any) -> Any:
        seen.append(real(*words))
        return seen[-1]

    monkeypatch.setattr(sequences, "pack_sequences", packed)
    source = tmp_path / "ranked.jsonl"
    source.write_text(json.dumps({"prompt": "谁？", "answers": ["小明在河边看见苹果。", "好"]}))
    bn.best_of_n(_config(tmp_path / "out", source, reward_model=str(models[1])))
    assert seen[0].tokens_RT[1, -1] == 7


@pytest.mark.usefixtures("ending")
def test_what_the_template_refuses_is_named_and_the_rest_goes_on(
    tmp_path: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Llama 2 has no role `tool`: neither the model nor the reward model can be shown it."""
    source = tmp_path / "ranked.jsonl"
    lines = [
        {"prompt": TOOL[:3], "answers": ["好", "坏"], "id": "tool"},
        {"prompt": "谁在河边？", "answers": ["好", "坏"], "id": "plain"},
    ]
    source.write_text("".join(json.dumps(r) + "\n" for r in lines))
    ways: list[dict[str, Any]] = [
        {"reward_model": str(models[1])},
        {"model": str(models[0]), "rules": SHORT, "max_new_tokens": 4},
    ]
    for number, options in enumerate(ways):
        out = tmp_path / f"out{number}"
        made = bn.best_of_n(_config(out, source, **options))
        assert made is not None and [c.id for c in made] == ["plain"]
        (dropped,) = lines_of(out / "dropped.jsonl")
        assert dropped["id"] == "tool" and "not tool" in dropped["reason"]
        assert "1 x chat template" in capsys.readouterr().out


def test_a_rule_that_gives_no_number_is_refused_by_name(tmp_path: Path) -> None:
    """NaN compares with nothing, so it would sort the answers at random."""
    rule = _rule(tmp_path / "odd.py", "float('nan')")
    source = tmp_path / "ranked.jsonl"
    source.write_text(json.dumps({"prompt": "问", "answers": ["好", "坏"]}))
    with pytest.raises(ConfigError, match="reward odd gave nan"):
        bn.best_of_n(_config(tmp_path / "out", source, rules=(str(rule),)))
    assert not (tmp_path / "out").exists()


def _rule(path: Path, value: str) -> Path:
    """A rule of the user's own that gives the value of an expression in `answer`."""
    path.write_text(
        "from dataclasses import dataclass\n\n"
        "@dataclass(frozen=True)\n"
        "class Reward:\n"
        "    def __call__(self, answer):\n"
        f"        return {value}\n"
    )
    return path


@pytest.mark.parametrize("form", ["{}", "{}: {{weight: 0.5}}", {"weight": 0.5}])
def test_a_rule_file_that_changed_is_not_taken_for_what_was_done(tmp_path: Path, form: Any) -> None:
    source, mine = tmp_path / "ranked.jsonl", _rule(tmp_path / "mine.py", "len(answer.text)")
    source.write_text(json.dumps({"prompt": "问", "answers": ["好", "很坏"]}))
    rule = form.format(mine) if isinstance(form, str) else {str(mine): form}
    config = _config(tmp_path / "out", source, rules=(rule,))
    assert bn.best_of_n(config) is not None and bn.best_of_n(config) is None
    _rule(mine, "-len(answer.text)")
    with pytest.raises(InputError, match=r"content of .*mine\.py"):
        bn.best_of_n(config)


def test_where_the_package_lies_is_nothing_to_remember(tmp_path: Path) -> None:
    """The same output is found complete by an installation in another folder."""
    source = tmp_path / "ranked.jsonl"
    source.write_text(json.dumps({"prompt": "问", "answers": ["好", "很坏"]}))
    bn.best_of_n(_config(tmp_path / "out", source, rules=SHORT))
    written = (tmp_path / "out" / "manifest.json").read_text()
    assert "content of" in written and "length.py" not in written


def test_a_word_list_that_changed_is_not_taken_for_what_was_done(tmp_path: Path) -> None:
    source, words = tmp_path / "ranked.jsonl", tmp_path / "words.txt"
    source.write_text(json.dumps({"prompt": "问", "answers": ["好", "很坏"]}))
    words.write_text("坏\n")
    for rule in ({"forbidden_words": {"file": str(words)}}, f"forbidden_words: {{file: {words}}}"):
        words.write_text("坏\n")
        config = _config(tmp_path / "out", source, rules=(rule,), force=True)
        assert bn.best_of_n(config) is not None
        words.write_text("好\n")
        with pytest.raises(InputError, match=r"content of .*words\.txt"):
            bn.best_of_n(replace(config, force=False))


def test_without_a_model_the_best_is_what_people_put_first(tmp_path: Path) -> None:
    source = tmp_path / "ranked.jsonl"
    records = [
        {"instruction": "一加一？", "input": "", "output": ["二。", "大概二。", "三。"]},
        {"instruction": "二加二？", "input": "", "output": ["四。", "五。"]},
    ]
    source.write_text("".join(json.dumps(r) + "\n" for r in records))
    contests = bn.best_of_n(_config(tmp_path / "out", source))
    assert contests is not None
    best = list(ConversationReader([str(tmp_path / "out" / "sft")]))
    assert [c.messages[-1]["content"] for c in best] == ["二。", "四。"]
    pairs = lines_of(tmp_path / "out" / "pairs" / "part-00000.jsonl")
    assert pairs[0]["rejected"][0]["content"] == "三。" and "margin" not in pairs[0]


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing scores"):
        _config(tmp_path / "out", tmp_path, model="m")
    for wrong in (
        {"n": 1},
        {"temperature": (-1.0,)},
        {"max_new_tokens": 0},
        {"pairs": 0},
        {"batch": 0},
    ):
        with pytest.raises(ConfigError):
            _config(tmp_path / "out", tmp_path, **{"model": "m", "rules": ("length",), **wrong})


@pytest.mark.usefixtures("ending")
def test_what_does_not_fit_is_dropped_by_name_and_the_rest_goes_on(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    source = tmp_path / "prompts.jsonl"
    records = [{"prompt": "长" * 300, "id": "long"}, {"prompt": "谁在河边？", "id": "short"}]
    source.write_text("".join(json.dumps(r) + "\n" for r in records))
    made = bn.best_of_n(
        _config(tmp_path / "out", source, model=str(models[0]), rules=SHORT, max_new_tokens=4)
    )
    assert made is not None and [c.id for c in made] == ["short"]
    assert lines_of(tmp_path / "out" / "dropped.jsonl") == [{"id": "long", "reason": bn.NO_ANSWER}]
    ranked = tmp_path / "ranked.jsonl"
    answers = [["好", "坏"], ["好" * 300, "坏"]]
    lines = [{"prompt": "问", "answers": a, "id": str(n)} for n, a in enumerate(answers)]
    ranked.write_text("".join(json.dumps(r) + "\n" for r in lines))
    made = bn.best_of_n(_config(tmp_path / "scored", ranked, reward_model=str(models[1])))
    assert made is not None and [c.id for c in made] == ["0"]
    assert lines_of(tmp_path / "scored" / "dropped.jsonl") == [{"id": "1", "reason": bn.TOO_LONG}]


def test_input_that_changed_is_not_taken_for_what_was_done(tmp_path: Path) -> None:
    source = tmp_path / "ranked.jsonl"
    source.write_text(json.dumps({"prompt": "问", "answers": ["好", "坏"]}))
    assert bn.best_of_n(_config(tmp_path / "out", source)) is not None
    assert bn.best_of_n(_config(tmp_path / "out", source)) is None
    source.write_text(json.dumps({"prompt": "问", "answers": ["坏", "好"]}))
    with pytest.raises(InputError, match=r"content of .*ranked.jsonl"):
        bn.best_of_n(_config(tmp_path / "out", source))
    assert bn.best_of_n(_config(tmp_path / "out", source, force=True)) is not None
    with pytest.raises(InputError, match="nothing"):
        bn.best_of_n(_config(tmp_path / "other", tmp_path / "nothing*.jsonl"))
