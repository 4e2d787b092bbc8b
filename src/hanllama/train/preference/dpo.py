"""DPO: let the chosen answer gain on the rejected one, against a reference (Rafailov et al. 2023).

    margin = beta * (log-ratio of the chosen answer - log-ratio of the rejected one)
    loss   = -log sigmoid(margin)

The gradient is that of fitting a Bradley-Terry reward beta * log(p / p_reference) to the pairs.

`label_smoothing` e says that so large a share of the pairs is labelled the wrong way round:
-(1 - e) log sigmoid(margin) - e log sigmoid(-margin), conservative DPO (Mitchell 2023), whose
minimum lies at a finite margin. With `robust` the expected bias is subtracted instead (Chowdhury et
al. 2024, arXiv:2403.00409): (-(1 - e) log sigmoid(margin) + e log sigmoid(-margin)) / (1 - 2e).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hanllama.config import option
from hanllama.errors import ConfigError
from hanllama.train.preference import Answers, WholeStep


@dataclass(frozen=True)
class Loss:
    NEEDS_REFERENCE: ClassVar[bool] = True
    PAIRED: ClassVar[bool] = True

    beta: float = option(0.1, help="how strongly the model is held to the reference")
    label_smoothing: float = option(0.0, help="the share of pairs that is labelled wrongly")
    robust: bool = option(False, help="subtract the bias of wrong labels (rDPO)")

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ConfigError(f"beta must be positive, not {self.beta}")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"label_smoothing is a share from 0 to below 0.5, not {self.label_smoothing}"
            )

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor:
        margin_P = self.rewards(chosen) - self.rewards(rejected)
        wrong = self.label_smoothing
        as_labelled_P, swapped_P = -F.logsigmoid(margin_P), -F.logsigmoid(-margin_P)
        if self.robust:
            return ((1 - wrong) * as_labelled_P - wrong * swapped_P) / (1 - 2 * wrong)
        return (1 - wrong) * as_labelled_P + wrong * swapped_P

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratios_S
