"""LoRA against peft: it opens our adapters and we open its own, with equal logits.

peft and transformers are the oracles and no part of the product.
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from builders import chats, folders, pairs
from hanllama import cli
from hanllama.base import fs
from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.model.adapter import LINEAR_LAYERS, LoraConfig
from hanllama.model.card import ModelCard, read_card
from hanllama.model.checkpoint import load_model, load_weights, save_model
from hanllama.model.llama import Llama
from hanllama.model.lora import LoraLinear, adapt, adapter_tensors, adapters_off
from hanllama.model.reward import load_reward_model, reward_model_from
from hanllama.tokenizer.load import load_tokenizer

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

ROWS = torch.randint(4, 400, (3, 40), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's folder, with larger weights than fresh ones."""
    folder = tmp_path_factory.mktemp("lora")
    tokenizer = folders.tokenizer(folder / "tokenizer")
    model = Llama(folders.SHAPE.resolve(400, 64, bos_token_id=1, eos_token_id=2, pad_token_id=3))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            mean = 1.0 if parameter.ndim == 1 else 0.0
            parameter.normal_(mean, 0.15, generator=generator)
    with fs.publish(folder / "base") as beside:
        save_model(beside, model, tokenizer, ModelCard("base"))
    return folder / "base"


def adapted(base: Path, lora: LoraConfig) -> Llama:
    """The base with adapters that change it much."""
    model = load_model(base)
    adapt(model, lora, base, seed=5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, tensor in adapter_tensors(model).items():
            if ".lora_B." in name:
                tensor.normal_(0.0, 0.2, generator=generator)
    return model.eval()


def write(folder: Path, model: Llama, base: Path) -> Path:
    with fs.publish(folder) as beside:
        save_model(beside, model, base, ModelCard("adapter"))
    return folder


@pytest.mark.parametrize(
    "lora",
    [
        LoraConfig(rank=4, alpha=16),
        LoraConfig(rank=1, alpha=1, targets=("q_proj", "down_proj")),
    ],
    ids=["all-linear", "two"],
)
@torch.no_grad()
def test_peft_opens_our_adapters_with_equal_logits(
    base: Path, tmp_path: Path, lora: LoraConfig
) -> None:
    ours = adapted(base, lora)
    folder = write(tmp_path / "adapter", ours, base)
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(plain, folder).eval()
    assert (theirs(ROWS).logits - ours(ROWS)).abs().max() < 1e-4
    assert (ours(ROWS) - load_model(base)(ROWS)).abs().max() > 0.1, "adapters that do nothing"
    # transformers finds the base by itself, as people open adapters.
    auto = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert (auto(ROWS).logits - ours(ROWS)).abs().max() < 1e-4


@pytest.mark.parametrize("rslora", [False, True])
@torch.no_grad()
def test_we_open_and_merge_what_peft_writes(base: Path, tmp_path: Path, rslora: bool) -> None:
    plain = transformers.AutoModelForCausalLM.from_pretrained(base)
    settings = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules="all-linear", task_type="CAUSAL_LM", use_rslora=rslora
    )
    theirs = peft.get_peft_model(plain, settings).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0.0, 0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    expected = theirs(ROWS).logits
    assert (load_model(tmp_path / "adapter")(ROWS) - expected).abs().max() < 1e-4
    words = ["model", "merge", str(tmp_path / "adapter"), "--output", str(tmp_path / "merged")]
    assert cli.main(words) == 0
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert (merged(ROWS).logits - expected).abs().max() < 1e-4


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """An adapter on a chat model as peft leaves it, without a tokenizer; its logits of ROWS."""
    place = tmp_path_factory.mktemp("bare")
    (place / "base").symlink_to(folders.chat_model(place / "made", seed=0))
    plain = transformers.AutoModelForCausalLM.from_pretrained(place / "base")
    settings = peft.LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(plain, settings).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(2))
        theirs.save_pretrained(place / "adapter")
        assert not list((place / "adapter").glob("tokenizer*"))
        return place / "adapter", theirs(ROWS).logits


@pytest.mark.parametrize("verb", ["merge", "sft", "dpo"])
def test_peft_s_own_folder_is_a_model_with_its_base_s_tokenizer(
    bare: tuple[Path, torch.Tensor], tmp_path: Path, verb: str
) -> None:
    adapter, expected = bare
    words = {
        "merge": ["model", "merge", str(adapter), "--output", str(tmp_path / "made")],
        "sft": ["sft", str(chats.write(tmp_path / "data.jsonl", chats.records(20)))],
        "dpo": [
            "dpo",
            str(pairs.write(tmp_path / "p.jsonl", pairs.records(20))),
        ],
    }[verb]
    made = tmp_path / "made"
    if verb != "merge":
        made = tmp_path / "run" / "model"
        words += ["--base-model", str(adapter), "--output", str(tmp_path / "run")]
        words += ["--optim.learning_rate", "1e-12", "--loop.max_steps", "1"]
        words += ["--loop.batch_size", "4", "--loop.device", "cpu", "--loop.trackers", "[]"]
    assert cli.main(words) == 0
    with torch.no_grad():
        assert (load_model(made)(ROWS) - expected).abs().max() < 1e-4
    for name in ("tokenizer.model", "tokenizer.json", "chat_template.jinja"):
        assert (made / name).read_bytes() == (adapter.with_name("base") / name).read_bytes()


@pytest.mark.parametrize("verb", ["generate", "chat"])
def test_peft_s_own_folder_answers(
    bare: tuple[Path, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    adapter, _ = bare
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("你好\n".encode())))
    prompt = ["--prompt", "你好"] if verb == "generate" else []
    words = [verb, str(adapter), "--device", "cpu", *prompt, "--seed", "1"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.strip()


def test_an_adapter_whose_base_is_gone_has_no_tokenizer(
    bare: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(bare[0], folder)
    values = json.loads((folder / "adapter_config.json").read_text())
    values["base_model_name_or_path"] = "somebody/model-7B"
    (folder / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="somebody/model-7B"):
        load_tokenizer(folder)


@torch.no_grad()
def test_merging_gives_a_plain_folder_with_equal_logits(base: Path, tmp_path: Path) -> None:
    ours = adapted(base, LoraConfig(rank=4))
    folder = write(tmp_path / "adapter", ours, base)
    words = ["model", "merge", str(folder), "--output", str(tmp_path / "merged")]
    assert cli.main(words) == 0
    fs.verify_sums(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    card = read_card(tmp_path / "merged")
    assert card is not None and card.name == "adapter"
    merged = load_model(tmp_path / "merged")
    assert set(merged.state_dict()) == set(load_model(base).state_dict())
    assert (merged(ROWS) - ours(ROWS)).abs().max() < 1e-4
    assert cli.main(words) == 2, "what is there is not replaced"
    assert cli.main([*words, "--force", "--dtype", "bfloat16"]) == 0
    assert load_model(tmp_path / "merged").output_weight().dtype == torch.bfloat16


def test_info_describes_the_adapter_and_its_base(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "adapter", adapted(base, LoraConfig(rank=4)), base)
    assert cli.main(["info", str(folder)]) == 0
    shown = capsys.readouterr().out
    numbers = 4 * 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert f"rank 4, {numbers:,} parameters, on {base}" in shown and "notice" not in shown


@torch.no_grad()
def test_an_adapted_reward_model_is_opened_by_peft_and_merged(base: Path, tmp_path: Path) -> None:
    """Its head is trained whole and lies in the adapter's file."""
    model = reward_model_from(base, seed=1, pad_token_id=3)
    adapt(model, LoraConfig(rank=4), base, seed=5, whole=("score",))
    generator = torch.Generator().manual_seed(6)
    for tensor in adapter_tensors(model).values():
        tensor.normal_(0.0, 0.2, generator=generator)
    folder = write(tmp_path / "adapter", model.eval(), base)
    expected = model.scores(model.hidden(ROWS)[:, -1])
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    plain.config.pad_token_id = 3
    theirs = peft.PeftModel.from_pretrained(plain, folder).eval()
    assert (theirs(ROWS).logits[:, 0] - expected).abs().max() < 1e-4
    words = ["model", "merge", str(folder), "--output", str(tmp_path / "merged")]
    assert cli.main(words) == 0
    merged = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.config.pad_token_id == 3
    assert (merged(ROWS).logits[:, 0] - expected).abs().max() < 1e-4
    opened = load_reward_model(folder)
    assert (opened.scores(opened.hidden(ROWS)[:, -1]) - expected).abs().max() < 1e-4


@torch.no_grad()
def test_a_reward_adapter_as_peft_saves_it_scores_as_peft_does(base: Path, tmp_path: Path) -> None:
    """It has no generation_config.json to say what it pads with."""
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    plain.config.pad_token_id = 3
    settings = peft.LoraConfig(r=3, target_modules="all-linear", task_type="SEQ_CLS")
    theirs = peft.get_peft_model(plain, settings).eval()
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(2))
    theirs.save_pretrained(tmp_path / "adapter")
    opened = load_reward_model(tmp_path / "adapter")
    expected = theirs(ROWS).logits[:, 0]
    assert (opened.scores(opened.hidden(ROWS)[:, -1]) - expected).abs().max() < 1e-4


@torch.no_grad()
def test_fresh_adapters_change_nothing_and_can_be_turned_off(base: Path) -> None:
    plain = load_model(base)(ROWS)
    model = load_model(base)
    adapt(model, LoraConfig(rank=4), base, seed=0)
    assert torch.equal(model(ROWS), plain)
    model = adapted(base, LoraConfig(rank=4))
    with adapters_off(model):
        assert torch.equal(model(ROWS), plain)
    assert not torch.allclose(model(ROWS), plain)


def test_only_adapters_are_trained_and_drawn_as_peft_draws_them(base: Path) -> None:
    model = load_model(base)
    adapt(model, LoraConfig(rank=4, dropout=0.5), base, seed=0)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        f"model.layers.{i}.{part}.{name}.lora_{x}.weight"
        for i in range(2)
        for part, name in [
            *[("self_attn", n) for n in LINEAR_LAYERS[:4]],
            *[("mlp", n) for n in LINEAR_LAYERS[4:]],
        ]
        for x in "AB"
    }
    layer = model.model.layers[0].mlp.down_proj
    assert isinstance(layer, LoraLinear)
    theirs = torch.nn.Linear(64, 4, bias=False)  # PEFT: kaiming_uniform with a = sqrt(5)
    for weight in (layer.lora_A.weight, theirs.weight):
        assert 0.9 / 8 < weight.abs().max() <= 1 / 8
    assert not layer.lora_B.weight.any()
    x = torch.ones(2, 64)
    with torch.no_grad():
        layer.lora_B.weight.fill_(1.0)
    assert not torch.equal(layer.train()(x), layer(x)), "dropout draws anew"
    assert torch.equal(layer.eval()(x), layer(x))


def test_a_base_that_moved_or_changed_is_refused_with_advice(base: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "adapter", adapted(base, LoraConfig(rank=2)), base)
    values = json.loads((folder / "adapter_config.json").read_text())
    values["base_model_name_or_path"] = str(tmp_path / "gone")
    (folder / "adapter_config.json").write_text(json.dumps(values))
    fs.write_sums(folder)
    with pytest.raises(InputError, match=r"gone.*--base"):
        load_model(folder)
    assert load_model(folder, base=str(base)) is not None
    with fs.publish(tmp_path / "other") as beside:
        other = load_model(base)
        with torch.no_grad():
            other.output_weight()[0, 0] += 1
        save_model(beside, other, base, ModelCard())
    words = ["model", "merge", str(folder), "--output", str(tmp_path / "merged")]
    assert cli.main([*words, "--base", str(tmp_path / "other")]) == 2
    with pytest.raises(InputError, match="trained on other weights"):
        load_model(folder, base=str(tmp_path / "other"))
    with pytest.raises(InputError, match="itself an adapter"):
        load_model(folder, base=str(folder))
    with pytest.raises(InputError, match="merge it first"):
        adapt(load_model(base), LoraConfig(rank=2), folder, seed=0)


def test_a_damaged_or_foreign_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    model = adapted(base, LoraConfig(rank=2))
    folder = write(tmp_path / "adapter", model, base)
    other = adapted(base, LoraConfig(rank=3))
    with pytest.raises(CorruptError, match="do not fit"):
        load_weights(folder, other)
    content = bytearray((folder / "adapter_model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(CorruptError, match=r"adapter_model\.safetensors is corrupt"):
        load_model(folder)
    values = json.loads((folder / "adapter_config.json").read_text())
    for key, value in {"use_dora": True, "bias": "all", "peft_type": "LOHA"}.items():
        (folder / "adapter_config.json").write_text(json.dumps({**values, key: value}))
        with pytest.raises(ConfigError, match=key):
            load_model(folder)


@pytest.mark.parametrize(
    "wrong", [{"rank": -1}, {"rank": 2, "alpha": 0.0}, {"dropout": 1.0}, {"targets": ("q_porj",)}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        LoraConfig(**{"rank": 2} | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"alpha": 8.0}, {"dropout": 0.1}, {"targets": ("q_proj",)}])
def test_options_of_adapters_without_a_rank_do_not_train_the_whole_model(
    given: dict[str, object],
) -> None:
    with pytest.raises(ConfigError, match=r"give --lora\.rank"):
        LoraConfig(**given)  # type: ignore[arg-type]
    assert LoraConfig(rank=1, **given).rank == 1  # type: ignore[arg-type]
