"""How far a model has gone is what a plain forward pass of both models says."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import folders
from hanllama.batches.shards import open_shards
from hanllama.evaluate.drift import bits_per_byte, kl_per_answer
from hanllama.model.checkpoint import load_model
from hanllama.train.pretrain import pretrain
from hanllama.train.sequences import TokenSequence


def test_kl_is_that_of_whole_distributions_answer_by_answer(tmp_path: Path) -> None:
    model = load_model(folders.chat_model(tmp_path / "a", seed=1))
    other = load_model(folders.chat_model(tmp_path / "b", seed=2))
    draw = np.random.default_rng(7)
    lengths = [(3, 5), (10, 1), (1, 40), (25, 12)] * 5  # more than one batch
    answers = []
    expected = 0.0
    for n_prompt, n_answer in lengths:
        ids = draw.integers(5, 300, n_prompt + n_answer)
        answers.append(TokenSequence(ids, np.arange(ids.size) >= n_prompt))
        with torch.no_grad():
            p, q = (m(torch.from_numpy(ids)[None]).log_softmax(-1)[0] for m in (model, other))
        places = slice(n_prompt - 1, -1)  # a token is predicted one place before it
        expected += float((p[places].exp() * (p[places] - q[places])).sum())
    assert kl_per_answer(model, other, answers) == pytest.approx(expected / len(answers), rel=1e-4)
    assert kl_per_answer(model, model, answers) == 0.0


def test_bits_per_byte_of_held_out_text_is_the_loops_own(tmp_path: Path) -> None:
    """Rows as long as the longest document hold whole documents: the loop measures the same."""
    data = folders.shards(tmp_path / "data", folders.tokenizer(tmp_path / "tok"), documents=40)
    shards = open_shards(data)
    heldout = shards.split("heldout")
    starts = heldout.document_starts()
    longest = max(int(np.diff(shards.split(s).document_starts()).max()) for s in shards.splits)
    config = folders.pretrain_config(data, tmp_path / "run", max_steps=4, save_every=4, eval_rows=0)
    pretrain(replace(config, context=longest))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    measured = [json.loads(line).get("heldout_bits_per_byte") for line in lines]
    documents = [heldout.read(int(a), int(b - a)) for a, b in pairwise(starts)]
    found = bits_per_byte(load_model(tmp_path / "run" / "model"), documents, shards.token_bytes)
    assert found == pytest.approx([m for m in measured if m][-1], rel=1e-4)
