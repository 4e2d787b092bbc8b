"""ORPO: fine-tune on the chosen answer and raise its odds over the rejected one's, without a
reference (Hong et al. 2024, arXiv:2403.07691).

    odds(y) = p(y) / (1 - p(y)), where log p(y) is the mean log-probability per token of y
    loss    = NLL of the chosen answers per token - beta * log sigmoid(log odds(c) - log odds(r))

One stage replaces SFT and DPO. Start from a base or a lightly tuned model, with a learning rate of
SFT's order. The NLL is that of the answer: as in `hanllama sft`, prompts are not trained. (TRL
trains them too; with a prompt of one token both are the same.)
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hanllama.base.config import NonNegative, checked, option
from hanllama.train.preferences.losses import Answers, WholeStep, chosen_nll


@checked
class Loss:
    NEEDS_REFERENCE: ClassVar[bool] = False
    PAIRED: ClassVar[bool] = True

    beta: NonNegative = option(0.1, help="weight of the odds ratio (the paper's lambda)")

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor:
        log_odds_P = _log_odds(chosen.means_S) - _log_odds(rejected.means_S)
        return chosen_nll(chosen, step) - self.beta * F.logsigmoid(log_odds_P)

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.means_S


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p < 0, exact at both ends (Maechler 2012, "log1mexp")."""
    # At p = 1 the odds are infinite; the float32 next to it is 6e-8 away.
    log_p = log_p.clamp(max=-1e-7)
    near_one = log_p > -math.log(2)
    # Each branch sees only its own values: the other's infinity would make the gradient NaN.
    upper = torch.log(-torch.expm1(torch.where(near_one, log_p, -1.0)))
    lower = torch.log1p(-torch.exp(torch.where(near_one, -1.0, log_p)))
    return log_p - torch.where(near_one, upper, lower)
