"""Low-rank adapters: train two thin matrices beside each linear layer, and nothing else.

Hu et al. 2021 (arXiv:2106.09685): y = W x + (alpha / rank) B A x, with W frozen, A drawn as in PEFT
and B zero, so training begins with exactly the base. Parameters have PEFT's names
(`q_proj.lora_A.weight`). `hanllama.model.checkpoint` writes and opens the folders.

Shapes: O outputs of a layer, I inputs, r the rank.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hanllama.base.errors import CorruptError, InputError
from hanllama.model.adapter import PREFIX, Adapter, LoraConfig, is_adapter
from hanllama.model.folder import weights_fingerprint
from hanllama.model.llama import Linear, Llama

_A, _B = ".lora_A.weight", ".lora_B.weight"


class LoraLinear(Linear):
    """A frozen projection with an adapter beside it."""

    def __init__(self, frozen: Linear, rank: int, scale: float, dropout: float) -> None:
        outputs, inputs = frozen.weight.shape
        with torch.device("meta"):
            super().__init__(inputs, outputs)
        self.weight = frozen.weight
        self.lora_A = Linear(inputs, rank)
        self.lora_B = Linear(rank, outputs)
        self.scale, self.dropout = scale, dropout
        self.on = True

    def forward(self, x: Tensor) -> Tensor:
        frozen = F.linear(x, self.weight)
        if not self.on:
            return frozen
        dropped = F.dropout(x, self.dropout, self.training)
        adapted: Tensor = frozen + self.scale * self.lora_B(self.lora_A(dropped))
        return adapted


def adapt(
    model: Llama, lora: LoraConfig, base: str | Path, seed: int, whole: tuple[str, ...] = ()
) -> None:
    """Freeze a model in place and put new adapters beside its linear layers.

    Args:
        model: on any device; its outputs do not change.
        lora: with a rank of at least 1.
        base: the folder that the model was loaded from.
        seed: the seed of A.
        whole: last names of modules that are trained whole, such as a new head.

    Raises InputError when the base is itself an adapter's folder.
    """
    if is_adapter(base):
        raise InputError(
            f"{base} is itself an adapter; merge it first: hanllama model merge {base} --output"
            " FOLDER"
        )
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if name in whole:
                layer.requires_grad_(True)
            elif name in lora.layers and isinstance(layer, Linear):
                adapted = LoraLinear(layer, lora.rank, lora.scale, lora.dropout)
                _draw(adapted, generator)
                setattr(parent, name, adapted.to(layer.weight.device))
    model.adapter = Adapter(
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        layers=lora.layers,
        scale=lora.scale,
        # Absolute, so that a change of directory does not lose the base.
        base=os.path.abspath(base),
        fingerprint=weights_fingerprint(Path(base)),
        whole=whole,
    )


@torch.no_grad()
def _draw(layer: LoraLinear, generator: torch.Generator) -> None:
    """A as PEFT draws it, uniform within 1/sqrt(I) (He et al. 2015 with a = sqrt(5)); B zero."""
    bound = 1 / math.sqrt(layer.in_features)
    layer.lora_A.weight.uniform_(-bound, bound, generator=generator)
    layer.lora_B.weight.zero_()


@contextmanager
def adapters_off(model: Llama) -> Iterator[None]:
    """Compute with the base alone inside the block: the reference of a model with adapters."""
    layers = [m for m in model.modules() if isinstance(m, LoraLinear)]
    for layer in layers:
        layer.on = False
    try:
        yield
    finally:
        for layer in layers:
            layer.on = True


def adapter_tensors(model: Llama) -> dict[str, Tensor]:
    """The trained parameters of a model with adapters, by PEFT's names."""
    return {PREFIX + name: p for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def merge_adapter(
    model: Llama, adapter: Adapter, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Add an adapter to the base it was trained on, in place: W + scale B A, in float32.

    Args:
        model: the base, without adapters.
        tensors: by PEFT's names, from our file or PEFT's.
        where: the file's name, for messages.

    Raises CorruptError for tensors that the model has no place for.
    """
    weights = dict(model.named_parameters())
    left = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    for name in sorted(n for n in left if n.endswith(_A)):
        layer = name.removesuffix(_A)
        a_rI, b_Or = left.pop(name), left.pop(layer + _B, None)
        weight_OI = weights.get(layer + ".weight")
        fits = (
            b_Or is not None
            and weight_OI is not None
            and a_rI.ndim == b_Or.ndim == 2
            and (b_Or.shape[0], a_rI.shape[1]) == weight_OI.shape
            and b_Or.shape[1] == a_rI.shape[0] == adapter.rank
        )
        if not fits:
            raise CorruptError(f"{where}: the adapter of {layer} does not fit the base model")
        assert weight_OI is not None and b_Or is not None
        device = weight_OI.device
        change_OI = adapter.scale * (b_Or.float() @ a_rI.float())
        weight_OI.copy_(weight_OI.float() + change_OI.to(device))
    for name, tensor in left.items():
        whole = weights.get(name)
        if whole is None or whole.shape != tensor.shape or name.split(".")[-2] not in adapter.whole:
            raise CorruptError(f"{where}: the base model has no place for {name}")
        whole.copy_(tensor)
