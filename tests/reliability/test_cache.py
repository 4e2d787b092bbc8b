"""Promise 17, cache: prefill + decode = full forward; padding changes nothing."""

from __future__ import annotations

import pytest
import torch

from hanllama.base.errors import InputError
from hanllama.model.decode import generate_tokens
from hanllama.model.llama import KVCache, Llama
from hanllama.model.presets import LlamaConfig
from hanllama.model.sampling import Sampling

NAMES = pytest.mark.parametrize("kv_heads", [4, 2, 1])


def make(kv_heads: int = 2, context: int = 64) -> Llama:
    config = LlamaConfig(
        97, 32, 3, 4, num_key_value_heads=kv_heads, max_position_embeddings=context
    )
    model = Llama(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            mean = 1.0 if parameter.ndim == 1 else 0.0
            parameter.normal_(mean, 0.2, generator=generator)
    return model


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(1))


@NAMES
@pytest.mark.parametrize("pieces", [[1] * 20, [13, 1, 1, 1, 1, 1, 1, 1], [5, 9, 1, 5], [20]])
@torch.no_grad()
def test_cache_prefill_and_decode_equal_the_full_forward(kv_heads: int, pieces: list[int]) -> None:
    model, rows = make(kv_heads), tokens(3, 20)
    cache = KVCache(model.config, 3, 20)
    parts = [model(part, cache=cache) for part in rows.split(pieces, 1)]
    assert torch.allclose(torch.cat(parts, 1), model(rows), atol=1e-5)


@NAMES
@torch.no_grad()
def test_cache_padding_changes_nothing(kv_heads: int) -> None:
    model, rows = make(kv_heads), tokens(3, 20)
    lengths = [12, 7, 1]
    padding = [12 - n for n in lengths]
    padded = torch.zeros(3, 12, dtype=torch.long)
    for row, n in enumerate(lengths):
        padded[row, 12 - n :] = rows[row, :n]
    for filler in (0, 55):  # whatever id lies under the padding
        for row, left in enumerate(padding):
            padded[row, :left] = filler
        cache = KVCache(model.config, 3, 16, padding_B=padding)
        prefill = model(padded, cache=cache)
        steps = [
            model(
                torch.stack([rows[r, n + i] for r, n in enumerate(lengths)])[:, None], cache=cache
            )
            for i in range(4)
        ]
        for row, n in enumerate(lengths):
            alone = model(rows[row : row + 1, : n + 4])[0]
            together = torch.cat([prefill[row, 12 - n :], *(s[row] for s in steps)])
            assert torch.allclose(together, alone, atol=1e-5)
        assert prefill.isfinite().all()


@torch.no_grad()
def test_cache_rows_that_leave_do_not_disturb_the_others() -> None:
    model, rows = make(), tokens(4, 12)
    cache = KVCache(model.config, 4, 12, padding_B=[0, 0, 0, 0])
    model(rows[:, :8], cache=cache)
    cache.keep([3, 1])
    model(rows[[3, 1], 8:10], cache=cache)
    cache.keep(torch.tensor([1]))
    last = model(rows[1:2, 10:], cache=cache)
    assert torch.allclose(last, model(rows[1:2])[:, 10:], atol=1e-5)


@torch.no_grad()
def test_cache_refuses_what_does_not_fit_and_stays_usable() -> None:
    model, rows = make(), tokens(1, 12)
    cache = KVCache(model.config, 1, 10)
    model(rows[:, :8], cache=cache)
    with pytest.raises(InputError, match="12 tokens do not fit into a cache of 10"):
        model(rows[:, 8:], cache=cache)
    rest = model(rows[:, 8:10], cache=cache)
    assert torch.allclose(rest, model(rows[:, :10])[:, 8:], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cache_a_text_does_not_depend_on_its_neighbours(temperature: float) -> None:
    model = make()
    prompts = [tokens(40)[:n].tolist() for n in (9, 3, 14, 1)]
    penalty = 1.2  # greedy random weights would repeat themselves and never meet an end
    sampling = Sampling(20, temperature, top_k=0, top_p=0.9, repetition_penalty=penalty, seed=7)
    ends = list(range(0, 97, 7))
    together = generate_tokens(model, prompts, sampling, ends)
    assert len({len(row) for row in together}) > 2  # rows left the batch one after another
    for row, prompt in enumerate(prompts):
        alone = generate_tokens(model, [prompt], sampling, ends, streams=[row])
        assert alone[0] == together[row]
