"""`hanllama model merge`: an adapter and its base become one plain model folder.

W + (alpha / rank) B A is computed in float32 and written in the base's dtype. The result is a plain
Llama that programs without adapters can open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hanllama.base.config import checked, option
from hanllama.base.errors import InputError
from hanllama.base.making import Making, making
from hanllama.model.adapter import find_base, is_adapter
from hanllama.model.card import card_of, read_card


@checked
class MergeConfig:
    """The options of `hanllama model merge`."""

    adapter: str = option(help="the adapter's folder", positional=True)
    output: str = option(help="the new model folder")
    base: str = option("", help="the base model's folder, when not where the adapter says")
    dtype: Literal["base", "float32", "bfloat16", "float16"] = option(
        "base", help="dtype of the written weights; base: the base model's"
    )
    force: bool = option(False, help="replace what is at output")


def merge(config: MergeConfig) -> Path:
    """Run `hanllama model merge`: write the merged model and print its folder."""
    with making(config.output, force=config.force) as made:
        _merge(config, made)
    print(f"model: {config.output}")
    return made.output


def _merge(config: MergeConfig, made: Making) -> None:
    import torch

    from hanllama.model.checkpoint import load_model, save_model
    from hanllama.model.reward import is_reward_model, load_reward_model
    from hanllama.tokenizer.load import has_tokenizer

    adapter = Path(config.adapter)
    if not adapter.is_dir():
        raise InputError(f"adapter folder {adapter} does not exist")
    if not is_adapter(adapter):
        raise InputError(f"{adapter} holds no adapter (no adapter_config.json); nothing to merge")
    base = find_base(adapter, config.base)
    load = load_reward_model if is_reward_model(adapter) else load_model
    model = load(adapter, base=config.base)
    dtype = None if config.dtype == "base" else getattr(torch, config.dtype)
    card = read_card(adapter) or card_of(base)
    tokenizer = next((folder for folder in (adapter, base) if has_tokenizer(folder)), None)
    with made.publish() as beside:
        save_model(beside, model, tokenizer, card, dtype=dtype)
