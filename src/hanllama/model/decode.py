"""The decoder: token ids in, token ids out, batched, with a key-value cache.

`hanllama generate`, the samples while training, rollouts and the server all run through `decode`.
Prompts of different lengths share a batch by padding on the left, which changes no result; a
finished row leaves the batch. Every random draw is a function of (seed, row, step), so a row's
text depends neither on its neighbours nor on the batch size, up to the rounding of matrix products
of different shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hanllama.base.errors import InputError
from hanllama.model.device import fast_products
from hanllama.model.llama import KVCache, Llama
from hanllama.model.sampling import Sampling

Finish = Literal["eos", "stop", "length", "context"]

# Ids per block when `draw_of_all` looks for a token: about the square root of a vocabulary.
_DRAW_BLOCK = 256


@dataclass(frozen=True)
class Token:
    """One step of one row: the new id, and the reason if the row ends here."""

    row: int
    id: int
    finish: Finish | None


def generate_tokens(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    eos_ids: Sequence[int] | None = None,
    **options: Any,
) -> list[list[int]]:
    """The ids that continue each prompt, in order; an EOS that ended one is its last.

    The arguments are those of `decode`.
    """
    ids: list[list[int]] = [[] for _ in prompts]
    for token in decode(model, prompts, sampling, eos_ids, **options):
        ids[token.row].append(token.id)
    return ids


def decode(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    eos_ids: Sequence[int] | None = None,
    *,
    streams: Sequence[int] | None = None,
    vocab_size: int | None = None,
    stop: Callable[[int, int], bool] | None = None,
) -> Iterator[Token]:
    """Continue all prompts together, yielding every token as it is chosen, row by row.

    Args:
        model: on any device; its mode and gradients do not change.
        prompts: token ids, each with at least one.
        sampling: how the next token is chosen.
        eos_ids: ids that end a row; None for the model's `stop_ids`.
        streams: the random stream of each row (with `sampling.seed`); default 0, 1, 2, …
        vocab_size: choose only ids below this, when the model has more rows than the tokenizer.
        stop: `stop(row, id)`, called after each token, ends the row when true.

    Raises InputError for a prompt that is empty, has an id outside the vocabulary, or leaves no
    room in the context.
    """
    if not prompts:
        return
    room = room_for(model, prompts, sampling.max_new_tokens)
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]
    weight = model.output_weight()
    with torch.inference_mode():
        cache = KVCache(
            model.config, len(prompts), width + max(room), weight.device, weight.dtype, padding
        )
        chooser = _Chooser(prompts, sampling, streams or range(len(prompts)), weight.device)
        # The id under padding is never looked at; 0 exists in every vocabulary.
        padded = [[0] * left + list(prompt) for left, prompt in zip(padding, prompts, strict=True)]
        logits_BV = _next_logits(model, torch.tensor(padded, device=weight.device), cache)
        chosen_B = chooser.choose(logits_BV[:, :vocab_size], 0)
    rows = list(range(len(prompts)))
    ends = frozenset(model.stop_ids if eos_ids is None else eos_ids)
    step = 0
    while True:
        kept = []
        for index, (row, token) in enumerate(zip(rows, chosen_B.tolist(), strict=True)):
            finish: Finish | None = None
            if token in ends:
                finish = "eos"
            elif stop is not None and stop(row, token):
                finish = "stop"
            elif step + 1 == room[row]:
                finish = "length" if room[row] == sampling.max_new_tokens else "context"
            yield Token(row, token, finish)
            if finish is None:
                kept.append(index)
        if not kept:
            return
        step += 1
        # Entered for each step: a generator must not leave the mode on while its consumer (such as
        # a training loop) runs between two tokens.
        with torch.inference_mode():
            if len(kept) < len(rows):
                rows = [rows[index] for index in kept]
                chosen_B = chosen_B[kept]
                cache.keep(kept)
                chooser.keep(kept)
            logits_BV = _next_logits(model, chosen_B[:, None], cache)
            chosen_B = chooser.choose(logits_BV[:, :vocab_size], step)


def _next_logits(model: Llama, tokens_BT: Tensor, cache: KVCache) -> Tensor:
    """The logits after the last token, fp32 [B, V]; the others are never computed."""
    weight_VD = model.output_weight()
    with fast_products(weight_VD.device, len(tokens_BT)):
        hidden_BTD = model.hidden(tokens_BT, cache=cache)
        return F.linear(hidden_BTD[:, -1], weight_VD).float()


def room_for(model: Llama, prompts: Sequence[Sequence[int]], wanted: int) -> list[int]:
    """How many tokens each row may write: `wanted`, or fewer where the context ends."""
    context, vocabulary = model.config.max_position_embeddings, model.config.vocab_size
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(f"prompt {row + 1} has no token; begin it with the BOS token")
        if len(prompt) >= context:
            raise InputError(
                f"prompt {row + 1} has {len(prompt)} tokens, but the model's context is {context}"
                " and one must be left to write; shorten the prompt"
            )
        if min(prompt) < 0 or max(prompt) >= vocabulary:
            raise InputError(
                f"prompt {row + 1} has token id {max(prompt)}, but the model's vocabulary ends at"
                f" {vocabulary - 1}; model and tokenizer do not belong together"
            )
    return [min(wanted, context - len(prompt)) for prompt in prompts]


class _Chooser:
    """Chooses the next token of every row from its logits."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        streams: Sequence[int],
        device: torch.device,
    ) -> None:
        self.sampling = sampling
        self.used_BV: Tensor | None = None
        self.prompts = prompts
        self.draws_BN: Tensor | None = None
        if sampling.temperature > 0:
            # Drawn by NumPy: the same numbers on every device, and a higher max_new_tokens keeps
            # the numbers of the first tokens.
            rows = [
                np.random.Generator(np.random.PCG64([sampling.seed, stream])).random(
                    sampling.max_new_tokens
                )
                for stream in streams
            ]
            self.draws_BN = torch.from_numpy(np.stack(rows)).float().to(device)

    def choose(self, logits_BV: Tensor, step: int) -> Tensor:
        """The ids [B] of this step."""
        sampling = self.sampling
        if sampling.repetition_penalty != 1.0:
            if self.used_BV is None:
                self.used_BV = _used(self.prompts, logits_BV)
            logits_BV = penalise(logits_BV, self.used_BV, sampling.repetition_penalty)
        if self.draws_BN is None:
            chosen_B = logits_BV.argmax(-1)
        elif not sampling.top_k and sampling.top_p == 1:
            chosen_B = draw_of_all(logits_BV / sampling.temperature, self.draws_BN[:, step])
        else:
            scores_BC, ids_BC = candidates(
                logits_BV / sampling.temperature, sampling.top_k, sampling.top_p
            )
            chosen_B = draw(scores_BC, ids_BC, self.draws_BN[:, step])
        if self.used_BV is not None:
            self.used_BV.scatter_(1, chosen_B[:, None], True)
        return chosen_B

    def keep(self, rows: list[int]) -> None:
        if self.draws_BN is not None:
            self.draws_BN = self.draws_BN[rows]
        if self.used_BV is not None:
            self.used_BV = self.used_BV[rows]


def penalise(logits_BV: Tensor, used_BV: Tensor, penalty: float) -> Tensor:
    """Make used tokens less likely: positive logits divided, negative ones multiplied (CTRL,
    Keskar et al. 2019)."""
    lowered = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(used_BV, lowered, logits_BV)


def candidates(logits_BV: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """The tokens that may be drawn, likeliest first: logits [B, C] (-inf: not this one) and ids.

    Top-k keeps the k likeliest. Top-p then keeps the fewest of these whose share reaches `top_p`,
    at least one (Holtzman et al. 2020).
    """
    count = min(top_k, logits_BV.shape[-1]) if top_k else logits_BV.shape[-1]
    if count < logits_BV.shape[-1]:
        scores_BC, ids_BC = logits_BV.topk(count, dim=-1)
    else:
        scores_BC, ids_BC = logits_BV.sort(dim=-1, descending=True, stable=True)
    if top_p < 1:
        shares = scores_BC.softmax(-1)
        before = shares.cumsum(-1) - shares  # the share of everything likelier
        out = before >= top_p
        out[:, 0] = False
        scores_BC = scores_BC.masked_fill(out, -torch.inf)
    return scores_BC, ids_BC


def draw_of_all(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """One id per row from the whole vocabulary, in the order of the ids: `draw` without a sort.

    Sorting 65,000 logits costs several times the model of 24M parameters that computed them. The
    cumulative distribution is computed over blocks of ids, then inside the chosen block only.
    """
    shares_BV = logits_BV.softmax(-1)
    V = shares_BV.shape[1]
    whole = V // _DRAW_BLOCK * _DRAW_BLOCK
    blocks_BK = shares_BV[:, :whole].reshape(len(shares_BV), -1, _DRAW_BLOCK).sum(-1)
    sums_BK = torch.cat((blocks_BK, shares_BV[:, whole:].sum(-1, keepdim=True)), 1)
    # An empty last block is never chosen, since its share is 0.
    ends_BK = sums_BK.cumsum(-1)
    target_B1 = uniform_B[:, None] * ends_BK[:, -1:]
    block_B1 = _place(ends_BK, sums_BK, target_B1)
    before_B1 = (ends_BK - sums_BK).gather(1, block_B1)
    columns_BC = block_B1 * _DRAW_BLOCK + torch.arange(_DRAW_BLOCK, device=logits_BV.device)
    inside_BC = shares_BV.gather(1, columns_BC.clamp(max=V - 1)) * (columns_BC < V)
    place_B1 = _place(inside_BC.cumsum(-1), inside_BC, target_B1 - before_B1)
    return (block_B1 * _DRAW_BLOCK + place_B1)[:, 0].clamp(max=V - 1)


def _place(ends_BK: Tensor, shares_BK: Tensor, target_B1: Tensor) -> Tensor:
    """The first place whose end lies beyond the target; at most the last one with a share, where
    rounding would go past it. NaN logits give some place; training reports the NaN itself.
    """
    place_B1 = torch.searchsorted(ends_BK, target_B1, right=True)
    positions_K = torch.arange(shares_BK.shape[1], device=shares_BK.device)
    last_B1 = torch.where(shares_BK > 0, positions_K, 0).amax(-1, keepdim=True)
    return torch.minimum(place_B1, last_B1)


def draw(scores_BC: Tensor, ids_BC: Tensor, uniform_B: Tensor) -> Tensor:
    """One id per row, by inverting the cumulative distribution at a number from [0, 1)."""
    cumulative_BC = scores_BC.softmax(-1).cumsum(-1)
    # Scaled by the actual sum, since rounding can leave it a little below 1.
    target_B1 = uniform_B[:, None] * cumulative_BC[:, -1:]
    place_B1 = torch.searchsorted(cumulative_BC, target_B1, right=True)
    # The last candidate with a share: a target that rounds up to the total points past it.
    last_B1 = (scores_BC > -torch.inf).sum(-1, keepdim=True).clamp(min=1) - 1
    return ids_BC.gather(1, torch.minimum(place_B1, last_B1))[:, 0]


def _used(prompts: Sequence[Sequence[int]], logits_BV: Tensor) -> Tensor:
    used_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        used_BV[row, [token for token in prompt if token < used_BV.shape[1]]] = True
    return used_BV


def decoding_layout(model: Llama) -> None:
    """Store the matrices that widen (head, gate, up) column by column; CPU only, in place.

    One row times such a matrix is bound by memory, and the usual layout is read at half the speed
    (MKL on an AMD EPYC, a 512 x 64,793 head: 11.7 ms, against 6.1 ms by columns). Names, shapes
    and values stay the same. For models that only decode.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            widens = parameter.ndim == 2 and parameter.shape[0] > parameter.shape[1]
            if widens and parameter.device.type == "cpu":
                parameter.data = parameter.data.t().contiguous().t()
