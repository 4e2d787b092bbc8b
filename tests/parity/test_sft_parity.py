"""SFT against TRL and transformers: the same mask, loss and gradients, the same template.

TRL tokenizes the conversations itself, marks the answers itself, pads (or packs) and computes with
transformers' Llama; we pack and compute with our own: loss and gradients agree to 1e-5. trl and
transformers are the oracles and no part of the product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import chats, trl_oracle
from hanllama.batches.mix import PackedRows
from hanllama.batches.shards import Shards, open_shards
from hanllama.model.checkpoint import load_model
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.config import LoopConfig
from hanllama.train.parallel import World
from hanllama.train.sft.sft import Sft, sft

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")

RECORDS = [{"messages": record["messages"]} for record in chats.records(12)]
# The shipped template, with the answers marked for transformers as TRL asks for it.
MARKED = chat.source("llama2").replace(
    "{{- ' ' + message.content + ' ' + eos_token }}",
    "{% generation %}{{- ' ' + message.content + ' ' + eos_token }}{% endgeneration %}",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return chats.base(tmp_path_factory.mktemp("sft") / "base")


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on the records, for its data and its result."""
    folder = tmp_path_factory.mktemp("sft")
    data = chats.write(folder / "a.jsonl", RECORDS)
    output = folder / "run"
    sft(chats.config(data, base, output, max_steps=1, heldout_share=0.0))
    return output


def trainer(base: Path, folder: Path, **options: Any) -> Any:
    """TRL's trainer of all records as one batch."""
    settings = {
        "per_device_train_batch_size": len(RECORDS),
        "assistant_only_loss": True,
        "max_length": 129,
        "loss_type": "nll",
        **options,
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = MARKED
    return trl_oracle.trainer(
        trl.SFTTrainer,
        trl.SFTConfig,
        base,
        folder,
        RECORDS,
        settings=settings,
        tokenizer=tokenizer,
    )


def ours(base: Path, shards: Shards, packing: bool) -> trl_oracle.Step:
    """The loss and gradient of all records as the loop makes them."""
    model = load_model(base)
    rows = PackedRows(shards.split("train"), 128, 0, 3, packing=packing)
    objective = Sft(
        model,
        rows,
        None,
        shards.token_bytes,
        LoopConfig(batch_size=rows.n_rows, micro_batch_size=3, device="cpu"),
        World(),
        {},
        trim=not packing,
    )
    return trl_oracle.step_of(objective)


@pytest.mark.parametrize("packing", [True, False])
def test_loss_and_gradients_are_those_of_trl(
    base: Path, run: Path, tmp_path: Path, packing: bool
) -> None:
    made = trainer(base, tmp_path)
    batch = made.data_collator([made.train_dataset[i] for i in range(len(RECORDS))])
    loss = made.compute_loss(made.model, dict(batch))
    mine = ours(base, open_shards(run / "data"), packing)
    trl_oracle.assert_equal(mine, loss, made.model)


def test_the_mask_is_the_one_that_trl_finds(base: Path, run: Path, tmp_path: Path) -> None:
    """Label for label, for every conversation, TRL's own tokenization and mask."""
    made = trainer(base, tmp_path)
    split = open_shards(run / "data").split("train")
    starts = split.document_starts()
    for number, example in enumerate(made.train_dataset):
        at, n = int(starts[number]), int(starts[number + 1] - starts[number])
        labels = np.where(split.read_mask(at, n), split.read(at, n), -100)
        assert split.read(at, n).tolist() == example["input_ids"][:n]
        assert labels.tolist() == example["labels"][:n]
        assert set(example["labels"][n:]) <= {-100}


def test_packed_as_trl_packs(base: Path, run: Path, tmp_path: Path) -> None:
    """TRL's own packing (best fit, attention kept apart by positions) gives the same numbers."""
    made = trainer(base, tmp_path, packing=True, padding_free=True)
    assert len(made.train_dataset) < len(RECORDS)
    batch = made.data_collator(list(made.train_dataset))
    made.model.set_attn_implementation("eager")
    loss = made.compute_loss(made.model, dict(batch))
    mine = ours(base, open_shards(run / "data"), True)
    trl_oracle.assert_equal(mine, loss, made.model)


def test_the_written_folder_talks_as_ours(run: Path) -> None:
    """AutoTokenizer of the result applies the template that it was trained with."""
    folder = run / "model"
    tokenizer = load_tokenizer(folder)
    template = ChatTemplate(tokenizer)
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    for record in RECORDS:
        messages = record["messages"]
        ids = auto.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert template.encode(messages).ids.tolist() == ids
        asked = auto.apply_chat_template(
            messages[:-1], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        assert template.prompt(messages[:-1]) == asked
    written = transformers.GenerationConfig.from_pretrained(folder)
    assert written.eos_token_id == tokenizer.eos_id
