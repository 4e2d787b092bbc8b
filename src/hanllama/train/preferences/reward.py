"""The reward model: one number for an answer, fitted to pairs of which one answer was preferred.

    loss = -log sigmoid(r(chosen) - r(rejected) - margin) + centring * (r(chosen) + r(rejected))^2

The first part is Bradley-Terry's likelihood (InstructGPT, Ouyang et al. 2022), with an optional
margin from the data (Llama 2, Touvron et al. 2023, equation 2). It depends only on differences, so
rewards could drift together; the second part holds them around 0 (Eisenstein et al. 2023,
arXiv:2312.09244). The reward is read at the last token, which ends the answer.

Held-out prompts measure how often the model is right, whether its confidence equals that frequency
(calibration: Guo et al. 2017, arXiv:1706.04599), and how much of its judgement is length (Singhal
et al. 2023, arXiv:2310.03716), since PPO exploits that first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hanllama.base import fingerprint
from hanllama.model.card import card_of
from hanllama.model.lora import adapt
from hanllama.model.reward import RewardModel, padding_id, reward_model_from
from hanllama.train.command import training
from hanllama.train.objective import Figures
from hanllama.train.preferences.config import RewardConfig
from hanllama.train.preferences.data import Row, prepare_rows
from hanllama.train.preferences.losses import WholeStep
from hanllama.train.preferences.objective import Array, PreferenceObjective, Split
from hanllama.train.sequences import last_hidden, pack_sequences

_BINS = 5


class Reward(PreferenceObjective):
    """Bradley-Terry on pairs.

    Args:
        centring: the weight of (r(chosen) + r(rejected))^2.
        with_margin: whether the margins of the rows count.
        more: the arguments of `PreferenceObjective`.
    """

    name = "reward"
    names = ("loss", "accuracy", "reward_chosen", "reward_rejected")
    model: RewardModel

    def __init__(self, model: RewardModel, centring: float, with_margin: bool, *more: Any) -> None:
        super().__init__(model, *more)
        self._centring, self._with_margin = centring, with_margin
        self._tables: list[dict[str, Any]] = []

    def row_losses(self, split: Split, part: Array, whole: WholeStep, figures: Figures) -> Tensor:
        """The losses of the pairs in `part`; adds to the figures."""
        rows = [split.rows[i] for i in part]
        chosen_P, rejected_P = self.rewards(rows)
        margin_P = chosen_P.new_tensor([row.margin * self._with_margin for row in rows])
        losses_P = bradley_terry(chosen_P, rejected_P, margin_P, self._centring)
        figures.add("loss", losses_P)
        figures.add("accuracy", (chosen_P > rejected_P).float())
        figures.add("reward_chosen", chosen_P)
        figures.add("reward_rejected", rejected_P)
        return losses_P

    def rewards(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """The rewards of the chosen and the rejected answers of pairs, [P] each."""
        sequences = [row.first for row in rows] + [row.second for row in rows]
        batch = pack_sequences(sequences, self.pad, self.device)
        chosen_P, rejected_P = self.model.scores(last_hidden(self.model, batch)).chunk(2)
        return chosen_P, rejected_P

    def answer_tokens(self, row: Row) -> int:
        """The tokens of both answers."""
        return sum(row.answer_tokens)

    def evaluate(self) -> Mapping[str, float]:
        """Held-out loss, accuracy, calibration and length bias."""
        if not self.heldout.rows:
            return {}
        rows = self.heldout_rows()
        chosen_P, rejected_P = self._heldout_rewards(rows)
        pairs = [self.heldout.rows[i] for i in rows]
        margins = torch.tensor([pair.margin * self._with_margin for pair in pairs])
        sides = torch.from_numpy(chosen_P), torch.from_numpy(rejected_P)
        tokens = np.array([pair.answer_tokens for pair in pairs], dtype=np.float64)
        calibration_error, bins = calibrated(chosen_P - rejected_P)
        by_length, kinds = length_bias(chosen_P, rejected_P, tokens[:, 0], tokens[:, 1])
        self._tables = [
            {
                "title": "Held-out pairs by how sure the model is",
                "headings": ["sure by", "pairs", "mean confidence", "right"],
                "rows": bins,
            },
            {
                "title": "Held-out pairs by length",
                "headings": ["the chosen answer is", "pairs", "right"],
                "rows": kinds,
            },
        ]
        figures = {
            "loss": float(bradley_terry(*sides, margins, self._centring).mean()),
            "accuracy": float((chosen_P > rejected_P).mean()),
            "margin": float((chosen_P - rejected_P).mean()),
            "calibration_error": calibration_error,
            **by_length,
        }
        return {f"heldout_{name}": value for name, value in figures.items()}

    def tables(self) -> Sequence[Mapping[str, Any]]:
        """The reliability table, and the accuracy by which answer is longer."""
        return self._tables

    def _heldout_rewards(self, rows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rewards of these held-out pairs, gathered from all processes."""
        found = np.zeros((len(rows), 2))
        place = {int(row): number for number, row in enumerate(rows)}
        for part in self.parts(rows):
            sides = self.rewards([self.heldout.rows[i] for i in part])
            found[[place[int(i)] for i in part]] = torch.stack(sides, 1).double().cpu().numpy()
        summed = self.world.sum(found.ravel().tolist(), self.device)
        chosen_P, rejected_P = np.array(summed).reshape(-1, 2).T
        return chosen_P, rejected_P


def bradley_terry(
    chosen_P: Tensor, rejected_P: Tensor, margin_P: Tensor, centring: float
) -> Tensor:
    """-log sigmoid(chosen - rejected - margin) + centring (chosen + rejected)^2, of each pair."""
    losses_P = -F.logsigmoid(chosen_P - rejected_P - margin_P)
    return losses_P + centring * (chosen_P + rejected_P) ** 2


def calibrated(lead_P: NDArray[np.float64]) -> tuple[float, list[list[Any]]]:
    """The expected calibration error, and the reliability table, from r(chosen) - r(rejected).

    A pair's confidence is Bradley-Terry's probability of the preferred answer, 0.5 to 1. In each
    bin of confidences the mean should equal the share of pairs that are ranked right.
    """
    confidence_P = 1 / (1 + np.exp(-np.abs(lead_P)))
    right_P = lead_P > 0
    bin_P = np.minimum(((confidence_P - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    error, table = 0.0, []
    for number in range(_BINS):
        here = bin_P == number
        edges = [0.5 + 0.5 * (number + i) / _BINS for i in (0, 1)]
        if not here.any():
            continue
        confidence, right = float(confidence_P[here].mean()), float(right_P[here].mean())
        error += float(here.mean()) * abs(right - confidence)
        table.append(
            [
                f"{edges[0]:.0%} to {edges[1]:.0%}",
                int(here.sum()),
                f"{confidence:.1%}",
                f"{right:.1%}",
            ]
        )
    return error, table


def length_bias(
    chosen_P: NDArray[np.float64],
    rejected_P: NDArray[np.float64],
    chosen_tokens_P: NDArray[np.float64],
    rejected_tokens_P: NDArray[np.float64],
) -> tuple[dict[str, float], list[list[Any]]]:
    """Length bias: figures, and a table of the accuracy by which answer is longer.

    `length_correlation` is Pearson's, of reward and tokens over all answers. `longer_wins` is the
    accuracy of always preferring the longer answer (ties count half), which a model must beat.
    """
    rewards = np.concatenate((chosen_P, rejected_P))
    tokens = np.concatenate((chosen_tokens_P, rejected_tokens_P))
    varied = rewards.std() > 0 and tokens.std() > 0
    correlation = float(np.corrcoef(rewards, tokens)[0, 1]) if varied else 0.0
    longer = np.sign(chosen_tokens_P - rejected_tokens_P)
    right_P = chosen_P > rejected_P
    table: list[list[Any]] = []
    for name, sign in (("longer", 1), ("as long", 0), ("shorter", -1)):
        here = longer == sign
        if here.any():
            table.append([name, int(here.sum()), f"{right_P[here].mean():.1%}"])
    wins = float(((longer + 1) / 2).mean())
    return {"length_correlation": correlation, "longer_wins": wins}, table


# --- the command -----------------------------------------------------------------------------


def reward(config: RewardConfig) -> None:
    """Run `hanllama reward`: begin, resume, or report that the run is complete."""
    with training(config, config.loop) as session:
        model = reward_model_from(config.base_model, config.loop.seed)
        prepared = prepare_rows(
            config, session, paired=True, positions=model.config.max_position_embeddings
        )
        rows = prepared.rows
        pad = padding_id(prepared.tokenizer, prepared.template.end_ids)
        model.config = replace(model.config, pad_token_id=pad)
        if config.lora.rank:
            adapt(model, config.lora, config.base_model, config.loop.seed, whole=("score",))
        session.adopt(model)
        loop = session.settled(config.loop, len(rows.train))
        objective = Reward(
            model,
            config.centring,
            config.margin,
            Split(rows.train),
            Split(rows.heldout),
            loop,
            session.processes,
            {**prepared.fingerprint, "model": fingerprint.of_json(model.config.to_hf())},
        )
        loop = replace(loop, sample_tokens=0)  # a reward model writes nothing
        prepared.train(objective, session, config.optim, loop, card_of(config.base_model))
