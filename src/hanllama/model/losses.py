"""Losses over a large vocabulary that never hold the tokens x vocabulary matrix.

With 4,096 tokens and 65,000 pieces that matrix is a gigabyte, and a backward pass needs several: at
these sizes most of the memory and half the time of training a small model. Both functions here
walk over the tokens in chunks:

- `cross_entropy_sum` computes the gradient in the forward pass, while it has a chunk's
  probabilities (as Liger-Kernel does, Hsu et al. 2024, arXiv:2410.10989). It returns a sum; the
  caller scales it by a weight that does not depend on the micro-batch.
- `token_log_probs` returns one value per token. Its gradient is unknown until the objective has
  used the values, so the backward pass computes the chunks again.

Shapes: N tokens, V vocabulary, D hidden size, C tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        # A Function would compute gradients even under no_grad.
        hidden_ND, weight_VD = hidden_ND.detach(), weight_VD.detach()
    dtype = _compute_dtype(hidden_ND)
    chunk = chunk or _chunk_tokens(weight_VD, hidden_ND.device.type)
    trained_N = labels_N != IGNORE
    if int(trained_N.sum()) < 0.95 * len(labels_N):
        # Padding and prompts would cost the head as much as trained tokens.
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
        trained_N = (labels_N != IGNORE).float()
        log_probs_N, *grads = _walk(
            hidden_ND, weight_VD, labels_N, chunk, dtype, trained_N, ctx.needs_input_grad
        )
        ctx.save_for_backward(*grads)
        ctx.dtypes = (hidden_ND.dtype, weight_VD.dtype)
        return -(log_probs_N * trained_N).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # In place: each gradient is used once, and a second V x D buffer would be wasted.
        hidden, weight = (
            None if g is None else g.mul_(grads[0]).to(dtype)
            for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return hidden, weight, None, None, None


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
        log_probs_N, *_ = _walk(hidden_ND, weight_VD, labels_N, chunk, dtype)
        return log_probs_N * (labels_N != IGNORE)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, labels_N = ctx.saved_tensors
        scale_N = -grads[0] * (labels_N != IGNORE)
        _, grad_hidden, grad_weight = _walk(
            hidden_ND, weight_VD, labels_N, ctx.chunk, ctx.dtype, scale_N, ctx.needs_input_grad
        )
        return (
            None if grad_hidden is None else grad_hidden.to(hidden_ND.dtype),
            None if grad_weight is None else grad_weight.to(weight_VD.dtype),
            None,
            None,
            None,
        )


def _walk(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    chunk: int,
    dtype: torch.dtype,
    scale_N: Tensor | None = None,
    needs_grad: Sequence[bool] = (False, False),
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """log p(label) of each position, float32 [N], and where needed the gradients of
    sum(scale x -log p) in both matrices.

    All chunks use one buffer, and in it the logits become probabilities, in place in float32.
    """
    with torch.autocast(hidden_ND.device.type, enabled=False):
        hidden, weight = hidden_ND.detach().to(dtype), weight_VD.detach().to(dtype)
        log_probs_N = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_grad[1] else None
        buffer_CV = hidden.new_empty(min(chunk, len(hidden)), len(weight))
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            hidden_CD, label_C = hidden[rows], labels_N[rows].clamp(min=0)
            logits_CV = torch.mm(hidden_CD, weight.T, out=buffer_CV[: len(hidden_CD)])
            label_logit_C1 = logits_CV.gather(1, label_C[:, None]).float()
            largest_C1, at_C1 = logits_CV.max(1, keepdim=True)
            if dtype == torch.float32:
                probs_CV = torch.softmax(logits_CV, 1, out=logits_CV)
            else:
                probs_CV = torch.softmax(logits_CV, 1, dtype=torch.float32)
            # The largest probability is at least 1/V, so its logarithm is exact: log-sum-exp.
            norm_C1 = largest_C1.float() - probs_CV.gather(1, at_C1).log()
            log_probs_N[rows] = (label_logit_C1 - norm_C1)[:, 0]
            if scale_N is None:
                continue
            # d(-log p)/d(logits) = probs - onehot. The onehot part touches one row of the weight a
            # token, so it is applied to the D-wide results and not to the C x V matrix.
            scale_C1 = scale_N[rows, None].to(dtype)
            probs_CV = logits_CV if dtype == torch.float32 else logits_CV.copy_(probs_CV)
            if grad_hidden is not None:
                part_CD = torch.mm(probs_CV, weight, out=grad_hidden[rows])
                part_CD.sub_(weight[label_C]).mul_(scale_C1)
            if grad_weight is not None:
                scaled_CD = hidden_CD * scale_C1
                if dtype == torch.float32:
                    grad_weight.addmm_(probs_CV.T, scaled_CD)
                else:
                    grad_weight += probs_CV.T @ scaled_CD
                grad_weight.index_add_(0, label_C, scaled_CD.float(), alpha=-1)
    return log_probs_N, grad_hidden, grad_weight


def _compute_dtype(hidden_ND: Tensor) -> torch.dtype:
    """The dtype of the matrix products: autocast's where it is on, else the input's."""
    device = hidden_ND.device.type
    return (
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
    )


def _chunk_tokens(weight_VD: Tensor, device: str) -> int:
    elements = _CHUNK_ELEMENTS.get(device, _CHUNK_ELEMENTS["cpu"])
    return max(16, elements // weight_VD.shape[0])
