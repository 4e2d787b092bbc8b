"""A model folder on disk: written whole, opened exactly.

Folders have Hugging Face's layout: transformers opens ours, and we open theirs, sharded or not.
Keys must match exactly: a missing weight that is quietly drawn at random is a model that is
quietly wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hanllama.base import fs
from hanllama.base.errors import CorruptError, InputError, StorageError
from hanllama.model import adapter as adapters
from hanllama.model.card import CARD, ModelCard
from hanllama.model.folder import (
    CONFIG,
    GENERATION_CONFIG,
    WEIGHTS,
    load_config,
    stop_ids,
    trained_base,
    weight_files,
)
from hanllama.model.llama import Llama
from hanllama.model.lora import adapter_tensors, merge_adapter

__all__ = ["fill_from_adapter", "load_config", "load_model", "load_weights", "save_model"]

# Old Llama folders store this table of frequencies among the weights; it follows from theta.
_DERIVED = ".rotary_emb.inv_freq"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def save_model(
    folder: Path,
    model: Llama,
    tokenizer_folder: Path | None,
    card: ModelCard,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's files into an empty folder, usually one that `fs.publish` yields.

    Args:
        tokenizer_folder: the tokenizer's files are copied from here; None copies none.
        card: becomes README.md.
        dtype: the dtype of the written weights; None keeps the model's.

    Raises StorageError when the disk refuses.
    """
    adapter = model.adapter
    state = model.state_dict() if adapter is None else adapter_tensors(model)
    written = str(dtype or next(iter(state.values())).dtype).removeprefix("torch.")
    values = model.hf_config(written)
    if adapter is None:  # beside a config, transformers would look for a whole model's weights
        fs.write_json(folder / CONFIG, values)
    fs.write_json(folder / GENERATION_CONFIG, _generation_config(model))
    architecture = values["architectures"][0]
    fs.write_text(folder / CARD, card.render(model.config, architecture))
    if tokenizer_folder is not None:
        from hanllama.tokenizer.load import copy_tokenizer

        copy_tokenizer(tokenizer_folder, folder)
    if adapter is not None:
        fs.write_json(folder / adapters.CONFIG, adapter.to_peft(architecture))
        fs.write_json(folder / adapters.BASE, {"weights": adapter.fingerprint})
    path = folder / (WEIGHTS if adapter is None else adapters.WEIGHTS)
    write_tensors(path, state, dtype=dtype, metadata={"format": "pt"})


def load_model(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    verify: bool = True,
    base: str = "",
) -> Llama:
    """Open a model folder, ours or transformers'; an adapter is merged into its base.

    Args:
        dtype: the dtype of the weights in memory; None keeps the file's.
        verify: check `SHA256SUMS` where the folder has one. safetensors itself does not notice a
            flipped bit.
        base: the folder of an adapter's base model, when it is not where the adapter says.

    Returns the model in evaluation mode. Raises InputError, ConfigError or CorruptError, naming
    the file and the fault.
    """
    folder = Path(folder)
    if adapters.is_adapter(folder):
        model = load_model(trained_base(folder, base), device=device, verify=verify)
        fill_from_adapter(folder, model, verify=verify)
        model.stop_ids = stop_ids(folder, model.config)
        return model if dtype is None else model.to(dtype)
    config = load_config(folder)
    if verify and (folder / fs.SUMS).is_file():
        fs.verify_sums(folder)
    with torch.device("meta"):
        model = Llama(config)
    model.load_state_dict(_fitting(folder, model, device, dtype), assign=True)
    model.stop_ids = stop_ids(folder, config)
    return model.eval()


def load_weights(folder: Path, model: Llama) -> None:
    """Fill a model in place from a folder that `save_model` wrote for a model of the same shape.

    Raises CorruptError when names or shapes differ, ResumeError for adapters of another base.
    """
    if model.adapter is None:
        model.load_state_dict(_fitting(folder, model))
        return
    adapters.require_same_base(folder, model.adapter)
    path, own = folder / adapters.WEIGHTS, adapter_tensors(model)
    tensors = read_tensors([path])
    _require_equal_shapes(folder, tensors, own)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def fill_from_adapter(folder: Path, model: Llama, *, verify: bool = True) -> None:
    """Merge the adapter in a folder into its base model, in place.

    Raises CorruptError for a damaged adapter, or one that does not fit the model.
    """
    if verify and (folder / fs.SUMS).is_file():
        fs.verify_sums(folder)
    path = folder / adapters.WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder} has an {adapters.CONFIG}, but no {adapters.WEIGHTS}")
    tensors = read_tensors([path])
    merge_adapter(model, adapters.read_adapter(folder), tensors, str(path))


def _fitting(
    folder: Path,
    model: Llama,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """The folder's tensors; CorruptError unless names and shapes are the model's."""
    tensors = read_tensors(weight_files(folder), device, dtype)
    if model.config.tie_word_embeddings and _HEAD in tensors:
        if not torch.equal(tensors[_HEAD], tensors.get(_EMBEDDING, torch.empty(0))):
            raise CorruptError(
                f"{folder}: {CONFIG} says tie_word_embeddings, but {_HEAD} differs from"
                f" {_EMBEDDING}; one of them is wrong"
            )
        del tensors[_HEAD]
    _require_equal_shapes(folder, tensors, model.state_dict())
    return tensors


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a safetensors file; StorageError when the disk refuses."""
    # The file format knows neither strides nor tensors that share memory.
    plain = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    try:
        with fs.storage(path):
            save_file(plain, path, metadata=metadata)
    except SafetensorError as error:
        # The library wraps the disk's refusals into an error of its own.
        raise StorageError(
            f"cannot write {path}: {error}; free some space or choose another folder"
            " (complete folders are unchanged)"
        ) from error


def read_tensors(
    files: Sequence[Path], device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The tensors of safetensors files; CorruptError for a broken file or a tensor stored twice."""
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    if name.endswith(_DERIVED):
                        continue
                    if name in tensors:
                        raise CorruptError(f"{path}: {name} is in another file of the model too")
                    tensor = file.get_tensor(name)
                    # A copy, because the tensor is an unaligned view of the mapped file, which may
                    # be deleted or rewritten while training goes on.
                    tensors[name] = tensor.to(device, dtype or tensor.dtype, copy=True)
        except (SafetensorError, OSError) as error:
            raise CorruptError(f"{path} cannot be read as safetensors: {error}") from error
    return tensors


def _generation_config(model: Llama) -> dict[str, int | list[int] | None]:
    stops = list(model.stop_ids)
    values: dict[str, int | list[int] | None] = {
        "bos_token_id": model.config.bos_token_id,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "pad_token_id": model.config.pad_token_id,
    }
    return {key: value for key, value in values.items() if value is not None and value != []}


def _require_equal_shapes(
    folder: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """CorruptError unless the same names have the same shapes."""
    kinds = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "of another shape": {
            f"{name} {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in expected.keys() & found.keys()
            if found[name].shape != expected[name].shape
        },
    }
    complaints = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in kinds.items()
        if names
    ]
    if complaints:
        raise CorruptError(
            f"the weights in {folder} do not fit the model's config: {'; '.join(complaints)}"
        )
