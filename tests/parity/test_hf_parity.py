"""Promise 16, hf_parity: transformers opens what we write and we open what it writes.

Equal keys, logits within 1e-4, the same greedy text; theta in both spellings, grouped heads, tied
and untied, sharded. transformers is the oracle and no part of the product.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from builders import folders
from hanllama.base import fs
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import load_config, load_model, save_model
from hanllama.model.decode import candidates, decoding_layout, generate_tokens, penalise
from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig
from hanllama.model.sampling import Sampling
from hanllama.tokenizer.load import load_tokenizer

transformers = pytest.importorskip("transformers")

SHAPES = pytest.mark.parametrize(
    ("kv_heads", "tied", "theta"),
    [(4, True, 10000.0), (2, False, 10000.0), (2, True, 500000.0), (1, False, 500000.0)],
)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.tokenizer(tmp_path_factory.mktemp("parity") / "tokenizer")


def make(kv_heads: int = 2, tied: bool = False, theta: float = 10000.0, vocab: int = 400) -> Llama:
    config = LlamaConfig(
        vocab,
        64,
        3,
        4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=128,
        rope_theta=theta,
        tie_word_embeddings=tied,
    )
    model = Llama(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            mean = 1.0 if parameter.ndim == 1 else 0.0
            parameter.normal_(mean, 0.15, generator=generator)
    return model


def write(folder: Path, model: Llama, tokenizer_folder: Path | None = None) -> Path:
    with fs.publish(folder) as beside:
        save_model(beside, model, tokenizer_folder, ModelCard())
    return folder


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(4, 400, shape, generator=torch.Generator().manual_seed(1))


def their_keys(model: torch.nn.Module, tied: bool) -> set[str]:
    keys = set(model.state_dict())
    return keys - {"lm_head.weight"} if tied else keys


@SHAPES
@torch.no_grad()
def test_hf_parity_transformers_opens_what_we_write(
    tmp_path: Path, tokenizer_folder: Path, kv_heads: int, tied: bool, theta: float
) -> None:
    ours = make(kv_heads, tied, theta)
    folder = write(tmp_path / "model", ours, tokenizer_folder)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert their_keys(theirs, tied) == set(ours.state_dict())
    rows = tokens(3, 100)
    assert (theirs.eval()(rows).logits - ours(rows)).abs().max() < 1e-4
    text = "小明在河边看见苹果。\n 1 + 2 <s> 𠮷"
    auto = transformers.AutoTokenizer.from_pretrained(folder)
    assert auto(text, split_special_tokens=True)["input_ids"] == load_tokenizer(folder).encode(text)


@SHAPES
@pytest.mark.parametrize("shard", ["10GB", "100KB"])
@torch.no_grad()
def test_hf_parity_we_open_what_transformers_writes(
    tmp_path: Path, kv_heads: int, tied: bool, theta: float, shard: str
) -> None:
    values = make(kv_heads, tied, theta).config.to_hf()
    for own in ("architectures", "rope_theta", "rope_scaling", "torch_dtype"):
        del values[own]
    torch.manual_seed(9)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
    for parameter in theirs.parameters():
        parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.15)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_theta" not in written  # the new spelling is what this test is about
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "100KB")
    ours = load_model(tmp_path)
    assert load_config(tmp_path).rope_theta == theta
    assert set(ours.state_dict()) == their_keys(theirs, tied)
    rows = tokens(3, 100)
    assert (theirs(rows).logits - ours(rows)).abs().max() < 1e-4


@torch.no_grad()
def test_hf_parity_old_configs_with_rope_theta_alone_are_read(tmp_path: Path) -> None:
    ours = make(theta=500000.0)
    write(tmp_path / "new", ours)
    values = json.loads((tmp_path / "new" / "config.json").read_text())
    del values["rope_parameters"], values["dtype"], values["head_dim"]
    (tmp_path / "new" / "config.json").write_text(json.dumps(values))
    (tmp_path / "new" / fs.SUMS).unlink()
    assert torch.equal(load_model(tmp_path / "new")(tokens(1, 50)), ours(tokens(1, 50)))


@torch.no_grad()
def test_hf_parity_padded_batches(tmp_path: Path) -> None:
    ours = make()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(write(tmp_path / "m", ours)).eval()
    rows = tokens(3, 20)
    mask = torch.ones_like(rows)
    for row, left in enumerate([0, 7, 19]):
        mask[row, :left] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = theirs(rows, attention_mask=mask, position_ids=positions).logits
    # Padding is a document of its own for us.
    mine = ours(rows, positions, torch.where(mask == 1, 0, -1))
    assert (logits - mine)[mask == 1].abs().max() < 1e-4


@SHAPES
def test_hf_parity_greedy_text_is_the_same_token_for_token(
    tmp_path: Path, kv_heads: int, tied: bool, theta: float
) -> None:
    ours = make(kv_heads, tied, theta)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(write(tmp_path / "m", ours)).eval()
    decoding_layout(ours)  # as `hanllama generate` does
    prompts = [tokens(30)[:n].tolist() for n in (30, 11, 1)]
    for penalty in (1.0, 1.3):
        sampling = Sampling(60, temperature=0, repetition_penalty=penalty)
        mine = generate_tokens(ours, prompts, sampling)
        for prompt, written in zip(prompts, mine, strict=True):
            ids = torch.tensor([prompt])
            expected = theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=60,
                do_sample=False,
                repetition_penalty=penalty,
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
            assert written == expected


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.6), (20, 0.8), (1, 0.01)])
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_hf_parity_the_choice_has_transformers_probabilities(
    temperature: float, top_k: int, top_p: float, penalty: float
) -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(2)) * 3
    used = torch.randint(0, 50, (4, 9), generator=torch.Generator().manual_seed(4))
    warpers = [transformers.RepetitionPenaltyLogitsProcessor(penalty)]
    warpers += [transformers.TemperatureLogitsWarper(temperature)]
    warpers += [transformers.TopKLogitsWarper(top_k)] if top_k else []
    warpers += [transformers.TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = logits
    for warper in warpers:
        expected = warper(used, expected)
    mask = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, used, True)
    scores, ids = candidates(penalise(logits, mask, penalty) / temperature, top_k, top_p)
    mine = torch.zeros_like(logits).scatter_(1, ids, scores.softmax(-1))
    assert torch.allclose(mine, expected.softmax(-1), atol=1e-6)
    assert torch.equal(mine > 0, expected > -torch.inf)
