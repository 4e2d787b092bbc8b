"""Promises 1, 8, 9, 10 and 18 of fine-tuning: resumed, poisoned, divided, repeated, rendered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import chats, folders
from hanllama.base import config as configs
from hanllama.base import fs
from hanllama.base.errors import Interrupted, NonFiniteError, ResumeError
from hanllama.batches.mix import PackedRows
from hanllama.batches.shards import open_shards
from hanllama.model.adapter import LoraConfig
from hanllama.model.checkpoint import load_model
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train import checkpoints
from hanllama.train.config import LoopConfig
from hanllama.train.parallel import World
from hanllama.train.sft.config import SftConfig
from hanllama.train.sft.sft import Sft, sft

GOLDEN = Path(__file__).parent / "golden_sft.json"
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": LoraConfig(rank=4, dropout=0.2)},
    "neftune": {"neftune_alpha": 5.0},
    "curriculum": {"curriculum": "grade", "packing": False},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chats.base(tmp_path_factory.mktemp("sft") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chats.write(tmp_path_factory.mktemp("sft") / "a.jsonl", chats.records(60))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def losses(run: Path) -> list[str]:
    """Every step's loss as a hex float: equal means equal to the last bit."""
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"].hex() for line in lines if "loss" in line]


def written(run: Path) -> bytes:
    (file,) = (run / "model").glob("*.safetensors")
    return file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_sft_resume_exact(data: Path, base: Path, tmp_path: Path, kind: str) -> None:
    """12 + 12 steps equal 24: losses as hex floats, weights (or adapters) byte for byte."""
    whole = chats.config(data, base, tmp_path / "whole", **KINDS[kind])
    sft(whole)
    parts = replace(whole, output=str(tmp_path / "parts"))
    with pytest.raises(Interrupted):
        sft(replace(parts, loop=replace(parts.loop, stop_at=12)))
    assert len(losses(tmp_path / "parts")) == 12
    sft(parts)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert written(tmp_path / "parts") == written(tmp_path / "whole")


def test_sft_resume_exact_refuses_what_changed(data: Path, base: Path, tmp_path: Path) -> None:
    """Other conversations, another template or another base under adapters: refused by name."""
    config = chats.config(data, base, tmp_path / "run", lora=LoraConfig(rank=2), stop_at=3)
    with pytest.raises(Interrupted):
        sft(config)
    before = sorted(f.read_bytes() for f in (tmp_path / "run" / "data").glob("*.bin"))
    other = chats.write(tmp_path / "other.jsonl", chats.records(60, seed=1))
    with pytest.raises(ResumeError, match="conversations"):
        sft(replace(config, data=(str(other),)))
    with pytest.raises(ResumeError, match="template"):
        sft(replace(config, template="vicuna"))
    moved = tmp_path / "moved"
    model = load_model(base)
    with torch.no_grad():
        model.output_weight()[5] += 1
    with fs.publish(moved) as beside:
        from hanllama.model.card import ModelCard
        from hanllama.model.checkpoint import save_model

        save_model(beside, model, base, ModelCard("base"))
    with pytest.raises(ResumeError, match="base has changed"):
        sft(replace(config, base_model=str(moved)))
    assert sorted(f.read_bytes() for f in (tmp_path / "run" / "data").glob("*.bin")) == before


def test_sft_lora_checkpoints_hold_adapters_alone(data: Path, base: Path, tmp_path: Path) -> None:
    """No frozen weight is written, and the optimizer knows the adapters only."""
    from safetensors import safe_open

    sft(chats.config(data, base, tmp_path / "run", lora=LoraConfig(rank=2)))
    checkpoint = checkpoints.all_in(tmp_path / "run" / "checkpoints")[-1]
    assert not (checkpoint / "model.safetensors").exists()
    with safe_open(checkpoint / "trainer" / "optimizer.safetensors", framework="pt") as file:
        assert all(".lora_A." in name or ".lora_B." in name for name in file.keys())  # noqa: SIM118
    model = load_model(tmp_path / "run" / "model")
    frozen = load_model(base)
    assert torch.equal(model.output_weight(), frozen.output_weight())
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(model.state_dict()[name], frozen.state_dict()[name])


def test_sft_nonfinite(data: Path, base: Path, tmp_path: Path) -> None:
    """A NaN stops before the update: the rows recorded, the checkpoint as it was."""
    from safetensors.torch import load_file, save_file

    config = chats.config(data, base, tmp_path / "run", stop_at=3)
    with pytest.raises(Interrupted):
        sft(config)
    file = tmp_path / "run" / "checkpoints" / "step-000003" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    fs.write_sums(file.parent)
    before = file.read_bytes()
    with pytest.raises(NonFiniteError, match="step 4"):
        sft(replace(config, loop=replace(config.loop, stop_at=0)))
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert record["step"] == 4 and record["rows"]
    assert file.read_bytes() == before


def objective(
    shards_folder: Path, base: Path, micro: int, world: World | None = None, **changes: Any
) -> Sft:
    shards = open_shards(shards_folder)
    settings = {"neftune_alpha": 0.0, "trim": False, **changes}
    return Sft(
        load_model(base),
        PackedRows(shards.split("train"), 128, 0, 0, packing=not settings["trim"]),
        None,
        shards.token_bytes,
        LoopConfig(batch_size=8, micro_batch_size=micro, device="cpu"),
        world or World(),
        {},
        **settings,
    )


@pytest.fixture(scope="module")
def shards(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sft") / "run"
    with pytest.raises(Interrupted):
        sft(chats.config(data, base, output, stop_at=1))
    return output / "data"


@pytest.mark.parametrize("changes", [{}, {"neftune_alpha": 5.0}, {"trim": True}], ids=str)
def test_sft_accumulate(shards: Path, base: Path, changes: dict[str, Any]) -> None:
    """1x8 = 8x1 = 3x3 = two ranks, by the trained tokens and not by rows; the noise as well."""
    whole = folders.step_gradients(objective(shards, base, 8, **changes))
    weights = [m.weight for m in objective(shards, base, 1, **changes).prepare(0)]
    assert max(weights) > 1.5 * min(weights), "the rows must be uneven for this to show anything"
    for size in (1, 3):
        for a, b in zip(
            whole, folders.step_gradients(objective(shards, base, size, **changes)), strict=True
        ):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)
    summed = [torch.zeros_like(g) for g in whole]
    for rank in range(2):
        part = objective(shards, base, 3, World(rank, 2), **changes)
        own = sum(m.weight for m in part.prepare(0)) / sum(weights)
        for sum_, grad in zip(summed, folders.step_gradients(part), strict=True):
            sum_ += grad * own
    for a, b in zip(whole, summed, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"neftune_alpha": 5.0}, {"lora": LoraConfig(rank=4)}], ids=str
)
def test_sft_accumulate_two_gloo_processes(
    data: Path, base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """torchrun with two gloo processes equals one; its checkpoint goes on in one process."""
    whole = chats.config(data, base, tmp_path / "one", micro_batch_size=3, **changes)
    sft(whole)
    config = replace(whole, output=str(tmp_path / "run"), loop=replace(whole.loop, stop_at=12))
    file = tmp_path / "run.yaml"
    file.write_text(configs.to_yaml(config), encoding="utf-8")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "hanllama", "sft", "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode != 0, "stopped early, and says so"
    assert len(losses(tmp_path / "run")) == 12, done.stdout + done.stderr
    sft(replace(config, loop=whole.loop))
    one, two = ([float.fromhex(x) for x in losses(tmp_path / name)] for name in ("one", "run"))
    assert np.allclose(one, two, rtol=0, atol=1e-5)
    a, b = (load_model(tmp_path / name / "model").state_dict() for name in ("one", "run"))
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=0, atol=2e-4), name


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_sft_golden(data: Path, base: Path, tmp_path: Path, kind: str) -> None:
    """20 steps equal the committed losses within 1e-4."""
    changes = {**KINDS[kind], "lora": LoraConfig(rank=4)} if kind == "lora" else KINDS[kind]
    sft(chats.config(data, base, tmp_path / "run", max_steps=20, **changes))
    found = [float.fromhex(x) for x in losses(tmp_path / "run")]
    golden = json.loads(GOLDEN.read_text())
    assert np.allclose(found, golden[kind], rtol=0, atol=1e-4), [round(x, 6) for x in found]
    assert found[-1] < found[0] - (0.5 if kind == "full" else 0.05)


def test_sft_chat(data: Path, base: Path, tmp_path: Path) -> None:
    """What lies in the shards is what the template gives, and the folder's own template too."""
    config: SftConfig = chats.config(data, base, tmp_path / "run", max_steps=1, heldout_share=0)
    sft(config)
    shards = open_shards(tmp_path / "run" / "data")
    template = ChatTemplate(load_tokenizer(tmp_path / "run" / "model"))
    split = shards.split("train")
    starts = split.document_starts()
    for number, record in enumerate(chats.records(60)):
        encoded = template.encode(record["messages"])
        at, n = int(starts[number]), int(starts[number + 1] - starts[number])
        assert encoded.ids[:n].tolist() == split.read(at, n).tolist()
        assert encoded.mask[:n].tolist() == split.read_mask(at, n).tolist()
        assert encoded.mask[n - 1] and not encoded.mask[n:].any()
