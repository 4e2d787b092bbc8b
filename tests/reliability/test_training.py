"""Promises 1-10 and 14 of a training run: killed, filled up, altered, interrupted, divided.

Real processes, real signals, real files. `run_pretrain` starts the command as a user would;
`_kill_trials.py` runs many forked trials in one warm process, since importing torch costs seconds.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import folders
from hanllama.base import config as configs
from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError, Interrupted, NonFiniteError, ResumeError
from hanllama.batches.mix import PackedRows
from hanllama.batches.shards import open_shards
from hanllama.model.checkpoint import load_model
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train import checkpoints
from hanllama.train.config import LoopConfig, PretrainConfig
from hanllama.train.parallel import World
from hanllama.train.pretrain import Pretrain, pretrain

GOLDEN = Path(__file__).parent / "golden_pretrain.json"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return folders.shards(folder / "shards", folders.tokenizer(folder / "tokenizer"))


@pytest.fixture(scope="session")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    output = tmp_path_factory.mktemp("whole") / "run"
    pretrain(folders.pretrain_config(data, output))
    return output


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def losses(run: Path) -> list[str]:
    """Every step's loss as a hex float: equal means equal to the last bit."""
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"].hex() for line in lines if "loss" in line]


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def run_pretrain(
    config: PretrainConfig, *, processes: int = 1, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """`hanllama pretrain --config FILE` as a process of its own (under torchrun for several)."""
    file = Path(config.output).with_suffix(".yaml")
    file.write_text(configs.to_yaml(config), encoding="utf-8")
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.Popen(
        [*command, "hanllama", "pretrain", "--config", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=before,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def test_resume_exact(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """12 + 12 steps equal 24: losses as hex floats, weights byte for byte."""
    with pytest.raises(Interrupted):
        pretrain(folders.pretrain_config(data, tmp_path / "run", stop_at=12))
    assert len(losses(tmp_path / "run")) == 12
    pretrain(folders.pretrain_config(data, tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(uninterrupted)
    assert weights(tmp_path / "run") == weights(uninterrupted)


def test_resume_exact_from_any_step(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    for step in (1, 5, 23):
        output = tmp_path / f"run{step}"
        with pytest.raises(Interrupted):
            pretrain(folders.pretrain_config(data, output, stop_at=step))
        pretrain(folders.pretrain_config(data, output))
        assert losses(output) == losses(uninterrupted)
        assert weights(output) == weights(uninterrupted)


def test_complete_run_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    config = folders.pretrain_config(data, tmp_path / "run")
    pretrain(config)
    before = weights(tmp_path / "run")
    pretrain(config)
    assert weights(tmp_path / "run") == before
    assert len(losses(tmp_path / "run")) == 24


def test_a_second_run_is_refused_while_the_first_is_at_work(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """Two in one folder would mix their metrics and remove each other's checkpoints."""
    output = tmp_path / "run"
    with fs.alone(output):
        with pytest.raises(InputError, match="another run is at work"):
            pretrain(folders.pretrain_config(data, output))
        assert not output.exists()
    pretrain(folders.pretrain_config(data, output))
    assert weights(output) == weights(uninterrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_kill9(data: Path, tmp_path: Path) -> None:
    """SIGKILL at every file operation inside a save, and death in the middle of every large
    write: the newest checkpoint loads and the rerun reaches the same bytes."""
    result = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "_kill_trials.py"), str(data), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["killed"] >= 30, report
    assert report["wrong"] == [], report


def test_disk_full(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The disk refuses the second checkpoint: not 0, the path named, the first one intact."""
    config = folders.pretrain_config(data, tmp_path / "run", stop_at=12)
    with pytest.raises(Interrupted):
        pretrain(config)
    first = tmp_path / "run" / "checkpoints" / "step-000012"
    size = (first / "model.safetensors").stat().st_size

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    whole = folders.pretrain_config(data, tmp_path / "run")
    code, output = finish(run_pretrain(whole, before=small_files_only))
    assert code == 2, output
    assert "step-000024" in output and "cannot write" in output
    assert "Traceback" not in output
    checkpoints.verify(first)
    assert [c.name for c in checkpoints.all_in(first.parent)] == ["step-000012"]
    pretrain(whole)
    assert weights(tmp_path / "run") == weights(uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_sigterm(data: Path, tmp_path: Path, number: int, code: int) -> None:
    """The current step ends, a checkpoint is written, exit 143 (130); the resume is exact."""
    config = folders.pretrain_config(data, tmp_path / "run", max_steps=300, save_every=300)
    process = run_pretrain(config)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") >= 3:
            break
        time.sleep(0.01)
    process.send_signal(number)
    returned, output = finish(process)
    assert returned == code, output
    (saved,) = checkpoints.all_in(tmp_path / "run" / "checkpoints")
    assert 3 <= checkpoints.step_of(saved) < 300
    assert f"step {checkpoints.step_of(saved)} of 300" in output
    pretrain(config)
    pretrain(replace(config, output=str(tmp_path / "whole")))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


@pytest.mark.parametrize("name", ["model.safetensors", "trainer/optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_corrupt(data: Path, tmp_path: Path, name: str, damage: str) -> None:
    """A truncated or missing file or one flipped bit in the newest checkpoint is refused."""
    with pytest.raises(Interrupted):
        pretrain(folders.pretrain_config(data, tmp_path / "run", stop_at=3))
    file = tmp_path / "run" / "checkpoints" / "step-000003" / name
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[:-7])
    elif damage == "flipped":
        content[len(content) * 2 // 3] ^= 0b100
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(CorruptError, match=Path(name).name):
        pretrain(folders.pretrain_config(data, tmp_path / "run"))


def test_fingerprint(data: Path, tmp_path: Path) -> None:
    """Changed shards, tokenizer, model or settings on resume: refused, naming the field."""
    config = folders.pretrain_config(data, tmp_path / "run", stop_at=3)
    with pytest.raises(Interrupted):
        pretrain(config)
    other = folders.shards(tmp_path / "other", data / "tokenizer", seed=2)
    with pytest.raises(ResumeError, match="data has changed"):
        pretrain(replace(config, data=str(other)))
    tokens = folders.tokenizer(tmp_path / "tokenizer", vocab_size=390)
    another = folders.shards(tmp_path / "another", tokens)
    with pytest.raises(ResumeError, match=r"(tokenizer|data|model)"):
        pretrain(replace(config, data=str(another)))
    with pytest.raises(ResumeError, match=r"model\.num_hidden_layers was 2 and is 3"):
        pretrain(replace(config, model=replace(config.model, num_hidden_layers=3)))
    with pytest.raises(ResumeError, match=r"optim\.learning_rate"):
        pretrain(replace(config, optim=replace(config.optim, learning_rate=1e-4)))


def test_fingerprint_ignores_where_data_lies(data: Path, tmp_path: Path) -> None:
    config = folders.pretrain_config(data, tmp_path / "run", stop_at=3)
    with pytest.raises(Interrupted):
        pretrain(config)
    shutil.copytree(data, tmp_path / "moved")
    pretrain(folders.pretrain_config(tmp_path / "moved", tmp_path / "run"))


def test_nonfinite(data: Path, tmp_path: Path) -> None:
    """A NaN stops before the update: weights unchanged, rows recorded, exit code 2."""
    config = folders.pretrain_config(data, tmp_path / "run", micro_batch_size=2, stop_at=3)
    with pytest.raises(Interrupted):
        pretrain(config)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000003"
    poison(checkpoint)
    before = (checkpoint / "model.safetensors").read_bytes()
    with pytest.raises(NonFiniteError, match="step 4") as caught:
        pretrain(folders.pretrain_config(data, tmp_path / "run", micro_batch_size=2))
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    assert record["step"] == 4 and record["loss"] == "nan"
    packed = PackedRows(open_shards(data).split("train"), 32, seed=0, pad=3)
    rows = packed.batch(3, 8)
    assert set(record["rows"]) <= set(rows.tolist()) and record["rows"]
    tokens_T = packed.rows(np.array(record["rows"])).tokens_RT[0]
    text = load_tokenizer(data / "tokenizer").decode(tokens_T.tolist())
    assert record["names"][0] == text != ""
    assert f"{record['rows'][0]}: {' '.join(text.split())}" in str(caught.value)
    assert (checkpoint / "model.safetensors").read_bytes() == before
    assert len(checkpoints.all_in(checkpoint.parent)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_nonfinite_names_the_rows_of_whatever_process(
    data: Path, tmp_path: Path, processes: int
) -> None:
    """One micro-batch of the second process has no finite loss: its rows are named, no others."""
    config = folders.pretrain_config(data, tmp_path / "run", micro_batch_size=2)
    rows = PackedRows(open_shards(data).split("train"), 32, seed=0, pad=3).batch(0, 8).tolist()
    (tmp_path / "run.yaml").write_text(configs.to_yaml(config), encoding="utf-8")
    trial = [str(Path(__file__).parent / "_nan_trial.py"), str(rows[1]), str(tmp_path / "run.yaml")]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [sys.executable, *launcher, *trial],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode != 0 and "loss is not finite" in done.stderr, done.stdout + done.stderr
    record = json.loads((tmp_path / "run" / "nonfinite.json").read_text())
    beside = rows[0] if processes == 1 else rows[3]
    assert record["rows"] == sorted([rows[1], beside])
    assert len(record["names"]) == 2 and all(record["names"])


def poison(checkpoint: Path) -> None:
    """Put a NaN into the weights of a checkpoint and make its checksums right again."""
    from safetensors.torch import load_file, save_file

    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    fs.write_sums(checkpoint)


def test_spikes_are_logged_and_not_skipped(data: Path, tmp_path: Path) -> None:
    from collections import deque

    from hanllama.train.loop import is_spike

    calm = deque([3.0 + 0.01 * (i % 5) for i in range(50)])
    assert is_spike(3.5, calm) and not is_spike(3.03, calm)
    assert not is_spike(9.0, deque([3.0] * 5)), "too few losses to judge by"


def objective(data: Path, micro_batch_size: int, world: World | None = None) -> Pretrain:
    """A document a row, so that rows are as uneven as the documents."""
    from hanllama.model.llama import Llama

    shards = open_shards(data)
    model = Llama(folders.SHAPE.resolve(shards.vocab_size, 96), torch.Generator().manual_seed(0))
    return Pretrain(
        model,
        PackedRows(shards.split("train"), 96, 0, 0, packing=False),
        None,
        shards.token_bytes,
        LoopConfig(batch_size=8, micro_batch_size=micro_batch_size, device="cpu"),
        world or World(),
        {},
    )


def mean_over_tokens(data: Path) -> list[torch.Tensor]:
    """The gradient of the plain mean over the predicted tokens of the step, all rows at once."""
    made = objective(data, 8)
    (micro,) = made.prepare(0)
    tokens, labels, positions, documents = micro.data
    logits = made.model(tokens, positions, documents)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    return [p.grad for p in made.model.parameters() if p.grad is not None]


def test_accumulate(data: Path) -> None:
    """1x8 = 8x1 = 3x3 on rows of very uneven length: the mean over tokens, not over rows."""
    weights = [m.weight for m in objective(data, 1).prepare(0)]
    assert max(weights) > 3 * min(weights), "the rows must be uneven for this to show anything"
    expected = mean_over_tokens(data)
    for size in (8, 1, 3, 4):
        for a, b in zip(expected, folders.step_gradients(objective(data, size)), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)


def test_accumulate_over_two_ranks(data: Path) -> None:
    """What two processes would add up is the gradient of the one."""
    whole = mean_over_tokens(data)
    total = sum(m.weight for m in objective(data, 8).prepare(0))
    summed = [torch.zeros_like(g) for g in whole]
    for rank in range(2):
        part = objective(data, 3, World(rank, 2))
        own = sum(m.weight for m in part.prepare(0))
        for sum_, grad in zip(summed, folders.step_gradients(part), strict=True):
            sum_ += grad * (own / total)
    for a, b in zip(whole, summed, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_accumulate_two_gloo_processes(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """torchrun with two gloo processes equals one; its checkpoint goes on in one process."""
    config = folders.pretrain_config(data, tmp_path / "run", stop_at=12, micro_batch_size=3)
    code, output = finish(run_pretrain(config, processes=2))
    assert len(losses(tmp_path / "run")) == 12, output
    assert code != 0, "stopped early, and says so"
    pretrain(folders.pretrain_config(data, tmp_path / "run", micro_batch_size=3))
    one = [float.fromhex(x) for x in losses(uninterrupted)]
    two = [float.fromhex(x) for x in losses(tmp_path / "run")]
    assert np.allclose(one, two, rtol=0, atol=1e-5)
    a, b = (load_model(run / "model").state_dict() for run in (uninterrupted, tmp_path / "run"))
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=0, atol=2e-4), name


def test_golden(data: Path, tmp_path: Path) -> None:
    """20 steps equal the committed losses within 1e-4, and on one machine run twice exactly."""
    for name in ("a", "b"):
        config = folders.pretrain_config(data, tmp_path / name, max_steps=20, save_every=20)
        pretrain(config)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    found = [float.fromhex(x) for x in losses(tmp_path / "a")]
    if os.environ.get("HANLLAMA_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps([round(x, 6) for x in found]) + "\n")
    assert np.allclose(found, json.loads(GOLDEN.read_text()), rtol=0, atol=1e-4)


def test_batch_pure(data: Path) -> None:
    """A fresh process in any order gives the same batches; each window once per epoch."""
    rows = PackedRows(open_shards(data).split("train"), 32, seed=0, pad=0)
    steps = rows.n_rows // 8 + 5
    here = {s: rows.rows(rows.batch(s, 8)).tokens_RT.tolist() for s in range(steps)}
    script = (
        "import json, sys; from hanllama.batches.mix import PackedRows;"
        "from hanllama.batches.shards import open_shards;"
        "rows = PackedRows(open_shards(sys.argv[1]).split('train'), 32, seed=0, pad=0);"
        "print(json.dumps({s: rows.rows(rows.batch(s, 8)).tokens_RT.tolist()"
        f" for s in reversed(range({steps}))}}))"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", script, str(data)], capture_output=True, text=True, check=True
    )
    assert {int(k): v for k, v in json.loads(fresh.stdout).items()} == here
    for epoch in range(3):
        numbers = rows.batch(0, rows.n_rows * 3).reshape(3, -1)[epoch]
        assert sorted(numbers.tolist()) == list(range(rows.n_rows))
    labels = rows.rows(np.arange(rows.n_rows)).labels_RT
    split = open_shards(data).split("train")
    assert (labels >= 0).sum() == split.n_tokens - split.n_documents
