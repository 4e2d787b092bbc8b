"""IPO: bring the gap between the log-ratios to 1 / (2 beta) (Azar et al. 2023, arXiv:2310.12036).

    gap  = log-ratio per token of the chosen answer - log-ratio per token of the rejected one
    loss = (gap - 1 / (2 beta))^2                                            (equation 17)

DPO increases the margin of a pair without end, and so memorises a small set of pairs; a square has
a minimum. The log-ratios are means over the tokens, not sums: the paper does not say so, but its
authors confirmed it to TRL, and a square of sums would weight pairs by their length.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from hanllama.base.config import Positive, checked, option
from hanllama.train.preferences.losses import Answers, WholeStep


@checked
class Loss:
    NEEDS_REFERENCE: ClassVar[bool] = True
    PAIRED: ClassVar[bool] = True

    beta: Positive = option(0.1, help="the paper's tau: the target gap is 1 / (2 beta)")

    def __call__(self, chosen: Answers, rejected: Answers, step: WholeStep) -> Tensor:
        gap_P = chosen.log_ratios_S / chosen.tokens_S - rejected.log_ratios_S / rejected.tokens_S
        return (gap_P - 1 / (2 * self.beta)) ** 2

    def rewards(self, answers: Answers) -> Tensor:
        return self.beta * answers.log_ratios_S / answers.tokens_S
