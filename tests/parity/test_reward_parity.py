"""Reward models: transformers scores as we do, TRL's RewardTrainer has our loss and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from builders import pairs
from hanllama.base import fs
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import save_model
from hanllama.model.reward import RewardModel, load_reward_model, padding_id, reward_model_from
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.parallel import World
from hanllama.train.preferences.data import Row
from hanllama.train.preferences.objective import Split
from hanllama.train.preferences.reward import Reward
from hanllama.train.sequences import last_hidden, pack_sequences

transformers = pytest.importorskip("transformers")

PAIRS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("reward")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return pairs.base_model(folder / "base")


@pytest.fixture(scope="module")
def reward_folder(folder: Path, base: Path) -> Path:
    """A reward model as `hanllama reward` would write it."""
    tokenizer = load_tokenizer(base)
    pad = padding_id(tokenizer, ChatTemplate(tokenizer).end_ids)
    model = reward_model_from(base, seed=3, pad_token_id=pad)
    with fs.publish(folder / "reward") as beside:
        save_model(beside, model, base, ModelCard(name="tiny"))
    return folder / "reward"


@pytest.fixture(scope="module")
def compared(folder: Path, base: Path) -> list[Row]:
    data = pairs.write(folder / "data.jsonl", pairs.records(PAIRS))
    return pairs.rows(base, data).train


@torch.no_grad()
def our_scores(model: RewardModel, rows: list[Row]) -> list[float]:
    batch = pack_sequences([s for row in rows for s in (row.first, row.second)], 0)
    scores: list[float] = model.scores(last_hidden(model, batch)).tolist()
    return scores


def test_hf_parity_reward_model_is_opened_with_equal_scores(
    reward_folder: Path, compared: list[Row]
) -> None:
    """One by one, and padded to a batch on either side."""
    theirs, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        reward_folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.num_labels == 1
    ours = our_scores(load_reward_model(reward_folder), compared)
    sequences = [s.ids for row in compared for s in (row.first, row.second)]
    width, pad = max(len(ids) for ids in sequences), theirs.config.pad_token_id
    assert len({len(ids) for ids in sequences}) > 3, "padding is to matter"
    for left in (False, True):
        tokens = np.full((len(sequences), width), pad)
        attention = np.zeros_like(tokens)
        for number, ids in enumerate(sequences):
            here = slice(width - len(ids), width) if left else slice(0, len(ids))
            tokens[number, here], attention[number, here] = ids, 1
        with torch.no_grad():
            scores = theirs(torch.from_numpy(tokens), torch.from_numpy(attention)).logits[:, 0]
        assert scores.tolist() == pytest.approx(ours, abs=1e-4)
    with torch.no_grad():
        alone = [float(theirs(torch.tensor(ids[None].astype(int))).logits) for ids in sequences]
    assert alone == pytest.approx(ours, abs=1e-4)


def test_hf_parity_what_transformers_writes_is_opened(
    reward_folder: Path, compared: list[Row], tmp_path: Path
) -> None:
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(reward_folder)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = our_scores(load_reward_model(reward_folder), compared)
    again = our_scores(load_reward_model(tmp_path / "theirs"), compared)
    assert again == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("centring", [0.0, 0.1])
@pytest.mark.parametrize("with_margin", [False, True])
@pytest.mark.parametrize("micro", [1, 4])
def test_losses_reward_equals_trl(
    reward_folder: Path,
    compared: list[Row],
    tmp_path: Path,
    centring: float,
    with_margin: bool,
    micro: int,
) -> None:
    trl = pytest.importorskip("trl")
    from builders import trl_oracle

    margins = [0.25 * number for number in range(PAIRS)]
    trainer = trl_oracle.trainer(
        trl.RewardTrainer,
        trl.RewardConfig,
        reward_folder,
        tmp_path / "trl",
        [{"prompt": "问", "chosen": "好", "rejected": "坏"}],
        settings={"center_rewards_coefficient": centring or None},
        kind="AutoModelForSequenceClassification",
    )
    examples = []
    for row, margin in zip(compared, margins, strict=True):
        example = {"chosen_ids": row.first.ids.tolist(), "rejected_ids": row.second.ids.tolist()}
        examples.append(example | ({"margin": margin} if with_margin else {}))
    theirs = trainer.compute_loss(trainer.model, dict(trainer.data_collator(examples)))
    model = load_reward_model(reward_folder)
    rows = [
        Row(row.first, row.second, True, margin, row.prompt, row.id)
        for row, margin in zip(compared, margins, strict=True)
    ]
    loop = pairs.loop(batch_size=PAIRS, micro_batch_size=micro)
    objective = Reward(model, centring, with_margin, Split(rows), Split([]), loop, World(), {})
    trl_oracle.assert_equal(trl_oracle.step_of(objective), theirs, trainer.model)
