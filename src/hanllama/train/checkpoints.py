"""Checkpoints: `checkpoints/step-000800/` is a model folder plus what only training needs.

    config.json model.safetensors tokenizer.json …     the model, as anyone may open it
    trainer/state.json                                 step, fingerprint, the objective's state
    trainer/optimizer.safetensors                      AdamW's moments by parameter name
    trainer/config.yaml                                the resolved config
    trainer/<name>.safetensors                         further models of the objective
    SHA256SUMS                                         the marker, written last

A folder appears whole or not at all (`fs.publish`), and is checked whole before it is used: one
flipped bit is refused. Which checkpoint is best is read from their states, never remembered.
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
    """What a checkpoint knows besides weights and moments.

    step: optimizer steps done.
    tokens: trained tokens (weights) seen.
    fingerprint: what must be unchanged on resume, by field.
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
    """The complete checkpoints of a run, by step; half-written ones carry other names."""
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
    """Refuse a checkpoint with a missing, truncated or altered file."""
    try:
        fs.verify_sums(checkpoint)
    except CorruptError as error:
        raise CorruptError(
            f"{error}; to go on from the checkpoint before it, remove {checkpoint}"
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
                    f"{checkpoint} has no {key} for {name}: it was written by another objective or"
                    " with other parameters frozen"
                )
            # Fused kernels want the step beside the parameter, in float32.
            entry[key] = tensor.to(parameter.device)
        optimizer.state[parameter] = entry
    return read_state(checkpoint)


def require_same(found: Mapping[str, str], expected: Mapping[str, str], checkpoint: Path) -> None:
    """Refuse to go on with other data, another tokenizer or another model, naming the field."""
    for key in sorted({*found, *expected}):
        if found.get(key) != expected.get(key):
            raise ResumeError(
                f"cannot resume from {checkpoint}: {key} has changed (it was"
                f" {found.get(key, 'absent')}, now {expected.get(key, 'absent')}); restore it, or"
                " start anew in another output folder"
            )


def best(checkpoints: list[Path]) -> Path | None:
    """The checkpoint of the lowest held-out loss; the later one of equals, None without any."""
    ranked = [
        (loss, -step_of(c), c)
        for c in checkpoints
        if (loss := read_state(c).figures.get("heldout_loss")) is not None
    ]
    return min(ranked)[2] if ranked else None


def retain(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and the best one, and halves that a kill left.

    A link, or a name that only begins like a checkpoint's, is somebody else's and stays.
    """
    found = all_in(folder)
    gone = set(found[:-keep]) - {best(found)}
    halves = {folder / f".tmp-{c.name}": c for c in gone if not c.is_symlink()}
    for half, checkpoint in halves.items():
        shutil.rmtree(half, ignore_errors=True)
        # Under this name nobody takes it for a checkpoint, should a kill cut the removal short.
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
