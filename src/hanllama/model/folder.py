"""The contents of a model folder, read without torch and without loading a weight.

The config, the weight files (one, or transformers' shards with an index), and each tensor's shape
and dtype from the headers of the safetensors files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.model.adapter import WEIGHTS as ADAPTER_WEIGHTS
from hanllama.model.adapter import find_base, is_adapter, recorded_fingerprint
from hanllama.model.presets import LlamaConfig

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorHeader:
    """A tensor's file, type and shape."""

    file: Path
    dtype: str  # safetensors' names: F32, BF16, F16, …
    shape: tuple[int, ...]


def load_config(folder: str | Path) -> LlamaConfig:
    """The dimensions of the model in a folder, ours or transformers'.

    Raises InputError when the folder or its config is missing, ConfigError when the model is not a
    plain Llama.
    """
    path = Path(folder) / CONFIG
    if not Path(folder).is_dir():
        raise InputError(f"model folder {folder} does not exist")
    if not path.is_file() and is_adapter(folder):  # PEFT writes none
        return load_config(find_base(folder))
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: it has no {CONFIG}")
    values = _json_object(path)
    return LlamaConfig.from_hf(values, str(path))


def stop_ids(folder: str | Path, config: LlamaConfig) -> tuple[int, ...]:
    """The ids that end a text: `generation_config.json`'s, else the config's."""
    path = Path(folder) / GENERATION_CONFIG
    if not path.is_file() and is_adapter(folder):
        return stop_ids(find_base(folder), config)
    eos = _json_object(path).get("eos_token_id") if path.is_file() else None
    if eos is None:
        return config.eos_ids
    return (eos,) if isinstance(eos, int) else tuple(eos)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model or adapter folder, sorted.

    Raises InputError when there are none, or only pickles, which are never opened: a pickle can
    run any code. Raises CorruptError when a shard named by the index is missing.
    """
    if (folder / ADAPTER_WEIGHTS).is_file():
        return [folder / ADAPTER_WEIGHTS]
    if (folder / INDEX).is_file():
        index = _json_object(folder / INDEX)
        names = sorted(set(index.get("weight_map", {}).values()))
        if not names:
            raise CorruptError(f"{folder / INDEX} names no weight file")
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise CorruptError(f"{folder} is incomplete: {INDEX} names {name!r}, missing here")
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    for pattern in ("*.bin", "*.pth", "*.pt"):
        for pickled in sorted(folder.glob(pattern)):
            raise InputError(
                f"{pickled} is a pickle, which can run any code when opened; if you trust it,"
                " convert it to safetensors with transformers: model.save_pretrained(folder)"
            )
    raise InputError(f"{folder} has no weights: neither {WEIGHTS} nor {INDEX}")


def tensor_headers(folder: Path) -> dict[str, TensorHeader]:
    """The header of every tensor of a model folder, by name.

    Raises CorruptError for a broken file or a tensor stored twice.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, TensorHeader] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    if name in found:
                        raise CorruptError(f"{name} is both in {found[name].file} and {path}")
                    part = file.get_slice(name)
                    found[name] = TensorHeader(path, part.get_dtype(), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise CorruptError(f"{path} cannot be read as safetensors: {error}") from error
    return found


def weights_fingerprint(folder: Path) -> str:
    """A hash of a model folder's weight files; `SHA256SUMS` is trusted where it lists them."""
    known: dict[str, str] = {}
    if (folder / fs.SUMS).is_file():
        for line in (folder / fs.SUMS).read_text(encoding="utf-8").split("\n")[:-1]:
            digest, _, name = line.partition("  ")
            known[name] = digest
    digests = [known.get(f.name) or fs.sha256(f) for f in weight_files(folder)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def trained_base(folder: Path, base: str = "") -> Path:
    """`find_base`; InputError when the adapter was trained on other weights."""
    found = find_base(folder, base)
    expected = recorded_fingerprint(folder)
    if expected and weights_fingerprint(found) != expected:
        raise InputError(
            f"the adapter in {folder} was trained on other weights than those in {found}; name"
            " the right model with --base"
        )
    return found


def _json_object(path: Path) -> dict[str, Any]:
    value = fs.read_json(path)
    if not isinstance(value, dict):
        raise CorruptError(f"{path} must hold a JSON object")
    return value
