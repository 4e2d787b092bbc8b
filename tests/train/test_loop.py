"""The loop around a step: memory, fp16, evaluation, verdicts, errors a user can cause."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from builders import folders
from hanllama.base import allocator
from hanllama.base.errors import ConfigError, HanllamaError, InputError, NonFiniteError
from hanllama.model import device
from hanllama.model.device import products_used
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train import pretrain as pretraining
from hanllama.train import run_report, samples
from hanllama.train.pretrain import Pretrain, pretrain


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    return folders.shards(folder / "shards", folders.tokenizer(folder / "tokenizer"))


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_a_whole_folder(data: Path, tmp_path: Path) -> None:
    config = folders.pretrain_config(
        data, tmp_path / "run", max_steps=60, save_every=30, sample_tokens=8, trackers=()
    )
    pretrain(config)
    lines = metrics(tmp_path / "run")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    heldout = [line for line in lines if "heldout_bits_per_byte" in line]
    assert heldout[-1]["heldout_loss"] < heldout[0]["heldout_loss"]
    assert any("samples" in line for line in lines)
    names = {f.name for f in (tmp_path / "run" / "model").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not (tmp_path / "run" / "model" / "trainer").exists()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Training loss went from" in page and "<svg" in page and "heldout" in page


def test_the_first_lines_say_how_a_cpu_multiplies_and_why(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(folders.pretrain_config(data, tmp_path / "run", max_steps=1))
    line = capsys.readouterr().out.splitlines()[1]
    assert line == f"{products_used(torch.device('cpu'))}, heap kept"
    monkeypatch.setattr(device, "onednn", lambda: (False, "no AVX-512"))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    pretrain(folders.pretrain_config(data, tmp_path / "elsewhere", max_steps=1))
    line = capsys.readouterr().out.splitlines()[1]
    assert line == "fp32 products by torch alone (no AVX-512), heap given back"


def test_bits_per_byte_is_the_loss_over_the_bytes_of_the_text(data: Path, tmp_path: Path) -> None:
    """Over the whole held-out split: nats / ln 2 / its UTF-8 bytes (and one space a document)."""
    from hanllama.batches.shards import open_shards

    pretrain(folders.pretrain_config(data, tmp_path / "run", max_steps=1, eval_rows=0))
    figures = metrics(tmp_path / "run")[-1]
    split = open_shards(data).split("heldout")
    nats = figures["heldout_loss"] * (split.n_tokens - split.n_documents)
    # SentencePiece's dummy prefix stands for a space that the text does not have.
    bits = nats / math.log(2) / (split.n_bytes + split.n_documents)
    assert figures["heldout_bits_per_byte"] == pytest.approx(bits, rel=0.02)


def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(folders.pretrain_config(data, tmp_path / "whole", max_steps=4))
    plain = Pretrain.loss

    def small_memory(self: Pretrain, micro: pretraining.Micro) -> torch.Tensor:
        if len(micro.rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, micro)

    monkeypatch.setattr(Pretrain, "loss", small_memory)
    pretrain(folders.pretrain_config(data, tmp_path / "run", max_steps=4))
    events = [line["event"] for line in metrics(tmp_path / "run") if "event" in line]
    assert len(events) == 2 and "micro_batch_size 8" in str(events[0])
    for a, b in zip(
        metrics(tmp_path / "whole"),
        [m for m in metrics(tmp_path / "run") if "event" not in m],
        strict=True,
    ):
        key = "loss" if "loss" in a else "heldout_loss"
        assert a[key] == pytest.approx(b[key], abs=1e-5)
    with pytest.raises(HanllamaError, match=r"lower loop\.micro_batch_size"):
        pretrain(folders.pretrain_config(data, tmp_path / "no", auto_micro_batch=False))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precisions_learn_too(data: Path, tmp_path: Path, dtype: str) -> None:
    pretrain(folders.pretrain_config(data, tmp_path / "run", dtype=dtype, max_steps=30))
    pretrain(folders.pretrain_config(data, tmp_path / "exact", max_steps=30))
    low = [m["loss"] for m in metrics(tmp_path / "run") if "loss" in m]
    exact = [m["loss"] for m in metrics(tmp_path / "exact") if "loss" in m]
    assert low != exact and low[-1] == pytest.approx(exact[-1], abs=0.15)


class Explode(torch.autograd.Function):
    """The identity, with an infinite gradient."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * math.inf


def exploding(monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    """Let every n-th training step have a finite loss and an infinite gradient."""
    plain, calls = Pretrain.loss, [0]

    def loss(self: Pretrain, micro: pretraining.Micro) -> torch.Tensor:
        calls[0] += torch.is_grad_enabled()
        value = plain(self, micro)
        return Explode.apply(value) if calls[0] % every == 0 else value  # type: ignore[no-any-return]

    monkeypatch.setattr(Pretrain, "loss", loss)


def test_fp16_overflow_is_counted_and_skipped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exploding(monkeypatch, every=3)
    pretrain(folders.pretrain_config(data, tmp_path / "run", dtype="float16", max_steps=9))
    steps = [m for m in metrics(tmp_path / "run") if "loss" in m]
    assert [m["overflows"] for m in steps] == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert steps[2]["loss_scale"] == steps[1]["loss_scale"] / 2


def test_fp16_overflow_alarms_when_it_persists(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exploding(monkeypatch, every=1)
    with pytest.raises(NonFiniteError, match="25 steps in a row"):
        pretrain(folders.pretrain_config(data, tmp_path / "run", dtype="float16", max_steps=40))


def test_an_infinite_gradient_stops_a_float32_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exploding(monkeypatch, every=3)
    with pytest.raises(NonFiniteError, match="step 3: gradient is not finite"):
        pretrain(folders.pretrain_config(data, tmp_path / "run", max_steps=9))


def test_a_model_learns_on_from_another(data: Path, tmp_path: Path) -> None:
    pretrain(folders.pretrain_config(data, tmp_path / "first", max_steps=30))
    base = str(tmp_path / "first" / "model")
    config = folders.pretrain_config(data, tmp_path / "second", max_steps=2)
    again = replace(config, base_model=base, model=folders.ModelShape())
    pretrain(again)
    first, second = metrics(tmp_path / "first"), metrics(tmp_path / "second")
    assert second[0]["loss"] < 0.8 * first[0]["loss"]
    assert (tmp_path / "second" / "model" / "README.md").read_text().count("pretrain") >= 2
    with pytest.raises(ConfigError, match="leave one of the two out"):
        pretrain(replace(again, model=folders.SHAPE, output=str(tmp_path / "third")))


def test_another_tokenizer_is_refused(data: Path, tmp_path: Path) -> None:
    pretrain(folders.pretrain_config(data, tmp_path / "first", max_steps=1))
    other = folders.shards(
        tmp_path / "shards", folders.tokenizer(tmp_path / "tokens", vocab_size=390)
    )
    config = folders.pretrain_config(other, tmp_path / "run")
    config = replace(
        config, base_model=str(tmp_path / "first" / "model"), model=folders.ModelShape()
    )
    with pytest.raises(InputError, match="another tokenizer"):
        pretrain(config)


def test_errors_a_user_can_cause(data: Path, tmp_path: Path) -> None:
    config = folders.pretrain_config(data, tmp_path / "run")
    with pytest.raises(InputError, match="does not exist"):
        pretrain(replace(config, data=str(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match="divisible"):
        pretrain(replace(config, model=replace(config.model, num_attention_heads=5)))
    with pytest.raises(ConfigError, match=r"model\.hidden_size is missing"):
        pretrain(replace(config, output=str(tmp_path / "b"), model=folders.ModelShape()))
    with pytest.raises(ConfigError, match=r"model\.rope_theta describes a new model"):
        replace(config, base_model="a", model=folders.ModelShape(rope_theta=500.0))
    with pytest.raises(ConfigError, match="context must be"):
        replace(config, context=1)
    with pytest.raises(ConfigError, match="device 'cuda"):
        pretrain(folders.pretrain_config(data, tmp_path / "c", device="cuda:7"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        pretrain(folders.pretrain_config(data, tmp_path / "full"))


def test_verdicts() -> None:
    steps = [{"step": i, "loss": 5 - 0.04 * i, "tokens": i} for i in range(100)]
    bits = {"heldout_bits_per_byte": 1.0}
    rising = [{"step": 40, "heldout_loss": 2.0, **bits}, {"step": 99, "heldout_loss": 2.4, **bits}]
    texts = [words for _, words in run_report.verdicts(steps, rising, 99, 100)]
    assert any("not finished" in t for t in texts)
    assert any("memorise" in t for t in texts) and any("above training" in t for t in texts)
    squares = [{"step": 99, "heldout_loss": 25.0, "heldout_accuracy": 0.7}]
    texts = [words for _, words in run_report.verdicts(steps, squares, 100, 100)]
    assert not any("above training" in t for t in texts), "IPO's loss is not in nats a token"
    texts = [words for _, words in run_report.verdicts(steps, [], 100, 100)]
    assert any("No held-out" in t for t in texts)


def test_the_verdict_on_training_does_not_hang_on_one_step() -> None:
    losses = [0.32, 0.44, 0.44, 0.41, 0.36, 0.28, 0.34, 0.34]  # of 16 pairs each
    steps = [{"step": i, "loss": loss} for i, loss in enumerate(losses)]
    assert ("good", "Training loss went from 0.380 to 0.340.") in run_report.verdicts(
        steps, [], 8, 8
    )


def test_reinforcement_learning_is_judged_by_its_reward_and_held_out_prompts() -> None:
    steps = [{"step": n, "loss": 0.1 * n, "reward": 0.2 * n} for n in (1, 2)]
    evals = [{"step": n, "heldout_reward": 0.1 * n, "heldout_kl": 1.5 * n} for n in (1, 2)]
    assert run_report.verdicts(steps, evals, 2, 2) == [
        ("good", "Training reward went from 0.200 to 0.400."),
        ("info", "Reward of answers to held-out prompts: 0.100 at step 1, 0.200 at step 2."),
    ]


def test_a_sample_prompt_without_a_token_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(folders.tokenizer(tmp_path / "tokenizer"))
    monkeypatch.setattr(tokenizer, "bos_id", None)  # as vocabularies taken from elsewhere may be
    monkeypatch.setattr(samples, "load_tokenizer", lambda folder: tokenizer)
    samples.Sampler(tmp_path, ["从前"], tokens=4, seed=0)
    with pytest.raises(InputError, match="BOS"):
        samples.Sampler(tmp_path, ["从前", ""], tokens=4, seed=0)
