"""A reward model: a Llama whose head gives one number, the quality of a whole text.

On disk it is Hugging Face's `LlamaForSequenceClassification` with one label: `score.weight` [1, D]
in place of a language model's head. The score is read at the last token that is not padding, so no
text may end with the padding token: `padding_id` chooses it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.model import adapter
from hanllama.model.checkpoint import fill_from_adapter, load_model, load_weights
from hanllama.model.folder import CONFIG, GENERATION_CONFIG, trained_base
from hanllama.model.llama import Linear, Llama
from hanllama.model.presets import LlamaConfig
from hanllama.tokenizer.load import Tokenizer

ARCHITECTURE = "LlamaForSequenceClassification"


class RewardModel(Llama):
    """A Llama body with a head `score`; it predicts no tokens.

    Args:
        config: the dimensions; `tie_word_embeddings` is ignored, since there is no LM head.
        generator: the source of the initial weights.
    """

    def __init__(self, config: LlamaConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(replace(config, tie_word_embeddings=True), generator)
        self.score = Linear(config.hidden_size, 1)
        self.init_score(generator)

    @torch.no_grad()
    def init_score(self, generator: torch.Generator | None = None) -> None:
        """Draw a new head. A hidden state's norm is about sqrt(D), so scores begin with a spread
        of about 1 (Stiennon et al. 2020; Huang et al. 2024, arXiv:2403.17031, detail 11).
        """
        if not self.score.weight.is_meta:
            std = 1 / math.sqrt(self.config.hidden_size + 1)
            self.score.weight.normal_(0.0, std, generator=generator)

    def hf_config(self, dtype: str) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            **self.config.to_hf(dtype),
            "architectures": [ARCHITECTURE],
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
        }

    def scores(self, hidden_SD: Tensor) -> Tensor:
        """The rewards [S] of texts from the hidden states of their last tokens, in float32."""
        scores_S1: Tensor = self.score(hidden_SD)
        return scores_S1[:, 0].float()


def is_reward_model(folder: str | Path) -> bool:
    """Whether a model folder holds a reward model."""
    if adapter.is_adapter(folder):
        task = fs.read_json(Path(folder) / adapter.CONFIG).get("task_type")
        return bool(task == "SEQ_CLS")
    path = Path(folder) / CONFIG
    return path.is_file() and fs.read_json(path).get("architectures") == [ARCHITECTURE]


def load_reward_model(folder: str | Path, *, verify: bool = True, base: str = "") -> RewardModel:
    """Open a reward model's folder, ours or transformers', in float32 on the CPU; an adapter is
    merged into its base, which lies at `base` or where the adapter says.

    Raises InputError or ConfigError when it is not a reward model, CorruptError when damaged.
    """
    folder = Path(folder)
    if not is_reward_model(folder):
        raise InputError(
            f"{folder} is not a reward model (its {CONFIG} must say {ARCHITECTURE});"
            " `hanllama reward` makes one"
        )
    if adapter.is_adapter(folder):
        path = folder / GENERATION_CONFIG  # PEFT writes none
        pad = fs.read_json(path).get("pad_token_id") if path.is_file() else None
        # The head is in the adapter.
        model = reward_model_from(trained_base(folder, base), seed=0, pad_token_id=pad)
        fill_from_adapter(folder, model, verify=verify)
        return model.eval()
    path = folder / CONFIG
    values = fs.read_json(path)
    labels = len(values.get("id2label") or "01")  # transformers omits its default of two
    if labels != 1:
        raise ConfigError(f"{path} has {labels} labels; a reward model has one, its score")
    config = LlamaConfig.from_hf({**values, "architectures": ["LlamaForCausalLM"]}, str(path))
    if verify and (folder / fs.SUMS).is_file():
        fs.verify_sums(folder)
    model = RewardModel(config)
    load_weights(folder, model)
    return model.eval()


def reward_model_from(
    folder: str | Path, seed: int, pad_token_id: int | None = None
) -> RewardModel:
    """The reward model that training begins with: the one in the folder, or a language model's
    body with a new head drawn from the seed. `pad_token_id` may be set later."""
    if is_reward_model(folder):
        return load_reward_model(folder)
    base = load_model(folder, dtype=torch.float32)
    with torch.device("meta"):
        model = RewardModel(base.config)
    if pad_token_id is not None:
        model.config = replace(model.config, pad_token_id=pad_token_id)
    model.model = base.model
    model.score = Linear(base.config.hidden_size, 1)
    model.init_score(torch.Generator().manual_seed(seed))
    return model


def padding_id(tokenizer: Tokenizer, end_ids: list[int]) -> int:
    """The token that pads texts to be scored: a token that no text ends with.

    The tokenizer's padding token, unless it has none (Llama 2) or pads with EOS; else the unknown
    token; else BOS. Raises ConfigError when it has none of them.
    """
    named = tokenizer.special_tokens
    unknown = named.get(tokenizer.special_roles.get("unk_token", ""))
    for candidate in (tokenizer.pad_id, unknown, tokenizer.bos_id):
        if candidate is not None and candidate not in end_ids:
            return candidate
    raise ConfigError(
        f"the tokenizer in {tokenizer.folder} can pad only with the token that ends an answer, but"
        " a reward is read at the last token that is not padding; give it another padding token"
    )
