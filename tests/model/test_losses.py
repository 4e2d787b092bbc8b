"""The chunked losses equal the plain ones, in value and gradient, whatever the chunk."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hanllama.batches import mix
from hanllama.model.losses import IGNORE, cross_entropy_sum, token_log_probs


def problem(tokens: int = 23, vocabulary: int = 57, width: int = 8) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    hidden = torch.randn(tokens, width, generator=draw)
    weight = torch.randn(vocabulary, width, generator=draw)
    labels = torch.randint(0, vocabulary, (tokens,), generator=draw)
    labels[[2, 3, 11]] = IGNORE
    return hidden, weight, labels


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def test_a_hand_worked_number() -> None:
    """Two pieces with logits 0 and ln 3: their probabilities are 1/4 and 3/4."""
    hidden = torch.tensor([[1.0], [1.0]])
    weight = torch.tensor([[0.0], [math.log(3)]])
    labels = torch.tensor([0, 1])
    loss = cross_entropy_sum(hidden, weight, labels)
    assert math.isclose(float(loss), math.log(4) + math.log(4 / 3), rel_tol=1e-6)
    log_probs = token_log_probs(hidden, weight, labels)
    assert torch.allclose(log_probs, torch.tensor([0.25, 0.75]).log())


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
def test_cross_entropy_equals_the_plain_one(chunk: int) -> None:
    hidden, weight, labels = problem()
    a, b = hidden.double().requires_grad_(), weight.double().requires_grad_()
    plain = F.cross_entropy(a @ b.T, labels, reduction="sum")
    c, d = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    ours = cross_entropy_sum(c, d, labels, chunk=chunk)
    assert math.isclose(float(plain), float(ours), rel_tol=1e-6)
    for expected, found in zip(
        gradients(plain * 0.3, a, b), gradients(ours * 0.3, c, d), strict=True
    ):
        assert torch.allclose(expected.float(), found, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
def test_log_probs_equal_the_plain_ones(chunk: int) -> None:
    """The gradient with a weight of its own for every token, as DPO and PPO need."""
    hidden, weight, labels = problem()
    weights = torch.linspace(-1, 2, len(labels))
    a, b = hidden.double().requires_grad_(), weight.double().requires_grad_()
    table = torch.log_softmax(a @ b.T, dim=-1)
    plain = table.gather(1, labels.clamp(min=0)[:, None])[:, 0] * (labels != IGNORE)
    c, d = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    ours = token_log_probs(c, d, labels, chunk=chunk)
    assert torch.allclose(plain.float(), ours, atol=1e-5)
    expected = gradients((plain * weights).sum(), a, b)
    for e, found in zip(expected, gradients((ours * weights).sum(), c, d), strict=True):
        assert torch.allclose(e.float(), found, atol=1e-5)


def test_only_what_needs_a_gradient_gets_one() -> None:
    hidden, weight, labels = problem()
    frozen = cross_entropy_sum(hidden.requires_grad_(), weight, labels)
    (grad,) = gradients(frozen, hidden)
    assert grad.abs().sum() > 0
    with torch.no_grad():
        assert not cross_entropy_sum(hidden, weight, labels).requires_grad


def test_rows_without_a_label_get_no_gradient() -> None:
    hidden, weight, labels = problem()
    hidden.requires_grad_()
    (grad,) = gradients(cross_entropy_sum(hidden, weight, labels), hidden)
    assert (grad[labels == IGNORE] == 0).all()
    assert cross_entropy_sum(hidden, weight, torch.full_like(labels, IGNORE)) == 0


def test_autocast_uses_its_dtype_and_returns_float32() -> None:
    hidden, weight, labels = problem()
    hidden.requires_grad_(), weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy_sum(hidden, weight, labels)
    exact = cross_entropy_sum(hidden, weight, labels)
    assert loss.dtype == torch.float32
    assert loss != exact and torch.isclose(loss, exact, rtol=1e-2)
    for a, b in zip(gradients(loss, hidden, weight), gradients(exact, hidden, weight), strict=True):
        assert a.dtype == torch.float32 and torch.allclose(a, b, atol=0.1)


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, labels = problem()
    hidden.requires_grad_()
    loss = cross_entropy_sum(hidden * 1e4, weight, labels)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradients(loss, hidden)[0]).all()


def test_one_label_means_no_loss_everywhere() -> None:
    """The batches (NumPy, no torch) and the losses agree on the ignored label."""
    assert mix.IGNORE == IGNORE == -100


def test_evaluation_makes_no_gradient() -> None:
    """Autograd's Functions are told to make gradients even under no_grad: three times the work."""

    class Shapes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[tuple[int, ...]] = set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and func.__name__.startswith(
                ("zeros", "addmm", "index_add")
            ):
                self.seen.add(tuple(out.shape))
            return out

    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(6, 4, generator=draw, requires_grad=True)
    weight = torch.randn(11, 4, generator=draw, requires_grad=True)
    labels = torch.randint(0, 11, (6,), generator=draw)
    with Shapes() as trained:
        loss = cross_entropy_sum(hidden, weight, labels)
    with torch.no_grad(), Shapes() as evaluated:
        assert cross_entropy_sum(hidden, weight, labels) == loss
    assert (11, 4) in trained.seen and (11, 4) not in evaluated.seen
