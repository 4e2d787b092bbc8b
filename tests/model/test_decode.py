"""Promises of decoding: the draw follows the shares, the seed decides, rows end where they must."""

from __future__ import annotations

import pytest
import torch

from hanllama.base.errors import ConfigError, InputError
from hanllama.model.decode import (
    candidates,
    decode,
    decoding_layout,
    draw,
    draw_of_all,
    generate_tokens,
)
from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig
from hanllama.model.sampling import GenerateConfig, Sampling

CONFIG = LlamaConfig(97, 32, 2, 4, num_key_value_heads=2, max_position_embeddings=40)
PROMPTS = [[1, 5, 9], [1], [1, 7, 8, 9, 10]]


@pytest.fixture(scope="module")
def model() -> Llama:
    made = Llama(CONFIG).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.2, generator=generator)
    return made


def test_the_same_seed_writes_the_same_text_and_another_another(model: Llama) -> None:
    first = generate_tokens(model, PROMPTS, Sampling(20, seed=1), eos_ids=[])
    assert first == generate_tokens(model, PROMPTS, Sampling(20, seed=1), eos_ids=[])
    assert first != generate_tokens(model, PROMPTS, Sampling(20, seed=2), eos_ids=[])
    # A longer text begins with the shorter one.
    longer = generate_tokens(model, PROMPTS, Sampling(30, seed=1), eos_ids=[])
    assert [row[:20] for row in longer] == first


def test_rows_of_one_prompt_differ(model: Llama) -> None:
    rows = generate_tokens(model, [[1, 5]] * 4, Sampling(20), eos_ids=[])
    assert len({tuple(row) for row in rows}) == 4


def test_draws_follow_the_shares() -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    scores, ids = candidates(shares.log()[None].expand(20_000, -1), 0, 1.0)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(draw(scores, ids, uniform), minlength=4) / 20_000
    assert torch.allclose(counts, shares, atol=0.015)


def test_a_draw_never_leaves_the_candidates() -> None:
    scores, ids = candidates(torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 3), 0, 0.8)
    assert scores[0].isfinite().tolist() == [True, True, False, False]
    edges = torch.tensor([0.0, 0.5, 1.0])  # 1.0: what rounding can make of a draw below 1
    assert set(draw(scores, ids, edges).tolist()) <= {0, 1}


@pytest.mark.parametrize("vocabulary", [1, 4, 255, 256, 257, 600, 1000])
def test_a_draw_of_all_is_the_place_in_the_cumulative_distribution(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(50, vocabulary, generator=generator)
    uniform = torch.rand(50, generator=generator)
    ends = logits.double().softmax(-1).cumsum(-1)
    chosen = draw_of_all(logits, uniform)
    for row, place in enumerate(chosen.tolist()):
        begin = float(ends[row, place - 1]) if place else 0.0
        assert begin - 1e-6 <= float(uniform[row]) <= float(ends[row, place]) + 1e-6


def test_a_draw_of_all_never_gives_what_has_no_share() -> None:
    """At the edges of the unit interval, with -inf in front, behind and for whole blocks."""
    logits = torch.full((4, 700), -torch.inf)
    logits[:, 300], logits[:, 310] = 1.0, 1.0
    logits[2:, 5] = 1.0
    uniform = torch.tensor([0.0, 1 - 2**-24, 0.0, 1 - 2**-24])
    assert draw_of_all(logits, uniform).tolist() == [300, 310, 5, 310]


def test_a_broken_model_gives_some_token_and_no_crash() -> None:
    """Whoever trains sees the NaN in the loss and names the step."""
    broken = torch.full((2, 300), torch.nan)
    uniform = torch.tensor([0.3, 0.9])
    assert all(0 <= i < 300 for i in draw_of_all(broken, uniform).tolist())
    scores, ids = candidates(broken, 50, 0.9)
    assert all(0 <= i < 300 for i in draw(scores, ids, uniform).tolist())


def test_a_row_ends_at_its_eos_and_the_others_go_on(model: Llama) -> None:
    free = generate_tokens(model, PROMPTS, Sampling(20, seed=3), eos_ids=[])
    end = free[0][4]
    cut = generate_tokens(model, PROMPTS, Sampling(20, seed=3), eos_ids=[end])
    for row, whole in zip(cut, free, strict=True):
        expected = whole[: whole.index(end) + 1] if end in whole else whole
        assert row == expected
    assert len(cut[0]) <= 5


def test_the_eos_of_the_config_counts_unless_told_otherwise(model: Llama) -> None:
    sampling = Sampling(37, temperature=5.0, top_k=0, top_p=1.0)
    rows = generate_tokens(model, [[1]] * 8, sampling)
    assert any(row[-1] == 2 for row in rows)  # the config's EOS
    assert all(2 not in row[:-1] for row in rows)


def test_rows_end_where_the_context_is_full(model: Llama) -> None:
    prompts = [[1] * 39, [1] * 10, [1] * 35]
    tokens = list(decode(model, prompts, Sampling(25), eos_ids=[]))
    written = [sum(t.row == row for t in tokens) for row in range(3)]
    assert written == [1, 25, 5]
    assert {t.row: t.finish for t in tokens if t.finish} == {
        0: "context",
        1: "length",
        2: "context",
    }


def test_stop_ends_a_row(model: Llama) -> None:
    seen: list[tuple[int, int]] = []

    def stop(row: int, token: int) -> bool:
        seen.append((row, token))
        return row == 1 and sum(r == 1 for r, _ in seen) == 3

    tokens = list(decode(model, PROMPTS, Sampling(10), eos_ids=[], stop=stop))
    assert [t.finish for t in tokens if t.row == 1] == [None, None, "stop"]
    assert [(t.row, t.id) for t in tokens] == seen


def test_ids_beyond_the_tokenizer_are_never_chosen(model: Llama) -> None:
    for temperature in (0.0, 3.0):
        sampling = Sampling(30, temperature=temperature, top_k=0, top_p=1.0)
        for row in generate_tokens(model, PROMPTS, sampling, eos_ids=[], vocab_size=11):
            assert max(row) < 11


def test_a_repetition_penalty_reaches_prompt_and_text(model: Llama) -> None:
    greedy = Sampling(30, temperature=0, repetition_penalty=1e9)
    for prompt, row in zip(PROMPTS, generate_tokens(model, PROMPTS, greedy, []), strict=True):
        assert len(set(row) | set(prompt)) == len(row) + len(set(prompt))


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([1] * 41, "prompt 2 has 41 tokens, but the model's context is 40"),
        ([1] * 40, "prompt 2 has 40 tokens, but the model's context is 40"),
        ([], "prompt 2 has no token"),
        ([97], "prompt 2 has token id 97, but the model's vocabulary ends at 96"),
    ],
)
def test_an_impossible_prompt_is_refused(model: Llama, prompt: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        generate_tokens(model, [[1], prompt], Sampling(5))


def test_decoding_leaves_the_mode_and_the_gradients_alone(model: Llama) -> None:
    model.train()
    steps = decode(model, PROMPTS, Sampling(5), eos_ids=[])
    next(steps)
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    list(steps)
    assert model.training and all(p.grad is not None for p in model.parameters())
    model.eval().zero_grad()


def test_the_decoding_layout_changes_no_value(model: Llama) -> None:
    other = Llama(CONFIG)
    other.load_state_dict(model.state_dict())
    decoding_layout(other.eval())
    assert not other.output_weight().is_contiguous()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
    rows = torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(1))
    assert torch.allclose(other(rows), model(rows), atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": 0},
        {"seed": -1},
    ],
)
def test_impossible_numbers_are_refused_by_name(wrong: dict[str, float]) -> None:
    (name,) = wrong
    for made in (Sampling, lambda **values: GenerateConfig(model="m", **values)):
        with pytest.raises(ConfigError, match=f"{name} must be"):
            made(**wrong)  # type: ignore[operator]
