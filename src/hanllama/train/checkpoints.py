"""Checkpoints: `checkpoints/step-000800/` is a model folder plus the state of training.

    config.json model.safetensors tokenizer.json …     a plain model folder
    trainer/state.json                                 step, fingerprint, the objective's state
    trainer/optimizer.safetensors                      AdamW's moments by parameter name
    trainer/config.yaml                                the resolved config
    trainer/<name>.safetensors                         further models of the objective
    SHA256SUMS                                         the marker, written last

A folder appears whole or not at all (`fs.publish`) and is checked whole before it is used: one
flipped bit is refused. The best checkpoint is found from their states, never remembered.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hanllama.base import fs
from hanllama.base.errors import CorruptError, ResumeError
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import load_weights, read_tensors, save_model, write_tensors
from hanllama.model.llama import Llama

_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class State:
    """The content of a checkpoint besides weights and moments.

    step: optimizer steps done.
    tokens: trained tokens (weights) seen.
    fingerprint: hashes that a resume requires to be the same, by field.
    figures: the held-out figures at this step.
    objective: the objective's own small state.
    scaler: the fp16 loss scaler's state.
    """

    step: int
    tokens: int
    fingerprint: Mapping[str, str]
    figures: Mapping[str, float] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)


def save(
    folder: Path,
    state: State,
    model: Llama,
    further: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    card: ModelCard,
    tokenizer_folder: Path,
    config_yaml: str,
) -> Path:
    """Publish `folder`/step-NNNNNN; StorageError when the disk refuses."""
    target = folder / f"step-{state.step:06d}"
    with fs.publish(target, replace=True) as beside:
        save_model(beside, model, tokenizer_folder, card)
        trainer = beside / "trainer"
        trainer.mkdir()
        fs.write_json(trainer / "state.json", asdict(state))
        fs.write_text(trainer / "config.yaml", config_yaml)
        modules = {"": model, **further}
        write_tensors(trainer / "optimizer.safetensors", _moments(optimizer, modules))
        for name, module in further.items():
            write_tensors(trainer / f"{name}.safetensors", module.state_dict())
    return target


def all_in(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, by step; half-written ones have other names."""
    found = [f for f in folder.glob("step-*") if _NAME.fullmatch(f.name)]
    complete = [f for f in found if (f / fs.SUMS).is_file()]
    return sorted(complete, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def read_state(checkpoint: Path) -> State:
    """The state of a checkpoint, without its weights."""
    return State(**fs.read_json(checkpoint / "trainer" / "state.json"))


def verify(checkpoint: Path) -> None:
    """Raise CorruptError for a checkpoint with a missing, truncated or altered file."""
    try:
        fs.verify_sums(checkpoint)
    except CorruptError as error:
        raise CorruptError(
            f"{error}; or remove {checkpoint} to resume from the checkpoint before it"
        ) from None


def restore(
    checkpoint: Path,
    model: Llama,
    further: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
) -> State:
    """Fill models and optimizer from a verified checkpoint, in place.

    Raises ResumeError when its weights do not fit the models.
    """
    load_weights(checkpoint, model)
    modules = {"": model, **further}
    for name, module in further.items():
        module.load_state_dict(read_tensors([checkpoint / "trainer" / f"{name}.safetensors"]))
    moments = read_tensors([checkpoint / "trainer" / "optimizer.safetensors"])
    for parameter, name in _named(modules).items():
        if not parameter.requires_grad:
            continue
        entry = {}
        for key in ("exp_avg", "exp_avg_sq", "step"):
            tensor = moments.pop(f"{name}.{key}", None)
            if tensor is None:
                raise ResumeError(
                    f"{checkpoint} has no {key} for {name}: another objective wrote it, or one that"
                    " trained other parameters"
                )
            # Fused kernels need the step in float32 on the parameter's device.
            entry[key] = tensor.to(parameter.device)
        optimizer.state[parameter] = entry
    return read_state(checkpoint)


def require_same(found: Mapping[str, str], expected: Mapping[str, str], checkpoint: Path) -> None:
    """Raise ResumeError, naming the field, when data, tokenizer or model have changed."""
    for key in sorted({*found, *expected}):
        if found.get(key) != expected.get(key):
            raise ResumeError(
                f"cannot resume from {checkpoint}: {key} has changed (it was"
                f" {found.get(key, 'absent')}, now {expected.get(key, 'absent')}); restore it, or"
                " start again in another output folder"
            )


def best(checkpoints: list[Path]) -> Path | None:
    """The checkpoint with the lowest held-out loss, the later of equals; None without a loss."""
    ranked = [
        (loss, -step_of(c), c)
        for c in checkpoints
        if (loss := read_state(c).figures.get("heldout_loss")) is not None
    ]
    return min(ranked)[2] if ranked else None


def retain(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best one, and half-written folders.

    A link, or a folder whose name only begins like a checkpoint's, stays.
    """
    found = all_in(folder)
    gone = set(found[:-keep]) - {best(found)}
    halves = {folder / f".tmp-{c.name}": c for c in gone if not c.is_symlink()}
    for half, checkpoint in halves.items():
        shutil.rmtree(half, ignore_errors=True)
        # Renamed, so that a removal cut short by a kill leaves no broken checkpoint.
        with fs.storage(checkpoint):
            checkpoint.rename(half)
    for half in folder.glob(".tmp-step-*"):
        if _NAME.fullmatch(half.name.removeprefix(".tmp-")):
            shutil.rmtree(half, ignore_errors=True)


def _named(modules: Mapping[str, nn.Module]) -> dict[nn.Parameter, str]:
    return {
        parameter: f"{prefix}/{name}" if prefix else name
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
    }


def _moments(
    optimizer: torch.optim.Optimizer, modules: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    names = _named(modules)
    return {
        f"{names[parameter]}.{key}": value  # type: ignore[index]
        for parameter, entry in optimizer.state.items()
        for key, value in entry.items()
    }
