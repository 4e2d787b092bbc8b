"""Promises of a model folder: what is written is what is read; everything else is refused."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError, StorageError
from hanllama.model.card import ModelCard, Stage, read_card
from hanllama.model.checkpoint import load_config, load_model, save_model
from hanllama.model.folder import stop_ids, tensor_headers
from hanllama.model.info import InfoConfig, cache_bytes, describe, info, weight_bytes
from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig, preset

CONFIG = LlamaConfig(97, 32, 2, 4, num_key_value_heads=2, max_position_embeddings=64)
CARD = ModelCard("一个 | 小 <模型>", "base/model", "CC BY 4.0").with_stage(
    Stage("pretrain", "c0ffee", "da7a", 123456, 78, {"bits_per_byte": 1.25, "note": "a|b"})
)


def write(folder: Path, config: LlamaConfig = CONFIG, dtype: torch.dtype | None = None) -> Llama:
    model = Llama(config, torch.Generator().manual_seed(0))
    with fs.publish(folder) as beside:
        save_model(beside, model, None, CARD, dtype=dtype)
    return model


def resign(folder: Path) -> Path:
    """Make the checksums right again, so that a later check has to notice."""
    fs.write_sums(folder)
    return folder


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(folder: Path, change: object) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    save_file(tensors, folder / "model.safetensors")
    resign(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_come_back_bit_for_bit(tmp_path: Path, tied: bool) -> None:
    config = LlamaConfig(97, 32, 2, 4, tie_word_embeddings=tied, eos_token_id=(2, 5))
    model = write(tmp_path / "m", config)
    again = load_model(tmp_path / "m")
    assert again.config == config
    assert not again.training
    states = model.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert all(p.requires_grad and not p.is_meta for p in again.parameters())
    assert (again.output_weight() is again.model.embed_tokens.weight) == tied
    assert stop_ids(tmp_path / "m", config) == (2, 5)


def test_the_same_model_writes_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert (tmp_path / "a" / fs.SUMS).read_bytes() == (tmp_path / "b" / fs.SUMS).read_bytes()


def test_dtypes_convert_on_the_way_out_and_in(tmp_path: Path) -> None:
    model = write(tmp_path / "m", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {h.dtype for h in tensor_headers(tmp_path / "m").values()} == {"BF16"}
    assert load_model(tmp_path / "m").output_weight().dtype == torch.bfloat16
    widened = load_model(tmp_path / "m", dtype=torch.float32).output_weight()
    assert torch.equal(widened, model.output_weight().bfloat16().float())


def test_a_loaded_model_survives_the_deletion_of_its_file(tmp_path: Path) -> None:
    model = write(tmp_path / "m")
    again = load_model(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    assert torch.equal(again.output_weight(), model.output_weight())


def test_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"model.safetensors is corrupt"):
        load_model(tmp_path / "m")
    load_model(tmp_path / "m", verify=False)  # safetensors alone does not notice


@pytest.mark.parametrize("keep", [0, 5, 100, 20_000])
def test_a_truncated_file_is_refused_even_with_right_checksums(tmp_path: Path, keep: int) -> None:
    write(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    for opening in (load_model, describe):
        with pytest.raises(CorruptError, match=r"model.safetensors cannot be read"):
            opening(resign(tmp_path / "m"))


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    write(tmp_path / "m")
    lost = "model.layers.1.mlp.up_proj.weight"
    change_weights(tmp_path / "m", lambda t: t.update({"model.extra.weight": t.pop(lost)}))
    with pytest.raises(CorruptError, match=rf"1 missing \({lost}\); 1 unexpected \(model.extra"):
        load_model(tmp_path / "m")


def test_a_missing_head_is_not_taken_for_a_tied_one(tmp_path: Path) -> None:
    write(tmp_path / "m")
    change_weights(tmp_path / "m", lambda t: t.pop("lm_head.weight"))
    with pytest.raises(CorruptError, match=r"1 missing \(lm_head.weight\)"):
        load_model(tmp_path / "m")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "m")
    change_json(tmp_path / "m" / "config.json", intermediate_size=512)
    with pytest.raises(CorruptError, match=r"\(256, 32\), expected \(512"):
        load_model(resign(tmp_path / "m"))


def test_a_tied_folder_may_hold_its_head_twice_but_not_two_heads(tmp_path: Path) -> None:
    write(tmp_path / "m", LlamaConfig(97, 32, 2, 4, tie_word_embeddings=True))
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    change_weights(tmp_path / "m", lambda t: t.update({head: t[embedding].clone()}))
    assert load_model(tmp_path / "m").lm_head is None
    change_weights(tmp_path / "m", lambda t: t[head].add_(1))
    with pytest.raises(CorruptError, match=r"says tie_word_embeddings, but lm_head.weight differs"):
        load_model(tmp_path / "m")


def test_old_rotary_tables_in_a_file_are_passed_over(tmp_path: Path) -> None:
    model = write(tmp_path / "m")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(tmp_path / "m", lambda t: t.update({name: torch.ones(4)}))
    assert torch.equal(load_model(tmp_path / "m").output_weight(), model.output_weight())


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    write(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"pytorch_model.bin is a pickle.*save_pretrained"):
        load_model(resign(tmp_path / "m"))


@pytest.mark.parametrize("shard", ["gone.safetensors", "../outside.safetensors"])
def test_an_index_that_names_a_missing_or_foreign_shard_is_refused(
    tmp_path: Path, shard: str
) -> None:
    write(tmp_path / "m")
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    index = {"weight_map": {"lm_head.weight": shard}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptError, match=f"names '{shard}'"):
        load_model(resign(tmp_path / "m"))


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    for opening in (load_config, load_model, describe):
        with pytest.raises(InputError, match="does not exist"):
            opening(tmp_path / "nowhere")
        with pytest.raises(InputError, match=r"has no config.json"):
            opening(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CorruptError, match="must hold a JSON object"):
        load_config(tmp_path)


def test_a_full_disk_names_the_file_and_leaves_the_previous_model(tmp_path: Path) -> None:
    write(tmp_path / "m")
    before = (tmp_path / "m" / fs.SUMS).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        model = Llama(CONFIG)
        with (
            pytest.raises(StorageError, match=r"cannot write .*model.safetensors"),
            fs.publish(tmp_path / "m", replace=True) as beside,
        ):
            save_model(beside, model, None, CARD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "m" / fs.SUMS).read_bytes() == before
    load_model(tmp_path / "m")


# --- the card ------------------------------------------------------------------------------------


def test_the_card_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path / "m")
    assert read_card(tmp_path / "m") == CARD
    text = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert f"{CONFIG.parameter_count():,} parameters" in text
    assert "bits_per_byte 1.25, note a\\|b" in text
    assert "<模型>" not in text.split("\n---\n", 1)[1]  # a card is shown as a web page


def test_a_foreign_card_is_no_card_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None
    for text in ("# a model", "---\nlicense: mit\n---\n# a model", "---\nunclosed"):
        (tmp_path / "README.md").write_text(text)
        assert read_card(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nhanllama:\n  lineage: 3\n---\n")
    with pytest.raises(CorruptError, match=r"README.md: its front matter"):
        read_card(tmp_path)


# --- info ----------------------------------------------------------------------------------------


def test_info_counts_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "m")
    found = info(InfoConfig(str(tmp_path / "m"), json=True))
    assert json.loads(capsys.readouterr().out) == found
    assert found["parameters"] == found["parameters_in_file"] == CONFIG.parameter_count()
    assert found["lineage"]["stages"][0]["facts"]["bits_per_byte"] == 1.25
    assert found["bytes_on_disk"] == sum(f.stat().st_size for f in (tmp_path / "m").iterdir())
    info(InfoConfig(str(tmp_path / "m")))
    table = capsys.readouterr().out
    assert "1. pretrain  123,456 tokens, 78 steps; bits_per_byte 1.25, note a|b" in table
    assert "2 layers, hidden 32, FFN 256, 4 heads (2 for keys and values) of 8" in table


def test_memory_by_hand() -> None:
    # Llama-2 7B: 6,738,415,616 parameters; 2 x 32 layers x 4096 wide x 4096 tokens x 2 bytes.
    config = preset("llama2-7b")
    assert weight_bytes(config, "fp32") == 4 * 6_738_415_616
    assert weight_bytes(config, "bf16") == 2 * 6_738_415_616
    assert cache_bytes(config, "fp16") == 2 * 32 * 4096 * 4096 * 2
    # 70B groups 64 heads to 8: an eighth of the width.
    assert cache_bytes(preset("llama2-70b"), "bf16") == 2 * 80 * 1024 * 4096 * 2
    assert weight_bytes(config, "int4") == (6_738_415_616 - 65 * 4096) // 2 + 65 * 4096 * 2


def test_info_as_a_command(tmp_path: Path) -> None:
    write(tmp_path / "m")
    command = [sys.executable, "-m", "hanllama", "info"]
    good = subprocess.run([*command, str(tmp_path / "m")], capture_output=True, text=True)
    assert good.returncode == 0 and "parameters" in good.stdout
    bad = subprocess.run([*command, str(tmp_path / "x")], capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1
    assert "does not exist" in bad.stderr
