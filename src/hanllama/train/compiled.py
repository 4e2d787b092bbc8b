"""torch.compile where it pays: the forward pass of full training batches, and nowhere else.

Compiling costs a minute for each new shape, so a smaller last micro-batch, evaluation (another
gradient mode) and decoding (a new shape every token) stay eager. The model itself is untouched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hanllama.model.llama import Llama


class Hidden:
    """`model.hidden`, compiled for batches of the shape that it sees first."""

    def __init__(self, model: Llama, compile: bool) -> None:
        self._model = model
        self._compiled = torch.compile(model.hidden, dynamic=False) if compile else None
        self._shape: torch.Size | None = None

    def __call__(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None,
        documents_BT: Tensor | None,
        noise_BTD: Tensor | None = None,
    ) -> Tensor:
        """The hidden states [B, T, D]; the arguments are those of `Llama.hidden`."""
        if self._compiled is not None and torch.is_grad_enabled():
            self._shape = self._shape or tokens_BT.shape
            if tokens_BT.shape == self._shape:
                compiled: Tensor = self._compiled(
                    tokens_BT, positions_BT, documents_BT, None, noise_BTD
                )
                return compiled
        return self._model.hidden(tokens_BT, positions_BT, documents_BT, None, noise_BTD)
