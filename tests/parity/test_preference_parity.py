"""DPO and its variants, KTO, ORPO and SimPO against TRL on the same tiny models and batch.

TRL pads, we pack; TRL runs transformers' Llama, we our own: loss and gradients agree to 1e-5. trl
and transformers are the oracles and no part of the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import pairs, trl_oracle
from builders.trl_oracle import assert_equal
from hanllama.model.checkpoint import load_model
from hanllama.train.parallel import World
from hanllama.train.preferences import losses as preference
from hanllama.train.preferences.data import Row
from hanllama.train.preferences.dpo import Preference
from hanllama.train.preferences.objective import Split
from hanllama.train.sequences import TokenSequence

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")

PAIRS = 8
PAD = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("preference")


@pytest.fixture(scope="module")
def policy(folder: Path) -> Path:
    return pairs.base_model(folder / "policy", seed=1)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Path:
    return pairs.base_model(folder / "reference", seed=2)


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return pairs.write(folder / "data.jsonl", pairs.records(PAIRS))


def ours(
    name: str, options: Sequence[str], policy: Path, reference: Path, given: list[Row], micro: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """The step's loss and gradient as the loop makes them."""
    loss = preference.build(name, options)
    model = load_model(policy)
    split = Split(given)
    if loss.NEEDS_REFERENCE:
        split = pairs.compared(load_model(reference), given)
    loop = pairs.loop(batch_size=len(given), micro_batch_size=micro)
    objective = Preference(model, loss, name, split, Split([]), loop, World(), {})
    return trl_oracle.step_of(objective)


def split_ids(sequence: TokenSequence) -> tuple[list[int], list[int]]:
    """The prompt's tokens and the answer's."""
    return sequence.ids[~sequence.mask].tolist(), sequence.ids[sequence.mask].tolist()


def trainer_of(
    cls: Any,
    config: Any,
    folder: Path,
    policy: Path,
    row: dict[str, Any],
    settings: Any,
    **more: Any,
) -> Any:
    """One of TRL's trainers, made with a row of no importance."""
    rows = [{"prompt": "问", **row}]
    settings = {"per_device_train_batch_size": PAIRS, **settings}
    return trl_oracle.trainer(cls, config, policy, folder / "trl", rows, settings=settings, **more)


VARIANTS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("dpo", ("beta=0.1",), {"loss_type": ["sigmoid"], "beta": 0.1}),
    ("dpo", ("beta=0.7",), {"loss_type": ["sigmoid"], "beta": 0.7}),
    (
        "dpo",
        ("beta=0.3", "label_smoothing=0.2", "robust=true"),
        {"loss_type": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
    ),
    (
        "dpo",
        ("beta=0.2", "sft_weight=0.5"),
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "beta": 0.2},
    ),
    ("ipo", ("beta=0.3",), {"loss_type": ["ipo"], "beta": 0.3}),
]


@pytest.mark.parametrize(("name", "options", "settings"), VARIANTS)
@pytest.mark.parametrize("micro", [1, 3, PAIRS])
def test_losses_dpo_and_ipo_equal_trl(
    folder: Path,
    policy: Path,
    reference: Path,
    data: Path,
    name: str,
    options: tuple[str, ...],
    settings: dict[str, Any],
    micro: int,
) -> None:
    given = pairs.rows(policy, data).train
    trainer = dpo_trainer(folder, policy, reference, settings)
    batch = trainer.data_collator([dpo_example(row) for row in given])
    theirs = trainer._compute_loss(trainer.model, batch, False)
    mine = ours(name, options, policy, reference, given, micro)
    assert_equal(mine, theirs, trainer.model)


def test_losses_label_smoothing_equals_trl_pair_by_pair(
    folder: Path, policy: Path, reference: Path, data: Path
) -> None:
    """TRL smooths labels in `aot` alone, which sorts a batch first: one pair it cannot sort."""
    settings = {"loss_type": ["aot"], "beta": 0.3, "label_smoothing": 0.2}
    trainer = dpo_trainer(folder, policy, reference, settings)
    for row in pairs.rows(policy, data).train[:3]:
        trainer.model.zero_grad()
        theirs = trainer._compute_loss(
            trainer.model, trainer.data_collator([dpo_example(row)]), False
        )
        options = ("beta=0.3", "label_smoothing=0.2")
        assert_equal(ours("dpo", options, policy, reference, [row], 1), theirs, trainer.model)


def dpo_trainer(folder: Path, policy: Path, reference: Path, settings: dict[str, Any]) -> Any:
    return trainer_of(
        trl.DPOTrainer,
        trl.DPOConfig,
        folder,
        policy,
        row={"chosen": "好", "rejected": "坏"},
        settings=settings,
        ref_model=transformers.AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32),
    )


def dpo_example(row: Row) -> dict[str, Any]:
    prompt, chosen = split_ids(row.first)
    _, rejected = split_ids(row.second)
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


@pytest.mark.parametrize("micro", [1, 5, 2 * PAIRS])
def test_losses_kto_equals_trl(
    folder: Path, policy: Path, reference: Path, data: Path, micro: int
) -> None:
    """Also its KL: of the same mismatched answers, over the whole batch."""
    policy, reference = reference, policy  # the other way round the KL is negative, which counts 0
    given = pairs.rows(policy, data, paired=False).train
    trainer = trainer_of(
        trl.KTOTrainer,
        trl.KTOConfig,
        folder,
        policy,
        row={"completion": "好", "label": True},
        settings={"beta": 0.2, "desirable_weight": 1.0, "undesirable_weight": 1.5},
        ref_model=transformers.AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32),
    )
    examples = []
    for row in given:
        prompt, answer = split_ids(row.first)
        example = {"prompt_ids": prompt, "completion_ids": answer, "label": row.good}
        examples.append({**example, "KL_completion_ids": split_ids(row.second)[1]})
    theirs = trainer._compute_loss(trainer.model, trainer.data_collator(examples), False)
    assert trainer._metrics["eval"]["kl"][0] > 0, "a KL of 0 would test nothing"
    options = ("beta=0.2", "undesirable_weight=1.5")
    mine = ours("kto", options, policy, reference, given, micro)
    assert_equal(mine, theirs, trainer.model)


def test_losses_orpo_equals_trl(folder: Path, policy: Path, reference: Path, data: Path) -> None:
    """TRL's NLL is that of prompts as well; with a prompt of one token both are the same."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    given = [
        Row(one_token(row.first), one_token(row.second), True, 0.0, row.prompt, row.id)
        for row in pairs.rows(policy, data).train
    ]
    trainer = trainer_of(
        ORPOTrainer,
        ORPOConfig,
        folder,
        policy,
        row={"chosen": "好", "rejected": "坏"},
        settings={"beta": 0.4},
    )
    theirs, _ = trainer.get_batch_loss_metrics(trainer.model, concatenated(given))
    assert_equal(ours("orpo", ("beta=0.4",), policy, reference, given, 3), theirs, trainer.model)


def test_losses_simpo_equals_trl(folder: Path, policy: Path, reference: Path, data: Path) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    given = pairs.rows(policy, data).train
    trainer = trainer_of(
        CPOTrainer,
        CPOConfig,
        folder,
        policy,
        row={"chosen": "好", "rejected": "坏"},
        settings={"loss_type": "simpo", "beta": 1.5, "simpo_gamma": 0.6, "cpo_alpha": 0.0},
    )
    theirs, _ = trainer.get_batch_loss_metrics(trainer.model, concatenated(given))
    options = ("beta=1.5", "gamma=0.6")
    assert_equal(ours("simpo", options, policy, reference, given, 3), theirs, trainer.model)


def one_token(sequence: TokenSequence) -> TokenSequence:
    """The answer behind the prompt's first token alone."""
    keep = sequence.mask.copy()
    keep[0] = True
    return TokenSequence(sequence.ids[keep], sequence.mask[keep])


def concatenated(given: list[Row]) -> dict[str, torch.Tensor]:
    """A batch as the trainers in TRL's experimental part want it."""
    batch = {}
    for side in ("chosen", "rejected"):
        sequences = [row.first if side == "chosen" else row.second for row in given]
        width = max(s.ids.size for s in sequences)
        shape = (len(sequences), width)
        ids, labels = np.full(shape, PAD), np.full(shape, -100)
        attention = np.zeros(shape, dtype=np.int64)
        for number, s in enumerate(sequences):
            ids[number, : s.ids.size] = s.ids
            labels[number, : s.ids.size] = np.where(s.mask, s.ids, -100)
            attention[number, : s.ids.size] = 1
        batch[f"{side}_input_ids"] = torch.from_numpy(ids)
        batch[f"{side}_labels"] = torch.from_numpy(labels)
        batch[f"{side}_attention_mask"] = torch.from_numpy(attention)
    return batch
