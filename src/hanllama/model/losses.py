"""Losses over a large vocabulary that never hold the tokens x vocabulary matrix.

With 4,096 tokens and 65,000 pieces that matrix alone is a gigabyte, several times over in a
backward pass; at these sizes it is most of the memory and half of the time of training a small
model. Both functions here walk over the tokens in chunks:

- `cross_entropy_sum` makes the gradient in the forward pass, while a chunk's probabilities are at
  hand (as in Liger-Kernel, Hsu et al. 2024, arXiv:2410.10989). It returns a sum, so the caller
  scales it by a weight known beforehand, whatever the micro-batch.
- `token_log_probs` returns a value a token, whose gradient is unknown until the objective has
  used it, so its backward pass computes the chunks again.

Shapes: N tokens, V vocabulary, D hidden size, C tokens of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORE = -100  # PyTorch's and Hugging Face's label for "no loss here"

# Elements of the largest temporary, C x V. On a CPU a chunk must amortise one read and one write
# of the V x D gradient; on a GPU it must fill the device. Measured in benchmarks/train.py.
_CHUNK_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 28, "mps": 1 << 26}


def cross_entropy_sum(
    hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, chunk: int | None = None
) -> Tensor:
    """Sum of -log softmax(hidden @ weight.T)[label] over all labels other than -100.

    Args:
        hidden_ND: the last hidden states.
        weight_VD: the output matrix (the embedding when tied).
        labels_N: the token that each position should predict, already shifted; -100 ignores one.
        chunk: tokens per chunk; chosen from the vocabulary when None.

    Returns: a float32 scalar. Under autocast the matrix products run in the autocast dtype,
    softmax and sums in float32.
    """
    if not torch.is_grad_enabled():
        # A Function is told to make gradients of whatever requires them, even under no_grad.
        hidden_ND, weight_VD = hidden_ND.detach(), weight_VD.detach()
    dtype = _compute_dtype(hidden_ND)
    chunk = chunk or _chunk_tokens(weight_VD, hidden_ND.device.type)
    trained_N = labels_N != IGNORE
    if int(trained_N.sum()) < 0.95 * len(labels_N):
        # Padding and prompts cost the head as much as what is trained on: leave them out.
        hidden_ND, labels_N = hidden_ND[trained_N], labels_N[trained_N]
    total: Tensor = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, labels_N, chunk, dtype
    )
    return total


def token_log_probs(
    hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, chunk: int | None = None
) -> Tensor:
    """log softmax(hidden @ weight.T)[label] for each position, 0 where the label is -100.

    The same arguments as `cross_entropy_sum`. Returns float32 [N], differentiable in both
    matrices.
    """
    dtype = _compute_dtype(hidden_ND)
    chunk = chunk or _chunk_tokens(weight_VD, hidden_ND.device.type)
    values: Tensor = _TokenLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, labels_N, chunk, dtype
    )
    return values


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return _CrossEntropySum._forward(ctx, hidden_ND, weight_VD, labels_N, chunk, dtype)

    @staticmethod
    def _forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        hidden, weight = hidden_ND.detach().to(dtype), weight_VD.detach().to(dtype)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = (
            torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
            if needs_weight
            else None
        )
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            hidden_CD = hidden[rows]
            valid_C = labels_N[rows] != IGNORE
            label_C = labels_N[rows].clamp(min=0)
            log_probs_CV = _log_softmax_(hidden_CD @ weight.T)
            picked_C = log_probs_CV.gather(1, label_C[:, None])[:, 0]
            total -= (picked_C * valid_C).sum()
            if not (needs_hidden or needs_weight):
                del log_probs_CV
                continue
            # d(sum)/d(logits) = probs - onehot. The onehot part touches one row of the weight a
            # token, so it is applied to the D-wide results and not to the C x V matrix.
            probs_CV = log_probs_CV.exp_().to(dtype)
            mask_C1 = valid_C[:, None].to(dtype)
            if grad_hidden is not None:
                part = torch.mm(probs_CV, weight)
                part -= weight[label_C]
                grad_hidden[rows] = part * mask_C1
            if grad_weight is not None:
                masked_CD = hidden_CD * mask_C1
                if dtype == torch.float32:
                    grad_weight.addmm_(probs_CV.T, masked_CD)
                else:
                    grad_weight += probs_CV.T @ masked_CD
                grad_weight.index_add_(0, label_C, masked_CD.float(), alpha=-1)
            del log_probs_CV, probs_CV  # or the next chunk is made while this one still stands
        ctx.save_for_backward(*(g for g in (grad_hidden, grad_weight) if g is not None))
        ctx.has = (grad_hidden is not None, grad_weight is not None)
        ctx.dtypes = (hidden_ND.dtype, weight_VD.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        saved = list(ctx.saved_tensors)
        # In place: each gradient is used once, and a second V x D buffer would be wasted.
        grad_hidden = saved.pop(0).mul_(scale).to(ctx.dtypes[0]) if ctx.has[0] else None
        grad_weight = saved.pop(0).mul_(scale).to(ctx.dtypes[1]) if ctx.has[1] else None
        return grad_hidden, grad_weight, None, None, None


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.save_for_backward(hidden_ND, weight_VD, labels_N)
        ctx.chunk, ctx.dtype = chunk, dtype
        result = torch.zeros(labels_N.shape, dtype=torch.float32, device=hidden_ND.device)
        with torch.autocast(hidden_ND.device.type, enabled=False):
            hidden, weight = hidden_ND.detach().to(dtype), weight_VD.detach().to(dtype)
            for start in range(0, hidden.shape[0], chunk):
                rows = slice(start, start + chunk)
                label_C = labels_N[rows].clamp(min=0)
                log_probs_CV = _log_softmax_(hidden[rows] @ weight.T)
                picked_C = log_probs_CV.gather(1, label_C[:, None])[:, 0]
                result[rows] = picked_C * (labels_N[rows] != IGNORE)
                del log_probs_CV
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, labels_N = ctx.saved_tensors
        dtype, chunk = ctx.dtype, ctx.chunk
        grad_N = grads[0] * (labels_N != IGNORE)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        with torch.autocast(hidden_ND.device.type, enabled=False):
            hidden, weight = hidden_ND.to(dtype), weight_VD.to(dtype)
            grad_hidden = torch.empty_like(hidden) if needs_hidden else None
            grad_weight = (
                torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
                if needs_weight
                else None
            )
            for start in range(0, hidden.shape[0], chunk):
                rows = slice(start, start + chunk)
                hidden_CD, label_C = hidden[rows], labels_N[rows].clamp(min=0)
                scale_C1 = grad_N[rows, None].to(dtype)
                # d(log p)/d(logits) = onehot - probs, scaled by what arrives from above.
                probs_CV = _log_softmax_(hidden_CD @ weight.T).exp_().to(dtype)
                if grad_hidden is not None:
                    grad_hidden[rows] = (weight[label_C] - probs_CV @ weight) * scale_C1
                if grad_weight is not None:
                    scaled_CD = hidden_CD * scale_C1
                    grad_weight -= (probs_CV.T @ scaled_CD).float()
                    grad_weight.index_add_(0, label_C, scaled_CD.float())
                del probs_CV
        return (
            grad_hidden.to(hidden_ND.dtype) if grad_hidden is not None else None,
            grad_weight.to(weight_VD.dtype) if grad_weight is not None else None,
            None,
            None,
            None,
        )


def _log_softmax_(logits_CV: Tensor) -> Tensor:
    """log_softmax in float32 over the last dimension, in place where the dtype allows it."""
    if logits_CV.dtype != torch.float32:
        return torch.log_softmax(logits_CV, dim=-1, dtype=torch.float32)
    return torch.log_softmax(logits_CV, dim=-1, out=logits_CV)


def _compute_dtype(hidden_ND: Tensor) -> torch.dtype:
    """The dtype of the matrix products: autocast's where it is on, else the input's."""
    device = hidden_ND.device.type
    return (
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
    )


def _chunk_tokens(weight_VD: Tensor, device: str) -> int:
    elements = _CHUNK_ELEMENTS.get(device, _CHUNK_ELEMENTS["cpu"])
    return max(16, elements // weight_VD.shape[0])
