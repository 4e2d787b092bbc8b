"""`hanllama info`: the facts of a model folder, without loading a weight or importing torch.

They come from `config.json`, the headers of the weight files, the model card and the sizes on disk,
so a 70B model is described as fast as a tiny one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from hanllama.base.card import aligned
from hanllama.base.config import checked, option
from hanllama.model.adapter import is_adapter, read_adapter
from hanllama.model.card import ModelCard, read_card
from hanllama.model.folder import CONFIG, load_config, tensor_headers
from hanllama.model.presets import LlamaConfig

# Bytes per parameter. The quantized ones count the weights alone; their scales add a few percent.
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}


@checked
class InfoConfig:
    """The options of `hanllama info`."""

    model: str = option(help="model folder", positional=True)
    json: bool = option(False, help="print JSON instead of a table")


def info(config: InfoConfig) -> dict[str, Any]:
    """Run `hanllama info`: print the facts of `describe`."""
    found = describe(config.model)
    print(json.dumps(found, ensure_ascii=False, indent=2) if config.json else _table(found))
    return found


def describe(folder: str | Path) -> dict[str, Any]:
    """The facts of a model folder as plain values (sizes in bytes).

    Raises InputError, ConfigError or CorruptError when it is not a model folder.
    """
    path = Path(folder)
    config = load_config(path)
    headers = tensor_headers(path)
    stored = sum(math.prod(header.shape) for header in headers.values())
    card = read_card(path)
    adapter = read_adapter(path) if is_adapter(path) else None
    return {
        "model": str(folder),
        "name": card.name if card else "",
        "parameters": config.parameter_count(),
        "parameters_without_embeddings": config.parameter_count(embeddings=False),
        "parameters_in_file": stored,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "context": config.max_position_embeddings,
        "vocabulary": config.vocab_size,
        "tied_embeddings": config.tie_word_embeddings,
        "rope_theta": config.rope_theta,
        "dtypes": sorted({header.dtype for header in headers.values()}),
        "weight_files": len({header.file for header in headers.values()}),
        "bytes_on_disk": sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
        "weight_memory": {name: weight_bytes(config, name) for name in BYTES},
        "cache_memory": {name: cache_bytes(config, name) for name in ("fp32", "bf16", "fp16")},
        "adapter": adapter
        and {
            "base": adapter.base,
            "rank": adapter.rank,
            "alpha": adapter.alpha,
            "layers": list(adapter.layers),
        },
        "lineage": _lineage(card),
    }


def weight_bytes(config: LlamaConfig, dtype: str) -> int:
    """Memory of the weights. Norms stay fp32 in the quantized forms; they are too few to save."""
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    matrices = config.parameter_count() - norms
    return math.ceil(matrices * BYTES[dtype] + norms * max(BYTES[dtype], 2.0))


def cache_bytes(config: LlamaConfig, dtype: str, tokens: int | None = None) -> int:
    """Memory of the key-value cache of one row of `tokens`, by default the whole context."""
    length = config.max_position_embeddings if tokens is None else tokens
    width = config.num_key_value_heads * config.head_dim
    return int(2 * config.num_hidden_layers * width * length * BYTES[dtype])


def _lineage(card: ModelCard | None) -> dict[str, Any] | None:
    if card is None:
        return None
    stages = [{**dataclasses.asdict(stage), "facts": dict(stage.facts)} for stage in card.lineage]
    return {"base_model": card.base_model, "licence": card.licence, "stages": stages}


def _table(found: dict[str, Any]) -> str:
    tied = "tied" if found["tied_embeddings"] else "untied"
    rows = [
        ("model", f"{found['name']} ({found['model']})" if found["name"] else found["model"]),
        (
            "parameters",
            f"{found['parameters']:,}; {found['parameters_without_embeddings']:,} without"
            f" embeddings ({tied})",
        ),
        (
            "shape",
            f"{found['layers']} layers, hidden {found['hidden_size']}, FFN"
            f" {found['intermediate_size']}, {found['heads']} heads"
            f" ({found['key_value_heads']} for keys and values) of {found['head_dim']}",
        ),
        ("context", f"{found['context']:,} tokens (theta {found['rope_theta']:g})"),
        ("vocabulary", f"{found['vocabulary']:,}"),
        (
            "on disk",
            f"{_size(found['bytes_on_disk'])}, weights {', '.join(found['dtypes'])} in"
            f" {found['weight_files']} file{'s' if found['weight_files'] > 1 else ''}",
        ),
        ("weights in", _sizes(found["weight_memory"])),
        ("cache, full", _sizes(found["cache_memory"]) + " (one row at full context)"),
        *_lineage_rows(found["lineage"]),
    ]
    if found["adapter"]:
        own = found["adapter"]
        text = f"rank {own['rank']}, {found['parameters_in_file']:,} parameters, on {own['base']}"
        rows.append(("adapter", text))
    elif found["parameters_in_file"] != found["parameters"]:
        note = f"the files hold {found['parameters_in_file']:,} numbers, {CONFIG} needs"
        rows.append(("notice", f"{note} {found['parameters']:,}"))
    return "\n".join(aligned(rows))


def _lineage_rows(lineage: dict[str, Any] | None) -> list[tuple[str, str]]:
    if lineage is None:
        return [("lineage", "unknown (no hanllama card in the folder)")]
    rows = [("base model", lineage["base_model"])] if lineage["base_model"] else []
    for number, stage in enumerate(lineage["stages"], 1):
        facts = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in stage["facts"].items()
        )
        parts = [f"{stage['tokens']:,} tokens, {stage['steps']:,} steps", facts]
        parts += [f"{key} {stage[key][:12]}" for key in ("config", "data") if stage[key]]
        rows.append((f"{number}. {stage['name']}", "; ".join(part for part in parts if part)))
    return rows or [("lineage", "untrained")]


def _sizes(memory: dict[str, int]) -> str:
    return ", ".join(f"{name} {_size(count)}" for name, count in memory.items())


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
