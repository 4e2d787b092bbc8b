"""Promises 1, 8, 9 and 10 of reward models and of every preference loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import pairs
from hanllama.base import config as configs
from hanllama.base import fs, plugins
from hanllama.base.errors import Interrupted, NonFiniteError, ResumeError
from hanllama.model.adapter import LoraConfig
from hanllama.model.checkpoint import load_model
from hanllama.model.llama import Llama
from hanllama.model.reward import reward_model_from
from hanllama.train import checkpoints
from hanllama.train.parallel import World
from hanllama.train.preferences import losses as preference
from hanllama.train.preferences.data import Row
from hanllama.train.preferences.dpo import Preference, dpo
from hanllama.train.preferences.objective import PreferenceObjective, Split
from hanllama.train.preferences.reward import Reward, reward

GOLDEN = Path(__file__).parent / "golden_preference.json"
LOSSES = plugins.names(preference.PACKAGE)
KINDS = [*LOSSES, "reward"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("preference")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return pairs.base_model(folder / "base")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return pairs.write(folder / "data.jsonl", pairs.records(40))


def run(kind: str, data: Path, output: Path, base: Path, **changed: Any) -> None:
    """`hanllama reward`, or `hanllama dpo --loss KIND`."""
    if kind == "reward":
        reward(pairs.reward_config(data, output, base, **changed))
    else:
        dpo(pairs.dpo_config(data, output, base, loss=kind, **changed))


def losses(output: Path) -> list[str]:
    """Every step's loss as a hex float: equal means equal to the last bit."""
    return [m["loss"].hex() for m in pairs.metrics(output) if "loss" in m]


def weights(output: Path) -> bytes:
    (file,) = (output / "model").glob("*.safetensors")
    return file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_resume_exact_and_twice_the_same(kind: str, data: Path, base: Path, tmp_path: Path) -> None:
    """12 + 12 steps equal 24: losses as hex floats, weights byte for byte."""
    run(kind, data, tmp_path / "whole", base)
    with pytest.raises(Interrupted):
        run(kind, data, tmp_path / "run", base, loop={"stop_at": 12})
    assert len(losses(tmp_path / "run")) == 12
    (checkpoint,) = checkpoints.all_in(tmp_path / "run" / "checkpoints")
    assert len(checkpoints.read_state(checkpoint).objective["accuracies"]) == 12
    run(kind, data, tmp_path / "run", base)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_resume_exact_with_adapters(kind: str, data: Path, base: Path, tmp_path: Path) -> None:
    lora = LoraConfig(rank=4, dropout=0.1)
    run(kind, data, tmp_path / "whole", base, lora=lora)
    with pytest.raises(Interrupted):
        run(kind, data, tmp_path / "run", base, lora=lora, loop={"stop_at": 5})
    run(kind, data, tmp_path / "run", base, lora=lora)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_golden_losses(kind: str, data: Path, base: Path, tmp_path: Path) -> None:
    """20 steps equal the committed losses within 1e-4 on any machine."""
    run(kind, data, tmp_path / "run", base, loop={"max_steps": 20, "save_every": 20})
    found = [float.fromhex(x) for x in losses(tmp_path / "run")]
    golden = json.loads(GOLDEN.read_text())
    assert np.allclose(found, golden[kind], rtol=0, atol=1e-4), found


def objective(
    kind: str, base: Path, given: list[Row], micro_batch_size: int, world: World
) -> tuple[PreferenceObjective, Llama]:
    loop = pairs.loop(batch_size=16, micro_batch_size=micro_batch_size)
    if kind == "reward":
        model = reward_model_from(base, 0)
        train = Split(given)
        return Reward(model, 0.1, True, train, Split([]), loop, world, {}), model
    loss = preference.build(kind)
    policy = moved(load_model(base))
    split = pairs.compared(load_model(base), given)
    train = split if loss.NEEDS_REFERENCE else Split(given)
    return Preference(policy, loss, kind, train, Split([]), loop, world, {}), policy


def test_a_step_of_good_answers_alone_has_no_margin(data: Path, base: Path) -> None:
    """Nor figures of the side that it lacks: 0 would be taken for a reward."""
    given = rows("kto", base, data)
    sided = {"margin", "reward_rejected", "log_prob_rejected", "drift_rejected"}
    for part, missing in ((given, set()), ([row for row in given if row.good], sided)):
        made, _ = objective("kto", base, part, 4, World())
        for micro in made.prepare(0):
            made.loss(micro)
        found = made.step_metrics()
        assert sided - found.keys() == missing and found["reward_chosen"] != 0
    assert found["accuracy"] < 1 and found["kl"] > 0


@torch.no_grad()
def moved(model: Llama) -> Llama:
    """The model a good way from where it was, so that KTO's KL is not 0."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def assert_equal(whole: list[torch.Tensor], parts: list[torch.Tensor]) -> None:
    """Within 1e-6, of the largest gradient where that is above 1 (IPO's are)."""
    largest = max(1.0, *(float(g.abs().max()) for g in whole))
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6 * largest)


def gradients(objective: PreferenceObjective, model: Llama) -> tuple[float, list[torch.Tensor]]:
    """The step's weight and gradient as the loop makes it on one process."""
    micros = objective.prepare(0)
    total = sum(m.weight for m in micros)
    model.zero_grad()
    for micro in micros:
        (objective.loss(micro) / total).backward()
    return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_accumulate(kind: str, data: Path, base: Path) -> None:
    """1 x 16 = 16 x 1 = 3 rows at a time, of very uneven length: gradients within 1e-6."""
    given = rows(kind, base, data)
    _, whole = gradients(*objective(kind, base, given, 16, World()))
    assert max(float(g.abs().max()) for g in whole) > 1e-4
    for size in (1, 3, 8):
        _, parts = gradients(*objective(kind, base, given, size, World()))
        assert_equal(whole, parts)


class OneOfTwo(World):
    """A process of two; what the other one would add up comes from a single process."""

    def sum(self, values: list[float], device: torch.device) -> list[float]:
        return [self.answers.pop(0)] if len(values) == 1 else values  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["dpo", "kto", "orpo", "reward"])
def test_accumulate_over_two_ranks(kind: str, data: Path, base: Path) -> None:
    """What two processes would add up is the gradient of the one, KTO's KL included."""
    given = rows(kind, base, data)
    alone, model = objective(kind, base, given, 16, World())
    total, whole = gradients(alone, model)
    summed = [torch.zeros_like(g) for g in whole]
    for rank in range(2):
        world = OneOfTwo(rank, 2)
        kl_sum = alone.kl(alone.train, alone_rows(alone)) * 16
        object.__setattr__(world, "answers", [kl_sum])
        own, part = gradients(*objective(kind, base, given, 3, world))
        for sum_, gradient in zip(summed, part, strict=True):
            sum_ += gradient * (own / total)
    assert_equal(whole, summed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dpo", "kto", "reward"])
def test_accumulate_two_gloo_processes(kind: str, data: Path, base: Path, tmp_path: Path) -> None:
    """torchrun with two processes gives the losses and figures of one, reference pass included.

    It is stopped half way, and its checkpoint goes on in one process. The reference is another
    model: against itself, the first step's accuracy would count roundings.
    """
    steps = {"max_steps": 8, "save_every": 4}
    given: dict[str, Any] = {"loop": steps}
    if kind != "reward":
        given["reference_model"] = str(pairs.base_model(tmp_path / "reference", seed=5))
    run(kind, data, tmp_path / "one", base, **given)
    make = pairs.reward_config if kind == "reward" else pairs.dpo_config
    loss = {} if kind == "reward" else {"loss": kind}
    changes = {**given, **loss, "loop": {**steps, "stop_at": 4}}
    file = tmp_path / "two.yaml"
    config: Any = make(data, tmp_path / "two", base, **changes)
    file.write_text(configs.to_yaml(config), encoding="utf-8")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = "reward" if kind == "reward" else "dpo"
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "hanllama", command, "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode != 0, "stopped early, and says so"
    assert len(losses(tmp_path / "two")) == 4, done.stdout + done.stderr
    run(kind, data, tmp_path / "two", base, **given)
    one, two = (pairs.metrics(tmp_path / name) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for name in a.keys() - {"tokens_per_second", "mfu", "tables"}:
            assert b[name] == pytest.approx(a[name], abs=1e-4), name


def alone_rows(objective: PreferenceObjective) -> Any:
    from hanllama.batches.mix import rows_of_step

    return rows_of_step(0, 16, len(objective.train.rows), 0)


def rows(kind: str, base: Path, data: Path) -> list[Row]:
    return pairs.rows(base, data, paired=kind != "kto").train


@pytest.mark.parametrize("kind", KINDS)
def test_nonfinite(kind: str, data: Path, base: Path, tmp_path: Path) -> None:
    """A NaN stops before the update: weights unchanged, the pairs recorded."""
    from safetensors.torch import load_file, save_file

    with pytest.raises(Interrupted):
        run(kind, data, tmp_path / "run", base, loop={"stop_at": 3})
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000003"
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    fs.write_sums(checkpoint)
    before = file.read_bytes()
    with pytest.raises(NonFiniteError, match="step 4"):
        run(kind, data, tmp_path / "run", base)
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    lines = {f"{data.parent.name}/data.jsonl:{number}" for number in range(1, 41)}
    assert record["rows"] and set(record["names"]) <= lines
    assert file.read_bytes() == before


def test_fingerprint_of_data_reference_and_loss(data: Path, base: Path, tmp_path: Path) -> None:
    """Other pairs, another reference or other parameters of the loss on resume: refused, named."""
    output = tmp_path / "run"
    with pytest.raises(Interrupted):
        run("dpo", data, output, base, loop={"stop_at": 3})
    other = pairs.write(tmp_path / "other.jsonl", pairs.records(40, seed=9))
    with pytest.raises(ResumeError, match="data has changed"):
        run("dpo", other, output, base)
    stranger = pairs.base_model(tmp_path / "stranger", seed=5)
    with pytest.raises(ResumeError, match="reference has changed"):
        run("dpo", data, output, stranger)
    with pytest.raises(ResumeError, match="loss_options"):
        run("dpo", data, output, base, loss_options=("beta=0.2",))
    with pytest.raises(ResumeError, match="loss was 'dpo' and is 'ipo'"):
        run("ipo", data, output, base)


def test_fingerprint_of_a_loss_of_ones_own(data: Path, base: Path, tmp_path: Path) -> None:
    """The file behind `--loss mine.py` is changed between two halves of a run: refused."""
    own = tmp_path / "mine.py"
    own.write_bytes(Path(preference.__file__).with_name("ipo.py").read_bytes())
    with pytest.raises(Interrupted):
        run(str(own), data, tmp_path / "run", base, loop={"stop_at": 3})
    own.write_text(own.read_text() + "# another thought\n")
    with pytest.raises(ResumeError, match="loss has changed"):
        run(str(own), data, tmp_path / "run", base)


def test_fingerprint_of_moved_files_is_the_same(data: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run("dpo", data, tmp_path / "run", base, loop={"stop_at": 3})
    moved_file = tmp_path / "moved.jsonl"
    moved_file.write_bytes(data.read_bytes())
    run("dpo", moved_file, tmp_path / "run", base)
    assert len(losses(tmp_path / "run")) == 24
