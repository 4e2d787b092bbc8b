"""A plan says beforehand what a run takes: exact counts, memory by hand, advice to act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from hanllama import cli
from hanllama import config as configs
from hanllama.errors import ConfigError
from hanllama.losses import cross_entropy_sum
from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig
from hanllama.plan import PlanConfig, jobs, measure, plan
from hanllama.train import memory
from hanllama.train.memory import Pass

# D 8, L 2, H 2 of 4, K 1 (grouped), F 16, V 10, tied.
TINY = LlamaConfig(
    vocab_size=10,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=16,
    tie_word_embeddings=True,
)


def _plan(*words: str) -> list[dict[str, Any]]:
    return plan(configs.parse(PlanConfig, words, "hanllama plan"))["plans"]


def _fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["plan", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    return said.err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    return tiny.shards(folder / "data", tiny.tokenizer(folder / "tokenizer"))


def _written(folder: Path, **values: Any) -> str:
    path = folder / "pretrain.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return str(path)


# --- numbers worked by hand ----------------------------------------------------------------------

SHAPE = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
}


def test_parameters_steps_and_flops_are_those_worked_by_hand(tmp_path: Path) -> None:
    path = _written(
        tmp_path, context=4, model=SHAPE, loop={"batch_size": 6, "micro_batch_size": 2, "epochs": 3}
    )
    (found,) = _plan(path, "--vocab-size", "10", "--tokens", "400", "--devices", "h100")
    # A layer: q and o 8x8, k and v 8x4, three 8x16, two norms of 8: 128 + 64 + 384 + 16 = 592.
    body = 2 * 592 + 8
    assert found["parameters_without_embeddings"] == body == 1192
    assert found["parameters"] == 1192 + 10 * 8
    # 100 rows of 4, three times over, by 6 rows a step; 24 tokens each.
    assert (found["rows"], found["tokens_per_step"], found["steps"]) == (100, 24, 50)
    assert found["epochs"] == pytest.approx(3.0)
    # 6 a multiplying parameter (the tied head counts), 6 x layers x width x context of attention.
    per_token = 6 * (1192 + 80) + 6 * 2 * 8 * 4
    assert found["flops_per_token"] == per_token == 8016
    assert found["flops"] == 8016 * 24 * 50


def test_memory_of_a_tiny_model_worked_by_hand() -> None:
    one = Pass(rows=3, context=4, documents=True)
    # 12 tokens; a layer keeps six D, q and output of 8, k and v of 4, four F, 2 norms' and 2
    # heads' scalars, in fp32.
    assert memory.layer_bytes(TINY, one, "cpu") == 12 * 4 * (6 * 8 + 16 + 8 + 64 + 2 + 2)
    # The last norm twice D and a scalar, cos and sin, the mask, the hidden gradient, four int64.
    outer = 12 * (4 * (17 + 8 + 4) + 4 * 8 + 32)
    assert memory.outer_bytes(TINY, one, "cpu") == outer
    at = memory.moments(TINY, one, "cpu")["loss"]
    assert (at.weights, at.moments, at.gradients) == (4 * 1272, 8 * 1272, 0)
    assert at.activations == 2 * memory.layer_bytes(TINY, one, "cpu") + outer
    # Head gradient 10 x 8, and all 12 rows of logits with three rows of width D beside them.
    assert at.loss == 4 * 80 + 4 * 12 * 10 + 12 * 12 * 8
    assert at.total == sum(at.parts().values())
    peak = memory.peak(TINY, one, "cpu")
    assert peak.total == max(m.total for m in memory.moments(TINY, one, "cpu").values())


def test_only_what_the_heap_keeps_has_holes() -> None:
    """On a CPU glibc maps tensors from 32 MiB on; what is smaller is freed to a heap that stays."""
    config = LlamaConfig(60_000, 256, 4, 4, 768, tie_word_embeddings=True)
    small, wide_mapped, mapped = (Pass(rows, 1024) for rows in (8, 11, 32))
    layer = memory.layer_bytes(config, small, "cpu")
    assert memory.passing_bytes(config, small, "cpu") == 4 * layer
    # 11 x 1024 x 768 x 4 is 33 MiB: gate, silu(gate), up and their product leave the heap.
    layer = memory.layer_bytes(config, wide_mapped, "cpu") - 4 * 11 * 1024 * 768 * 4
    assert memory.passing_bytes(config, wide_mapped, "cpu") == 4 * layer
    assert memory.passing_bytes(config, mapped, "cpu") == 0
    base = memory.BASE_BYTES["cpu"]
    at = memory.moments(config, small, "cpu")
    passing = memory.passing_bytes(config, small, "cpu")
    assert at["loss"].framework == base + round(memory.HOLES * passing)
    # Between two steps the activations are gone, and their heap is not.
    held = passing - at["evaluation"].activations - at["evaluation"].temporaries
    assert at["evaluation"].framework == base + round(memory.HOLES * passing + held)
    assert memory.moments(config, mapped, "cpu")["evaluation"].framework == base


def test_the_logits_are_never_whole_and_checkpointing_keeps_one_width_a_layer() -> None:
    wide = LlamaConfig(60_000, 64, 2, 2, tie_word_embeddings=True)
    chunk = memory.chunk_bytes(wide, Pass(64, 1024), "cpu")
    assert chunk < 0.02 * 4 * 64 * 1024 * 60_000
    assert chunk == memory.chunk_bytes(wide, Pass(32, 1024), "cpu")
    deep = LlamaConfig(100, 64, 50, 2, tie_word_embeddings=True)
    kept = memory.peak(deep, Pass(16, 256), "cpu")
    again = memory.peak(deep, Pass(16, 256, recompute=True), "cpu")
    assert again.activations < 0.15 * kept.activations


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_activations_are_what_autograd_really_keeps(
    documents: bool, half: bool, kv_heads: int
) -> None:
    """The oracle: every tensor autograd saves on this CPU, weights and their casts left out."""
    config = LlamaConfig(101, 64, 3, 4, 192, num_key_value_heads=kv_heads, tie_word_embeddings=True)
    rows, context = 3, 40
    model = Llama(config, torch.Generator().manual_seed(0)).train()
    tokens = torch.randint(0, 101, (rows, context))
    positions = torch.arange(context).expand(rows, context).clone()
    owners = (positions // 13) if documents else None
    weights = {tuple(p.shape) for p in model.parameters()}
    weights |= {shape[::-1] for shape in weights}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        hidden = model.hidden(tokens, positions, owners).reshape(-1, 64)
        loss = cross_entropy_sum(hidden, model.output_weight(), tokens.reshape(-1))
    assert loss.requires_grad
    found = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    one = Pass(rows, context, half=half, documents=documents)
    formula = 3 * memory.layer_bytes(config, one, "cpu") + memory.outer_bytes(config, one, "cpu")
    assert formula == pytest.approx(found, rel=0.02)


def test_the_largest_micro_batch_fits_and_one_row_more_does_not() -> None:
    config = LlamaConfig(32_000, 512, 8, 8)
    limit = 12 * memory.GIB
    rows = memory.largest_rows(config, Pass(1, 1024), "gpu", limit)
    assert rows > 1
    assert memory.peak(config, Pass(rows, 1024), "gpu").total <= limit
    assert memory.peak(config, Pass(rows + 1, 1024), "gpu").total > limit
    assert memory.largest_rows(config, Pass(1, 1024), "gpu", memory.GIB) == 0


# --- what is planned, from where -----------------------------------------------------------------


def test_steps_come_from_the_data_where_it_is(data: Path, tmp_path: Path) -> None:
    config = tiny.pretrain_config(data, tmp_path / "run", max_steps=0, epochs=2.0)
    path = tmp_path / "tiny.yaml"
    path.write_text(configs.to_yaml(config), encoding="utf-8")
    (job,) = jobs(PlanConfig(training=str(path)))
    (found,) = _plan(str(path), "--devices", "a100")
    assert found["steps"] == round(2 * job.rows / 8) and found["epochs"] == pytest.approx(
        2, rel=0.1
    )
    assert found["vocab_size"] == 400 and found["tokens_in_data"] == job.n_predictions
    assert 0.9 < job.n_predictions / (job.rows * 32) <= 1


def test_a_recipe_is_planned_by_name_before_its_data_exists() -> None:
    (found,) = _plan("novels-tiny", "--devices", "rtx4090")
    assert found["name"] == "novels-tiny: pretrain"
    assert (found["vocab_size"], found["context"]) == (12000, 256)
    assert found["epochs"] is None and found["steps"] > 0


def test_a_preset_and_a_number_of_tokens_suffice() -> None:
    words = ("--preset", "baby-llama2-115m", "--tokens", "868e6", "--devices", "h100,rtx3090")
    (found,) = _plan(*words)
    assert found["parameters"] == 109_529_856
    assert found["tokens"] == pytest.approx(868e6, rel=1e-3)
    first, second = found["devices"]
    assert first["device"] == "h100" and second["device"] == "rtx3090"
    (dear,) = _plan(*words, "--price", "10", "--mfu", "0.2")
    # Half or two thirds of the speed, and ten dollars for each hour of it.
    device = dear["devices"][0]
    assert device["mfu"] == pytest.approx(0.2)
    assert device["cost"] == pytest.approx(10 * device["hours"])
    work = found["flops"] / (989e12 * 0.2)
    assert device["training_seconds"] == pytest.approx(work)
    (four,) = _plan(*words, "--mfu", "0.2", "--count", "4")
    assert four["devices"][0]["training_seconds"] == pytest.approx(work / 4)


def test_a_model_that_does_not_fit_is_told_which_setting_to_lower() -> None:
    words = ("--preset", "tiny-llama2-256m", "--tokens", "1e9", "--micro-batch-size", "32")
    (found,) = _plan(*words, "--devices", "rtx3060")
    device = found["devices"][0]
    assert not device["fits"]
    assert "lower loop.micro_batch_size from 32 to " in device["advice"]
    rows = device["advice"].split(" to ")[1].split()[0]
    (smaller,) = _plan(*words[:-1], rows, "--devices", "rtx3060")
    assert smaller["devices"][0]["fits"]
    (huge,) = _plan("--preset", "llama2-70b", "--tokens", "1e9", "--devices", "h100")
    assert "not even one row fits" in huge["devices"][0]["advice"]


def test_here_is_measured_by_running_the_loop(data: Path, tmp_path: Path) -> None:
    config = tiny.pretrain_config(data, tmp_path / "run", batch_size=32, micro_batch_size=8)
    path = tmp_path / "tiny.yaml"
    path.write_text(configs.to_yaml(config), encoding="utf-8")
    (found,) = _plan(str(path), "--devices", "here")
    device = found["devices"][0]
    assert device["basis"] == "measured" and device["tokens_per_second"] > 0
    (job,) = jobs(PlanConfig(training=str(path)))
    assert job.micros(1) == 4 and job.micros(3) == 2
    micro, rest = measure(job, 4, 0.01)
    assert 0 < micro < 5 and 0 <= rest < 5
    assert not (tmp_path / "run").exists()  # a plan leaves nothing behind


# --- words ---------------------------------------------------------------------------------------


def test_the_list_shows_stated_and_exact_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "9M " in lines["tiny-llama2-9m"] and "4,393,216*" in lines["tiny-llama2-9m"]
    assert "7B " in lines["llama2-7b"] and "6,738,415,616*" in lines["llama2-7b"]
    assert cli.main(["plan", "--list", "--vocab-size", "2000", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["presets"]
    demo = next(row for row in rows if row["name"] == "demo-1m")
    assert demo["tied"] == demo["without_embeddings"] + 2000 * 128


def test_json_and_the_table_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--preset", "llama2-7b", "--tokens", "1e9", "--devices", "h200"]
    assert cli.main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["plans"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert f"{found['parameters']:,}" in shown and f"${found['devices'][0]['cost']:,.2f}" in shown
    assert "NOT fit" in shown and not found["devices"][0]["fits"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to be planned?"),
        (["missing.yaml"], "config file missing.yaml does not exist"),
        (["dmeo"], "'dmeo' is no recipe; did you mean 'demo'?"),
        (["demo", "--preset", "demo-1m"], "not both"),
        (["demo", "--devices", "h10"], "device 'h10' is unknown; did you mean 'h100'?"),
        (["--preset", "tiny-llama2-24"], "did you mean 'tiny-llama2-24m'"),
        (["--preset", "tiny-llama2-24m"], "give --tokens"),
        (["--preset", "demo-1m", "--tokens", "1e6"], "give --vocab-size"),
        (["demo", "--count", "0"], "count must be at least 1"),
        (["demo", "--mfu", "40"], "mfu is a share"),
    ],
)
def test_a_users_mistake_ends_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _fails(capsys, *words)


def test_impossible_dimensions_and_unknown_keys_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _written(tmp_path, model={**SHAPE, "num_attention_heads": 3})
    said = _fails(capsys, path, "--vocab-size", "10", "--tokens", "1000")
    assert "hidden_size 8 is not divisible by num_attention_heads 3" in said
    path = _written(tmp_path, model=SHAPE, contxt=4)
    assert "unknown key 'contxt'; did you mean 'context'?" in _fails(capsys, path)
    path = _written(tmp_path, data="nowhere", model=SHAPE)
    said = _fails(capsys, path, "--vocab-size", "10")
    assert "data folder nowhere does not exist yet" in said
    with pytest.raises(ConfigError, match="positive"):
        PlanConfig(tokens=-1)
