"""Answers in batches that fit into memory: a batch that does not fit is halved and written again.

A row's answer does not depend on its neighbours (`decode.py`), so halving changes no answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from hanllama.base.errors import HanllamaError

Job = TypeVar("Job")
Written = TypeVar("Written")


def notice(text: str) -> None:
    """Tell the user on stderr."""
    print(f"hanllama: notice: {text}", file=sys.stderr)


class FittingBatches:
    """Batches of at most `size` jobs; when one does not fit, it and all later ones are halved.

    Args:
        size: jobs of a batch; read it back to learn the size that fitted.
        option: the user's name for it, for messages; `max_new_tokens` has the same prefix.
        may_halve: if false, running out of memory is an error at once.
        tell: called with a notice when the size is lowered.
    """

    def __init__(
        self,
        size: int,
        option: str,
        *,
        may_halve: bool = True,
        tell: Callable[[str], None] = notice,
    ) -> None:
        self.size, self._option, self._may_halve, self._tell = size, option, may_halve, tell

    def __call__(
        self, jobs: Sequence[Job], write: Callable[[Sequence[Job]], Written]
    ) -> Iterator[Written]:
        """Yield `write`'s result for each batch, in order.

        Raises HanllamaError, naming the option, when not even one job fits or halving is not
        allowed.
        """
        begin = 0
        while begin < len(jobs):
            part = jobs[begin : begin + self.size]
            try:
                written = write(part)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1 or not self._may_halve:
                    raise HanllamaError(self._advice(len(part))) from error
            else:
                yield written
                begin += len(part)
                continue
            # Not in the `except` block: there the error's frames still hold the batch's tensors.
            torch.cuda.empty_cache()
            self.size = len(part) // 2
            self._tell(
                f"out of memory while answers were written with {self._option} {len(part)};"
                f" going on with {self.size}"
            )

    def _advice(self, rows: int) -> str:
        tokens = self._option.removesuffix("batch") + "max_new_tokens"
        remedy = f"lower {self._option} or {tokens}" if rows > 1 else f"lower {tokens}"
        return (
            f"out of memory while answers were written with {self._option} {rows}: {remedy}, or"
            " choose a smaller model"
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that the device's memory was too small."""
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
