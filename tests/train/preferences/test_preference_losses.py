"""Promise 19, losses: DPO, IPO, KTO, ORPO and SimPO against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hanllama.base import plugins
from hanllama.base.errors import ConfigError
from hanllama.train.preferences import losses as preference
from hanllama.train.preferences.losses import PACKAGE, Answers, WholeStep

LN3 = math.log(3.0)


def answers(log_probs: list[float], tokens: list[int], reference: list[float] | None) -> Answers:
    return Answers(
        torch.tensor(log_probs, requires_grad=True),
        torch.tensor(tokens, dtype=torch.float32),
        None if reference is None else torch.tensor(reference),
    )


def value(name: str, chosen: Answers, rejected: Answers, step: WholeStep, *options: str) -> Tensor:
    return preference.build(name, options)(chosen, rejected, step)


# Log-ratios: chosen +2, rejected -1 (nats); 4 and 2 tokens.
CHOSEN = answers([-6.0], [4], [-8.0])
REJECTED = answers([-5.0], [2], [-4.0])
STEP = WholeStep(items=1, chosen_tokens=4)


def test_losses_dpo_by_hand() -> None:
    """beta 0.5: margin 0.5 x (2 - -1) = 1.5; -log sigmoid(1.5) = log(1 + e^-1.5)."""
    as_labelled, swapped = math.log1p(math.exp(-1.5)), math.log1p(math.exp(1.5))
    plain = value("dpo", CHOSEN, REJECTED, STEP, "beta=0.5")
    assert plain.tolist() == pytest.approx([as_labelled])
    smooth = value("dpo", CHOSEN, REJECTED, STEP, "beta=0.5", "label_smoothing=0.2")
    assert smooth.tolist() == pytest.approx([0.8 * as_labelled + 0.2 * swapped])
    robust = value("dpo", CHOSEN, REJECTED, STEP, "beta=0.5", "label_smoothing=0.2", "robust=true")
    assert robust.tolist() == pytest.approx([(0.8 * as_labelled - 0.2 * swapped) / 0.6])


def test_losses_dpo_holds_the_chosen_answer_up() -> None:
    """Two pairs, 5 chosen tokens: what the loss as in SFT adds is (6 + 1) / 5 a token."""
    chosen = answers([-6.0, -1.0], [4, 1], [-8.0, -1.0])
    rejected = answers([-5.0, -2.0], [2, 1], [-4.0, -2.0])
    step = WholeStep(items=2, chosen_tokens=5)
    plain = value("dpo", chosen, rejected, step, "beta=0.5")
    held = value("dpo", chosen, rejected, step, "beta=0.5", "sft_weight=0.3")
    assert float((held - plain).sum()) / step.items == pytest.approx(0.3 * 7 / 5)
    with pytest.raises(ConfigError, match="sft_weight"):
        preference.build("dpo", ["sft_weight=-1"])


def test_losses_dpo_begins_at_log_2() -> None:
    """A model that is the reference prefers nothing: log 2 a pair, whatever beta."""
    same = answers([-6.0, -2.0], [4, 1], [-6.0, -2.0])
    assert value("dpo", same, same, STEP).tolist() == pytest.approx([math.log(2)] * 2)


def test_losses_ipo_by_hand() -> None:
    """Per token: 2/4 - -1/2 = 1; tau 0.25 aims at 2, so (1 - 2)^2 = 1."""
    assert value("ipo", CHOSEN, REJECTED, STEP, "beta=0.25").tolist() == pytest.approx([1.0])


def test_losses_ipo_has_a_minimum() -> None:
    """At a gap of 1 / (2 beta) the loss is 0 and pulls nowhere: DPO's never does."""
    chosen = answers([-4.0], [4], [-8.0])
    loss = value("ipo", chosen, answers([-4.0], [2], [-4.0]), STEP, "beta=0.5")
    (gradient,) = torch.autograd.grad(loss.sum(), chosen.log_probs_S)
    assert loss.item() == 0 and gradient.item() == 0


def test_losses_kto_by_hand() -> None:
    """beta 1, kl 2 - ln 3: the good answer stands ln 3 above it (1 - 3/4), the bad one ln 3 - 3."""
    step = WholeStep(items=2, chosen_tokens=4, kl=2 - LN3)
    losses = value("kto", CHOSEN, REJECTED, step, "beta=1", "undesirable_weight=2")
    below = 1 / (1 + math.exp(3 - LN3))
    assert losses.tolist() == pytest.approx([0.25, 2 * below])


def test_losses_kto_takes_sides_of_any_size() -> None:
    none = answers([], [], [])
    assert value("kto", CHOSEN, none, STEP).shape == (1,)
    assert value("kto", none, answers([-1.0, -2.0], [1, 1], [-1.0, -1.0]), STEP).shape == (2,)


def test_losses_orpo_by_hand() -> None:
    """p = 3/4 and 1/2 a token: odds 3 and 1, log-odds ln 3, -log sigmoid(ln 3) = ln 4/3.

    Two pairs of 2 + 6 = 8 chosen tokens: the NLL is a mean over 8 tokens, not over pairs.
    """
    log_p = math.log(0.75)
    chosen = answers([2 * log_p, 6 * log_p], [2, 6], None)
    rejected = answers([3 * math.log(0.5), math.log(0.5)], [3, 1], None)
    losses = value("orpo", chosen, rejected, WholeStep(2, 8), "beta=0.5")
    expected = -log_p + 0.5 * math.log(4 / 3)
    assert losses.sum().item() / 2 == pytest.approx(expected)


@pytest.mark.parametrize("log_prob", [-50.0, -0.6932, -0.6931, -1e-6, 0.0])
def test_losses_orpo_is_finite_for_any_probability(log_prob: float) -> None:
    chosen, rejected = answers([log_prob], [1], None), answers([-1.0], [1], None)
    loss = value("orpo", chosen, rejected, WholeStep(1, 1)).sum()
    gradients = torch.autograd.grad(loss, [chosen.log_probs_S, rejected.log_probs_S])
    assert torch.isfinite(loss) and all(torch.isfinite(g).all() for g in gradients)


def test_losses_simpo_by_hand() -> None:
    """Per token -1.5 and -2.5; beta 2: rewards -3 and -5; gamma 2 - ln 3: -log sigmoid(ln 3)."""
    loss = value("simpo", CHOSEN, REJECTED, STEP, "beta=2", f"gamma={2 - LN3}")
    assert loss.tolist() == pytest.approx([math.log(4 / 3)])


@pytest.mark.parametrize("name", plugins.names(PACKAGE))
def test_losses_push_the_sides_apart(name: str) -> None:
    """A step down the gradient raises the chosen answer and lowers the rejected one."""
    chosen, rejected = answers([-6.0], [4], [-6.0]), answers([-5.0], [4], [-5.0])
    loss = value(name, chosen, rejected, WholeStep(2, 4)).sum()
    up, down = torch.autograd.grad(loss, [chosen.log_probs_S, rejected.log_probs_S])
    assert up.item() < 0 < down.item()


@pytest.mark.parametrize("name", plugins.names(PACKAGE))
def test_losses_without_a_reference_never_look_for_one(name: str) -> None:
    loss = preference.build(name)
    bare = answers([-6.0], [4], None)
    if loss.NEEDS_REFERENCE:
        with pytest.raises(AssertionError):
            loss(bare, bare, STEP)
    else:
        assert torch.isfinite(loss(bare, bare, STEP)).all()
        assert loss.rewards(bare).shape == (1,)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("dop", (), "loss 'dop' does not exist; did you mean 'dpo'"),
        ("dpo", ("betta=1",), "unknown key 'betta'; did you mean 'beta'"),
        ("dpo", ("beta",), "not of the form parameter=value"),
        ("dpo", ("beta=much",), "beta must be float"),
        ("dpo", ("beta=0",), "beta must be .* not 0.0"),
        ("dpo", ("label_smoothing=0.5",), "below 0.5"),
        ("kto", ("undesirable_weight=-1",), "0 or more"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(name: str, options: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        preference.build(name, options)


def test_a_loss_of_ones_own_by_its_path(tmp_path: Path) -> None:
    """The hinge loss, in a file that the package knows nothing of."""
    file = tmp_path / "hinge.py"
    file.write_text(
        "import torch\n"
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Loss:\n"
        "    NEEDS_REFERENCE, PAIRED = True, True\n"
        "    beta: float = 0.5\n"
        "    def __call__(self, chosen, rejected, step):\n"
        "        return torch.relu(1 - self.rewards(chosen) + self.rewards(rejected))\n"
        "    def rewards(self, answers):\n"
        "        return self.beta * answers.log_ratios_S\n"
    )
    assert value(str(file), CHOSEN, REJECTED, STEP).tolist() == [0.0]
    assert value(str(file), CHOSEN, REJECTED, STEP, "beta=0.1").tolist() == pytest.approx([0.7])
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="no class Loss"):
        preference.build(str(tmp_path / "empty.py"))
