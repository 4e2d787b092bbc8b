"""Memory beforehand: the formula by hand, and against what autograd really keeps."""

from __future__ import annotations

import pytest
import torch

from hanllama.model.llama import Llama
from hanllama.model.losses import cross_entropy_sum
from hanllama.model.presets import LlamaConfig
from hanllama.plan import memory
from hanllama.plan.memory import Pass

# D 8, L 2, H 2 of 4, K 1 (grouped), F 16, V 10, tied.
TINY = LlamaConfig(
    vocab_size=10,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=16,
    tie_word_embeddings=True,
)


def test_memory_of_a_tiny_model_worked_by_hand() -> None:
    one = Pass(rows=3, context=4, documents=True)
    # 12 tokens; a layer keeps six D, q and output of 8, k and v of 4, four F, 2 norms' and 2
    # heads' scalars, in fp32.
    assert memory.layer_bytes(TINY, one, "cpu") == 12 * 4 * (6 * 8 + 16 + 8 + 64 + 2 + 2)
    # The last norm twice D and a scalar, cos and sin, the mask, the hidden gradient, four int64.
    outer = 12 * (4 * (17 + 8 + 4) + 4 * 8 + 32)
    assert memory.outer_bytes(TINY, one, "cpu") == outer
    at = memory.moments(TINY, one, "cpu")["loss"]
    assert (at.weights, at.moments, at.gradients) == (4 * 1272, 8 * 1272, 0)
    assert at.activations == 2 * memory.layer_bytes(TINY, one, "cpu") + outer
    # Head gradient 10 x 8, and all 12 rows of logits with three rows of width D beside them.
    assert at.loss == 4 * 80 + 4 * 12 * 10 + 12 * 12 * 8
    assert at.total == sum(at.parts().values())
    peak = memory.peak(TINY, one, "cpu")
    assert peak.total == max(m.total for m in memory.moments(TINY, one, "cpu").values())


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_allocator_s_margin_is_a_stated_share_of_what_is_asked_for(kind: memory.Kind) -> None:
    config = LlamaConfig(60_000, 256, 4, 4, 768, tie_word_embeddings=True)
    for at in memory.moments(config, Pass(8, 1024), kind).values():
        asked = at.total - at.framework
        margin = at.framework - memory.BASE_BYTES[kind]
        assert margin == pytest.approx(memory.MARGIN[kind] * asked, abs=1) and margin > 0


def test_the_logits_are_never_whole_and_checkpointing_keeps_one_width_a_layer() -> None:
    wide = LlamaConfig(60_000, 64, 2, 2, tie_word_embeddings=True)
    chunk = memory.chunk_bytes(wide, Pass(64, 1024), "cpu")
    assert chunk < 0.02 * 4 * 64 * 1024 * 60_000
    assert chunk == memory.chunk_bytes(wide, Pass(32, 1024), "cpu")
    deep = LlamaConfig(100, 64, 50, 2, tie_word_embeddings=True)
    kept = memory.peak(deep, Pass(16, 256), "cpu")
    again = memory.peak(deep, Pass(16, 256, recompute=True), "cpu")
    assert again.activations < 0.15 * kept.activations


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_activations_are_what_autograd_really_keeps(
    documents: bool, half: bool, kv_heads: int
) -> None:
    """The oracle: every tensor autograd saves on this CPU, weights and their casts left out."""
    config = LlamaConfig(101, 64, 3, 4, 192, num_key_value_heads=kv_heads, tie_word_embeddings=True)
    rows, context = 3, 40
    model = Llama(config, torch.Generator().manual_seed(0)).train()
    tokens = torch.randint(0, 101, (rows, context))
    positions = torch.arange(context).expand(rows, context).clone()
    owners = (positions // 13) if documents else None
    weights = {tuple(p.shape) for p in model.parameters()}
    weights |= {shape[::-1] for shape in weights}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        hidden = model.hidden(tokens, positions, owners).reshape(-1, 64)
        loss = cross_entropy_sum(hidden, model.output_weight(), tokens.reshape(-1))
    assert loss.requires_grad
    found = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    one = Pass(rows, context, half=half, documents=documents)
    formula = 3 * memory.layer_bytes(config, one, "cpu") + memory.outer_bytes(config, one, "cpu")
    assert formula == pytest.approx(found, rel=0.02)


def test_the_largest_micro_batch_fits_and_one_row_more_does_not() -> None:
    config = LlamaConfig(32_000, 512, 8, 8)
    limit = 12 * memory.GIB
    rows = memory.largest_rows(config, Pass(1, 1024), "gpu", limit)
    assert rows > 1
    assert memory.peak(config, Pass(rows, 1024), "gpu").total <= limit
    assert memory.peak(config, Pass(rows + 1, 1024), "gpu").total > limit
    assert memory.largest_rows(config, Pass(1, 1024), "gpu", memory.GIB) == 0
