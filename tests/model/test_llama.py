"""Promises of the model: documents stay apart, positions are relative, recomputing is exact."""

from __future__ import annotations

import pytest
import torch

from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig

CONFIG = LlamaConfig(97, 32, 2, 4, num_key_value_heads=2, max_position_embeddings=64)


def make(config: LlamaConfig = CONFIG, seed: int = 0) -> Llama:
    """A model whose weights are large enough that every part of it matters."""
    model = Llama(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            mean = 1.0 if parameter.ndim == 1 else 0.0
            parameter.normal_(mean, 0.2, generator=generator)
    return model


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 97, shape, generator=torch.Generator().manual_seed(1))


def test_a_later_token_changes_nothing_before_it() -> None:
    model, rows = make(), tokens(2, 12)
    changed = rows.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 97
    before, after = model(rows), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_packed_documents_do_not_see_each_other() -> None:
    model, row = make(), tokens(1, 20)
    documents = torch.tensor([[0] * 8 + [1] * 9 + [-1] * 3])
    positions = torch.tensor([[*range(8), *range(9), *range(3)]])
    packed = model(row, positions, documents)
    assert torch.allclose(packed[:, :8], model(row[:, :8]), atol=1e-5)
    assert torch.allclose(packed[:, 8:17], model(row[:, 8:17]), atol=1e-5)
    assert packed.isfinite().all()  # padding attends to itself, never to nothing
    packed.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_without_documents_the_same_row_is_one_document() -> None:
    model, row = make(), tokens(2, 16)
    alone = model(row, documents_BT=torch.zeros_like(row))
    assert torch.allclose(alone, model(row), atol=1e-5)


def test_positions_are_relative() -> None:
    model, row = make(), tokens(1, 10)
    moved = model(row, positions_BT=torch.arange(10)[None] + 17)
    assert torch.allclose(moved, model(row), atol=1e-4)
    stretched = model(row, positions_BT=torch.arange(10)[None] * 2)
    assert not torch.allclose(stretched, model(row), atol=1e-2)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model, row = make().train(), tokens(2, 12)
    documents = (torch.arange(12) // 5).expand(2, 12)
    gradients = []
    for switch in (False, True):
        model.gradient_checkpointing = switch
        model.zero_grad()
        model(row, documents_BT=documents).logsumexp(-1).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_initial_weights_follow_from_the_seed() -> None:
    config = LlamaConfig(500, 64, 8, 4)
    first = Llama(config, torch.Generator().manual_seed(5))
    again = Llama(config, torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    globally = Llama(config)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert torch.equal(weight, globally.state_dict()[name])
    attention = first.model.layers[3].self_attn
    assert attention.q_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)
    # 1 / sqrt(2 x 8 layers) = 1/4
    assert attention.o_proj.weight.std().item() == pytest.approx(0.005, rel=0.1)
    down = first.model.layers[3].mlp.down_proj.weight
    assert down.std().item() == pytest.approx(0.005, rel=0.1)
    assert torch.equal(first.model.norm.weight, torch.ones(64))


def test_a_tied_head_is_the_embedding() -> None:
    tied = Llama(LlamaConfig(97, 32, 1, 4, tie_word_embeddings=True))
    assert tied.output_weight() is tied.model.embed_tokens.weight
    assert "lm_head.weight" not in tied.state_dict()
    untied = Llama(LlamaConfig(97, 32, 1, 4))
    assert untied.output_weight() is not untied.model.embed_tokens.weight
    assert "lm_head.weight" in untied.state_dict()


def test_the_meta_device_costs_no_memory_and_no_random_number() -> None:
    state = torch.get_rng_state()
    with torch.device("meta"):
        model = Llama(LlamaConfig(32000, 8192, 4, 64))
    assert all(p.is_meta for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_it_compiles_without_a_graph_break() -> None:
    model, row = make(), tokens(2, 12)
    documents = (torch.arange(12) // 5).expand(2, 12)
    # The eager backend traces as inductor does, in a second rather than a minute.
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(row), model(row), atol=1e-6)
    masked = compiled(row, documents_BT=documents)
    assert torch.allclose(masked, model(row, documents_BT=documents), atol=1e-6)


def test_bf16_stays_near_fp32() -> None:
    model, row = make(), tokens(2, 12)
    exact = model(row)
    rounded = model.to(torch.bfloat16)(row)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()
