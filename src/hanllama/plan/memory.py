"""The peak memory of a training run, by formula. Imports no torch.

It counts the tensors that the loop, the model and the chunked loss hold at each moment that can be
the highest: while the loss makes its gradient (all activations live), during the first layer's
backward pass (all gradients live), and in an evaluation between two steps (the last step's
gradients still live). `tests/plan/test_memory.py` compares the activations with the tensors that
autograd saves, `benchmarks/plan_accuracy.py` the total with the peak of real runs.

Shapes: N tokens of a micro-batch, T of a row, D hidden, A heads x head_dim, K key-value heads x
head_dim, F intermediate, H heads, V vocabulary, P parameters, L layers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from hanllama.model.presets import LlamaConfig

Kind = Literal["cpu", "gpu"]

MIB = 1 << 20
GIB = 1 << 30

# CPU: a Linux process that had imported torch and run a matrix product held 305 MiB with one thread
# and with two; `hanllama pretrain` with its tokenizer and trackers about 45 more. GPU: assumed for
# the context and the cuBLAS and cuDNN workspaces, not yet checked on a device.
BASE_BYTES: dict[Kind, int] = {"cpu": 350 * MIB, "gpu": 800 * MIB}
# Memory that the allocator holds beyond the requested bytes, as a share of them. CPU: three runs of
# benchmarks/plan_accuracy.py held 0.20, 0.33 and 0.47 more (24M, 58M, and a 10M model in two
# micro-batches); with this margin their forecasts are 1.10, 1.01 and 0.94 of the measured peak.
# GPU: assumed.
MARGIN: dict[Kind, float] = {"cpu": 0.35, "gpu": 0.05}
# Elements of the loss's largest temporary, as in hanllama.model.losses.
CHUNK_ELEMENTS: dict[Kind, int] = {"cpu": 1 << 24, "gpu": 1 << 28}


@dataclass(frozen=True)
class Pass:
    """The size of a micro-batch and how it is computed.

    rows, context: its shape.
    half: matrix products in bf16 or fp16 (autocast), weights in fp32.
    recompute: gradient checkpointing.
    documents: rows hold several documents, so attention takes a mask.
    accumulates: a step has more than one micro-batch.
    """

    rows: int
    context: int
    half: bool = False
    recompute: bool = False
    documents: bool = True
    accumulates: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, by use; `total` is their sum."""

    weights: int
    moments: int
    gradients: int
    activations: int
    loss: int
    temporaries: int
    framework: int

    @property
    def total(self) -> int:
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        return asdict(self)


def peak(config: LlamaConfig, micro: Pass, kind: Kind) -> Memory:
    """The memory at the highest moment of a run with such micro-batches."""
    return max(moments(config, micro, kind).values(), key=lambda memory: memory.total)


def moments(config: LlamaConfig, micro: Pass, kind: Kind) -> dict[str, Memory]:
    """The memory at each moment that can be the highest."""
    parameters = config.parameter_count()
    tokens = micro.rows * micro.context
    weights, moments_bytes, gradients = 4 * parameters, 8 * parameters, 4 * parameters
    copies = 2 * parameters if micro.half else 0  # autocast keeps its casts of the weights
    table = 4 * config.vocab_size * config.hidden_size
    layer = layer_bytes(config, micro, kind)
    kept = (4 * tokens * config.hidden_size if micro.recompute else layer) * (
        config.num_hidden_layers
    ) + outer_bytes(config, micro, kind)
    chunk = chunk_bytes(config, micro, kind)
    wide = (2 if micro.half else 4) * tokens * config.intermediate_size
    thin = 4 * tokens * config.hidden_size
    held = gradients if micro.accumulates else 0

    def memory(gradients: int, activations: int, loss: int, temporaries: int) -> Memory:
        asked = weights + copies + moments_bytes + gradients + activations + loss + temporaries
        return Memory(
            weights + copies,
            moments_bytes,
            gradients,
            activations,
            loss,
            temporaries,
            BASE_BYTES[kind] + round(MARGIN[kind] * asked),
        )

    return {
        # All activations, the gradient of the head, one chunk of logits, the hidden states.
        "loss": memory(held, kept, table + chunk, 2 * thin),
        # The last layer's backward pass, which first recomputes what was not kept.
        "backward": memory(
            held, kept + (layer if micro.recompute else 0), table, 3 * wide + 2 * thin
        ),
        # The first layer's: all gradients exist, and the embedding's is being made.
        "embedding": memory(
            gradients, outer_bytes(config, micro, kind), table if micro.accumulates else 0, table
        ),
        # Between two steps, with the last gradients.
        "evaluation": memory(gradients, 2 * thin, chunk, 3 * wide),
    }


def layer_bytes(config: LlamaConfig, micro: Pass, kind: Kind) -> int:
    """The bytes that autograd keeps of one layer, without weights and their casts.

    Each norm keeps its input and one inverse deviation per token (the CPU's, made of single
    operations, also the normed input); attention keeps q, k, v, its output and one logsumexp per
    head; SwiGLU keeps gate, silu(gate), up and their product. In fp32 the q, k and v projections
    share one input, and so do gate and up; autocast casts it for each of them, and the mask for
    each layer.
    """
    D, F = config.hidden_size, config.intermediate_size
    A = config.num_attention_heads * config.head_dim
    K = config.num_key_value_heads * config.head_dim
    H = config.num_attention_heads
    norms = 2 if kind == "gpu" else 4
    if micro.half:
        token = 4 * (norms * D + 2 + H) + 2 * (5 * D + 2 * A + 2 * K + 4 * F)
        mask = 2 * micro.context if micro.documents else 0
        return micro.rows * micro.context * (token + mask)
    token = 4 * ((norms + 2) * D + 2 * A + 2 * K + 4 * F + 2 + H)
    return micro.rows * micro.context * token


def outer_bytes(config: LlamaConfig, micro: Pass, kind: Kind) -> int:
    """The bytes kept outside of the layers: last norm, hidden gradient, rope, mask."""
    D = config.hidden_size
    norm = (1 if kind == "gpu" else 2) * D + 1
    rope = 2 * config.head_dim
    mask = micro.context if micro.documents else 0
    batch = 4 * 8  # int64 tokens, labels, positions, documents
    gradient = (2 if micro.half else 4) * D
    return micro.rows * micro.context * (4 * (norm + rope + mask) + gradient + batch)


def chunk_bytes(config: LlamaConfig, micro: Pass, kind: Kind) -> int:
    """The bytes of the loss's temporaries: one chunk of logits, never all of them.

    In fp32 the softmax works in place; otherwise the logits, their fp32 log-softmax and its cast
    live together with the casts of hidden states and head.
    """
    tokens = micro.rows * micro.context
    rows = min(tokens, max(16, CHUNK_ELEMENTS[kind] // config.vocab_size))
    per_element = 8 if micro.half else 4
    casts = 2 * config.vocab_size * config.hidden_size if micro.half else 0
    return rows * config.vocab_size * per_element + 3 * 4 * rows * config.hidden_size + casts


def largest_rows(config: LlamaConfig, micro: Pass, kind: Kind, limit: float) -> int:
    """The most rows of a micro-batch whose peak stays within `limit` bytes; 0 if none fits.

    Fewer rows than in `micro` mean several micro-batches per step, which hold gradients throughout.
    """

    def fits(rows: int) -> bool:
        accumulates = micro.accumulates or rows < micro.rows
        one = replace(micro, rows=rows, accumulates=accumulates)
        return peak(config, one, kind).total <= limit

    if not fits(1):
        return 0
    low, high = 1, 2
    while high < 1 << 20 and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
