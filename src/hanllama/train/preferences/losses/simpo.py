"""SimPO: the mean log-probability per token as reward, with a margin, without a reference (Meng et
al. 2024, arXiv:2405.14734).

    reward(y) = beta * log p(y) / tokens of y
    loss      = -log sigmoid(reward(chosen) - reward(rejected) - gamma)

The reward is the quantity that decoding maximises, and a mean, unlike a sum, does not depend on the
length. Nothing holds the model near its beginning: keep the learning rate low (the paper's 3e-7 to
1e-6 for large models) and watch the log-probability of the chosen answers.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hanllama.base.config import Positive, checked, option
from hanllama.train.preferences.losses import Answers, WholeStep


@checked
class Loss:
    NEEDS_REFERENCE: ClassVar[bool] = False
    PAIRED: ClassVar[bool] = True

    beta: Positive = option(2.0, help="scale of the reward; the paper uses 2.0 to 10")
    gamma: float = option(1.0, help="the target margin; the paper uses 0.3 to 1.6 at beta 2.0")

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor:
        return -F.logsigmoid(self.rewards(chosen) - self.rewards(rejected) - self.gamma)

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.means_S
