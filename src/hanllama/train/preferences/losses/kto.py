"""KTO: learn from single answers judged good or bad (Ethayarajh et al. 2024, arXiv:2402.01306).

    good answer: desirable_weight   * (1 - sigmoid(beta * (log-ratio - kl)))
    bad answer:  undesirable_weight * (1 - sigmoid(beta * (kl - log-ratio)))

People judge gains and losses relative to a reference point, and feel losses more (Kahneman and
Tversky). The point is `kl`, the model's distance from the reference, estimated over the whole step
from answers to prompts that are not theirs, without a gradient.

If the data has more good or more bad answers, keep the ratio of desirable_weight * good answers to
undesirable_weight * bad answers between 1 : 1 and 4 : 3, as the paper advises.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hanllama.base.config import NonNegative, Positive, checked, option
from hanllama.train.preferences.losses import Answers, WholeStep


@checked
class Loss:
    NEEDS_REFERENCE: ClassVar[bool] = True
    PAIRED: ClassVar[bool] = False

    beta: Positive = option(0.1, help="how strongly the model is held to the reference")
    desirable_weight: NonNegative = option(1.0, help="weight of good answers")
    undesirable_weight: NonNegative = option(1.0, help="weight of bad answers")

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor:
        # 1 - sigmoid(x) = sigmoid(-x), which stays exact where sigmoid(x) rounds to 1.
        good_S = torch.sigmoid(self.beta * (step.kl - chosen.log_ratios_S))
        bad_S = torch.sigmoid(self.beta * (rejected.log_ratios_S - step.kl))
        return torch.cat((self.desirable_weight * good_S, self.undesirable_weight * bad_S))

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratios_S
