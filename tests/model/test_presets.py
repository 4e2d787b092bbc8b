"""Promises of the named sizes: exact counts, beside what their sources state."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hanllama.base.errors import ConfigError
from hanllama.model.llama import Llama
from hanllama.model.presets import PRESETS, LlamaConfig, preset

# (preset, vocabulary, tied) -> millions, to the digit that the sources give.
COUNTS = {
    ("tiny-llama2-9m", 64793, True): 4.4,
    ("tiny-llama2-24m", 64793, True): 24.6,
    ("tiny-llama2-58m", 64793, True): 58.5,
    ("tiny-llama2-134m", 64793, True): 134.7,
    ("tiny-llama2-256m", 64793, True): 268.8,
    ("tiny-llama2-9m", 64793, False): 8.5,
    ("tiny-llama2-24m", 64793, False): 43.3,
    ("tiny-llama2-58m", 64793, False): 91.7,
    ("tiny-llama2-134m", 64793, False): 184.5,
    ("tiny-llama2-256m", 64793, False): 335.1,
    ("baby-llama2-115m", 32000, True): 109.5,
    ("baby-llama2-115m", 32000, False): 134.1,
    ("baby-llama2-115m", 65534, True): 135.3,
}


@pytest.mark.parametrize(("name", "vocabulary", "tied"), COUNTS)
def test_counts_are_those_of_the_sources(name: str, vocabulary: int, tied: bool) -> None:
    config = preset(name, vocabulary, tie_word_embeddings=tied)
    millions = config.parameter_count() / 1e6
    assert round(millions, 1) == COUNTS[name, vocabulary, tied]


def test_llama2_counts_are_metas() -> None:
    counts = {name: preset(name).parameter_count() for name in PRESETS if name[:6] == "llama2"}
    assert counts == {
        "llama2-7b": 6_738_415_616,
        "llama2-13b": 13_015_864_320,
        "llama2-70b": 68_976_648_192,
    }


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_formula_equals_the_module(name: str, tied: bool) -> None:
    config = preset(name, 6400, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = Llama(config)
    counts = {n: p.numel() for n, p in model.named_parameters()}
    assert sum(counts.values()) == config.parameter_count()
    body = {n: c for n, c in counts.items() if "embed_tokens" not in n and "lm_head" not in n}
    assert sum(body.values()) == config.parameter_count(embeddings=False)


def test_own_ffn_widths_fit_k_quants_and_the_sources_keep_theirs() -> None:
    assert LlamaConfig(100, 288, 6, 6).intermediate_size == 768
    assert LlamaConfig(100, 320, 6, 10).intermediate_size == 1024
    assert preset("tiny-llama2-58m").intermediate_size == 1376
    for name, found in PRESETS.items():
        if found.source == "hanllama":
            assert preset(name, 4096).intermediate_size % 256 == 0


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny-llama2-24m'"):
        preset("tiny-llama2-24", 100)
    with pytest.raises(ConfigError, match="did you mean 'hidden_size'"):
        preset("demo-2m", 100, hiden_size=3)
    with pytest.raises(ConfigError, match="give vocab_size"):
        preset("demo-2m")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 0}, "vocab_size must be .* not 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be"),
        ({"num_attention_heads": 5}, "not divisible by num_attention_heads 5"),
        ({"num_key_value_heads": 3}, "not divisible by num_key_value_heads 3"),
        ({"hidden_size": 36, "num_attention_heads": 4}, "head_dim 9 .* must be even"),
        ({"rope_theta": 0.0}, "rope_theta must be .* not 0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be .* not nan"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps must be .* not inf"),
        ({"rms_norm_eps": None}, "rms_norm_eps must be .* not None"),
        ({"hidden_size": True}, "hidden_size must be .* not True"),
        ({"hidden_size": 32.0}, "hidden_size must be .* not 32"),
    ],
)
def test_impossible_dimensions_are_refused(change: dict[str, int], words: str) -> None:
    good = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaConfig(**good)
    with pytest.raises(ConfigError, match=words):
        LlamaConfig(**{**good, **change})


def test_config_json_survives_the_round_trip() -> None:
    for name in PRESETS:
        config = preset(name, 6400, rope_theta=500000.0, eos_token_id=(2, 7), pad_token_id=3)
        assert LlamaConfig.from_hf(config.to_hf(), "config.json") == config


def test_both_spellings_of_theta_are_read_and_written() -> None:
    written = preset("demo-1m", 100, rope_theta=500000.0).to_hf("bfloat16")
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 500000.0
    assert written["dtype"] == written["torch_dtype"] == "bfloat16"
    for absent in ("rope_theta", "rope_parameters"):
        values = {key: value for key, value in written.items() if key != absent}
        assert LlamaConfig.from_hf(values, "c").rope_theta == 500000.0
    values = {**written, "rope_theta": 10000.0}
    with pytest.raises(ConfigError, match="theta disagree"):
        LlamaConfig.from_hf(values, "c")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.type"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8}}, "rope_parameters.rope_type"),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters.full_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"model_type": "qwen2"}, "model_type 'qwen2'"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": None}, "hidden_size is missing"),
    ],
)
def test_what_is_not_a_plain_llama_is_refused_by_name(change: dict[str, object], key: str) -> None:
    values = {**preset("demo-1m", 100).to_hf(), **change}
    with pytest.raises(ConfigError, match=key) as caught:
        LlamaConfig.from_hf(values, "folder/config.json")
    assert str(caught.value).startswith("folder/config.json: ")


def test_presets_need_no_torch() -> None:
    modules = "hanllama.model.presets, hanllama.model.sampling, hanllama.model.info"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
