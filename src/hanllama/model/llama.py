"""Llama 2, whole: RMSNorm, SwiGLU, rotary positions, grouped-query attention, no biases.

The module tree has Hugging Face's parameter names (`model.layers.0.self_attn.q_proj.weight`), so
its state dict IS the file format. Rotary positions turn (first half, second half) pairs, as in
Hugging Face. The model computes hidden states, and `output_weight` gives the head's matrix, because
the training loss never needs the whole tokens x vocabulary matrix.

Shapes, as suffixes of names:
    B batch rows, T tokens of this call, S tokens that can be attended to (cache included),
    D hidden_size, H attention heads, K key-value heads, d head_dim, F intermediate_size,
    V vocab_size
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hanllama.base.errors import InputError
from hanllama.model.adapter import Adapter
from hanllama.model.presets import LlamaConfig


class Llama(nn.Module):
    """A causal language model with Hugging Face's parameter names.

    Args:
        config: the dimensions.
        generator: where the initial weights are drawn from (on the parameters' device); the
            global generator when None. Under `torch.device("meta")` nothing is drawn.

    Set `gradient_checkpointing` to recompute each layer in the backward pass instead of keeping
    its activations. `stop_ids` end a decoded text: EOS and the end token of a chat template.
    `lora.adapt` sets `adapter` on a model that trains only adapters.
    """

    def __init__(self, config: LlamaConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.adapter: Adapter | None = None
        self.stop_ids = config.eos_ids
        self.model = Body(config)
        self.lm_head = (
            None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        )
        self.init_weights(generator)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh weights: normal(0, initializer_range), norms at 1.

        The two projections that write into the residual stream are scaled by 1/sqrt(2 x layers)
        (GPT-2, Radford et al. 2019), so that its variance does not grow with depth.
        """
        std = self.config.initializer_range
        residual_std = std / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if parameter.is_meta:
                continue
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                parameter.normal_(0.0, residual_std if into_residual else std, generator=generator)

    def hf_config(self, dtype: str) -> dict[str, Any]:
        """The content of `config.json` for weights written as `dtype`."""
        return self.config.to_hf(dtype)

    def output_weight(self) -> Tensor:
        """The head's matrix [V, D]: the embedding itself when tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: KVCache | None = None,
        noise_BTD: Tensor | None = None,
    ) -> Tensor:
        """The hidden states after the last norm, [B, T, D].

        Args:
            tokens_BT: token ids.
            positions_BT: each token's position; default 0..T-1, or continued from the cache.
            documents_BT: a document id per token of packed rows (padding: -1). A token then
                attends only to earlier tokens of its own document.
            cache: keys and values of earlier calls; this call's are appended to it.
            noise_BTD: added to the embeddings.
        """
        config = self.config
        if cache is not None:
            assert documents_BT is None, "packed documents and a cache do not go together"
            rope, mask = cache.advance(tokens_BT.shape[1], positions_BT)
        else:
            if positions_BT is None:
                positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
            rope = rope_tables(positions_BT, config.head_dim, config.rope_theta)
            mask = None if documents_BT is None else document_mask(documents_BT)
        x_BTD = self.model.embed_tokens(tokens_BT)
        if noise_BTD is not None:
            x_BTD = x_BTD + noise_BTD.to(x_BTD.dtype)
        if mask is not None:
            mask = mask.to(x_BTD.dtype)
        cos, sin = rope[0].to(x_BTD.dtype), rope[1].to(x_BTD.dtype)
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for index, layer in enumerate(self.model.layers):
            if recompute:
                x_BTD = checkpoint(layer, x_BTD, cos, sin, mask, use_reentrant=False)
            else:
                x_BTD = layer(x_BTD, cos, sin, mask, cache, index)
        normed_BTD: Tensor = self.model.norm(x_BTD)
        return normed_BTD

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The logits [B, T, V]; the arguments are those of `hidden`."""
        hidden_BTD = self.hidden(tokens_BT, positions_BT, documents_BT, cache)
        return F.linear(hidden_BTD, self.output_weight())


class Linear(nn.Linear):
    """A projection without bias or initial values: `Llama.init_weights` or a file gives them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """The token table, without initial values like Linear."""

    def reset_parameters(self) -> None:
        pass


class RMSNorm(nn.Module):
    """x / rms(x) x weight (Zhang and Sennrich 2019), the mean of squares in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # rms_norm itself accumulates in fp32.
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Causal self-attention with grouped key-value heads (Ainslie et al. 2023)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.grouped = config.num_key_value_heads != config.num_attention_heads
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(config.hidden_size, queries)
        self.k_proj = Linear(config.hidden_size, keys)
        self.v_proj = Linear(config.hidden_size, keys)
        self.o_proj = Linear(queries, config.hidden_size)

    def forward(
        self,
        x_BTD: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        B, T, _ = x_BTD.shape
        split = (B, T, -1, self.head_dim)
        q_BHTd = rotate(self.q_proj(x_BTD).view(split), cos, sin).transpose(1, 2)
        k_BKTd = rotate(self.k_proj(x_BTD).view(split), cos, sin).transpose(1, 2)
        v_BKTd = self.v_proj(x_BTD).view(split).transpose(1, 2)
        causal = mask is None
        if cache is not None:
            k_BKTd, v_BKTd = cache.append(layer, k_BKTd, v_BKTd)
            causal = causal and T > 1  # one new token sees everything in the cache
        out_BHTd = F.scaled_dot_product_attention(
            q_BHTd, k_BKTd, v_BKTd, attn_mask=mask, is_causal=causal, enable_gqa=self.grouped
        )
        out_BTD: Tensor = self.o_proj(out_BHTd.transpose(1, 2).reshape(B, T, -1))
        return out_BTD


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) x up(x)) (Shazeer 2020)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out_BTD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out_BTD


class Layer(nn.Module):
    """One pre-norm block: attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos, sin, mask, cache, layer)
        x_BTD = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD


class Body(nn.Module):
    """Everything but the head: the `model` of Hugging Face's names."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


def rope_tables(positions_BT: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of rotary positions (Su et al. 2021), fp32, [B, T, 1, d].

    The sine's first half carries the minus of the rotation, so that `rotate` needs no branch.
    """
    device = positions_BT.device
    pairs = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    angles = positions_BT[..., None, None].float() * theta**-pairs
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x_BThd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + d/2) of each head by its token's angles."""
    return torch.addcmul(x_BThd * cos, x_BThd.roll(x_BThd.shape[-1] // 2, -1), sin)


def document_mask(documents_BT: Tensor) -> Tensor:
    """The additive mask [B, 1, T, T], 0 where a token may look and -inf elsewhere.

    Causal and within one document. Padding (-1) is one more document, since an empty row of the
    mask would give NaN.
    """
    T = documents_BT.shape[1]
    earlier = torch.ones(T, T, dtype=torch.bool, device=documents_BT.device).tril()
    allowed = (documents_BT[:, :, None] == documents_BT[:, None, :]) & earlier
    return additive(allowed)[:, None]


def additive(allowed: Tensor) -> Tensor:
    """True -> 0, False -> -inf: done once, where attention would convert the mask every layer."""
    return torch.zeros_like(allowed, dtype=torch.float32).masked_fill_(~allowed, -math.inf)


class KVCache:
    """Keys and values of all layers, allocated once, written in place.

    Args:
        batch: number of rows.
        length: the most tokens of a row, padding included.
        padding_B: tokens of padding on the left of each row; None for none. No token attends to
            padding, and a row's positions start after it, so it changes no result.
    """

    def __init__(
        self,
        config: LlamaConfig,
        batch: int,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        padding_B: Sequence[int] | None = None,
    ) -> None:
        shape = (batch, config.num_key_value_heads, length, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in layers]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in layers]
        self.length = length
        self.used = 0
        self.padding_B: Tensor | None = None
        if padding_B is not None and any(padding_B):
            self.padding_B = torch.tensor(list(padding_B), device=device)
        self._rope = (config.head_dim, config.rope_theta)
        self._tables = rope_tables(torch.arange(length, device=device)[None], *self._rope)
        self._span = (0, 0)

    def advance(
        self, T: int, positions_BT: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Make room for T tokens; return their rotary tables and mask (None: plain causal).

        Raises InputError when they do not fit.
        """
        start, end = self.used, self.used + T
        if end > self.length:
            raise InputError(f"{end} tokens do not fit into a cache of {self.length}")
        self.used, self._span = end, (start, end)
        device = self.keys[0].device
        if positions_BT is not None:
            rope = rope_tables(positions_BT, *self._rope)
        elif self.padding_B is None:
            rope = (self._tables[0][:, start:end], self._tables[1][:, start:end])
        else:
            columns_T = torch.arange(start, end, device=device)
            rows_BT = (columns_T[None] - self.padding_B[:, None]).clamp_(min=0)
            rope = (self._tables[0][0, rows_BT], self._tables[1][0, rows_BT])
        if self.padding_B is None and (start == 0 or T == 1):
            return rope, None
        queries_T = torch.arange(start, end, device=device)[:, None]
        keys_S = torch.arange(end, device=device)[None]
        allowed = (keys_S <= queries_T)[None]
        if self.padding_B is not None:
            # A padding token looks at itself, since an empty row of the mask would give NaN.
            allowed = allowed & (
                (keys_S[None] >= self.padding_B[:, None, None]) | (keys_S == queries_T)
            )
        return rope, additive(allowed)[:, None]

    def append(self, layer: int, k_BKTd: Tensor, v_BKTd: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values; return all of them so far, [B, K, S, d]."""
        start, end = self._span
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, start:end] = k_BKTd
        values[:, :, start:end] = v_BKTd
        return keys[:, :, :end], values[:, :, :end]

    def keep(self, rows: Tensor | Sequence[int]) -> None:
        """Keep only these rows, in this order (finished ones leave the batch)."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.keys[0].device)
        self.keys = [k[index] for k in self.keys]
        self.values = [v[index] for v in self.values]
        if self.padding_B is not None:
            left = self.padding_B[index]
            self.padding_B = left if bool(left.any()) else None
