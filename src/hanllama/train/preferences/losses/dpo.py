"""DPO: raise the chosen answer over the rejected one, against a reference (Rafailov et al. 2023).

    margin = beta * (log-ratio of the chosen answer - log-ratio of the rejected one)
    loss   = -log sigmoid(margin)

The gradient is that of fitting a Bradley-Terry reward beta * log(p / p_reference) to the pairs.

`label_smoothing` e is the share of pairs with swapped labels:
-(1 - e) log sigmoid(margin) - e log sigmoid(-margin), conservative DPO (Mitchell 2023), whose
minimum lies at a finite margin. With `robust` the expected bias is subtracted instead (Chowdhury et
al. 2024, arXiv:2403.00409): (-(1 - e) log sigmoid(margin) + e log sigmoid(-margin)) / (1 - 2e).

The margin also grows when the chosen answer becomes less probable and the rejected one even less,
which usually happens. `sft_weight` adds the chosen answers' negative log-likelihood, a mean over
tokens as in SFT, which prevents this (Pang et al. 2024, arXiv:2404.19733; "RPO").
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hanllama.base.config import NonNegative, Positive, checked, option
from hanllama.train.preferences.losses import Answers, WholeStep, chosen_nll


@checked
class Loss:
    NEEDS_REFERENCE: ClassVar[bool] = True
    PAIRED: ClassVar[bool] = True

    beta: Positive = option(0.1, help="how strongly the model is held to the reference")
    label_smoothing: float = option(0.0, ge=0, lt=0.5, help="share of pairs labelled wrongly")
    robust: bool = option(False, help="subtract the bias of wrong labels (rDPO)")
    sft_weight: NonNegative = option(0.0, help="weight of the chosen answers' loss as in SFT (RPO)")

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor:
        margin_P = self.rewards(chosen) - self.rewards(rejected)
        wrong = self.label_smoothing
        as_labelled_P, swapped_P = -F.logsigmoid(margin_P), -F.logsigmoid(-margin_P)
        loss_P = (1 - wrong) * as_labelled_P + wrong * swapped_P
        if self.robust:
            loss_P = ((1 - wrong) * as_labelled_P - wrong * swapped_P) / (1 - 2 * wrong)
        if self.sft_weight:
            loss_P = loss_P + self.sft_weight * chosen_nll(chosen, step)
        return loss_P

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratios_S
