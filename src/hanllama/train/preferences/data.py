"""Preferences as sequences of tokens, split by prompt, with a reference model's log-probabilities.

A row is a pair (the chosen and the rejected answer to a prompt) or, for unpaired losses, a judged
answer and an answer to another prompt. The probability of the latter, against the reference's,
shows how far the model has moved as a whole (KTO's `kl`).

The chat template turns messages into ids; only the last answer with its end token counts. A row
longer than the context is left out, counted and named in `left_out.jsonl`: a cut answer has no end,
and a cut prompt asks something else. Rows with the same prompt are held out together, by a hash of
the prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hanllama.base import fingerprint, fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.progress import Progress
from hanllama.batches.mix import permutation
from hanllama.model.card import ModelCard
from hanllama.talks.conversations import parse_fill
from hanllama.talks.conversations.form import assistant, prompt_hash
from hanllama.talks.preferences import Judged, Pair, PreferenceReader
from hanllama.text.hashing import rank
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate, Encoded
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer, load_tokenizer
from hanllama.train.command import Session, day_of
from hanllama.train.config import LoopConfig, OptimConfig
from hanllama.train.objective import Objective
from hanllama.train.parallel import World
from hanllama.train.preferences.config import PreferenceConfig
from hanllama.train.run import DATA
from hanllama.train.sequences import TokenSequence

_ENCODED_AT_A_TIME = 512

_Item = TypeVar("_Item", Pair, Judged)


@dataclass(frozen=True)
class Row:
    """A pair, or a judged answer.

    Attributes:
        first: prompt and chosen answer; unpaired: prompt and answer.
        second: prompt and rejected answer; unpaired: prompt and another prompt's answer.
        good: unpaired: whether the answer is good; always true for pairs.
        margin: by how much the chosen answer is better; 0 if the data does not say.
        prompt: a hash of the prompt.
        id: the record's id.
    """

    first: TokenSequence
    second: TokenSequence
    good: bool
    margin: float
    prompt: bytes
    id: str

    @property
    def answer_tokens(self) -> tuple[int, int]:
        """Tokens of the two answers."""
        return int(self.first.mask.sum()), int(self.second.mask.sum())


@dataclass(frozen=True)
class PreferenceRows:
    """The rows of a run.

    Attributes:
        train, heldout: the rows of the two splits.
        longest: number of tokens of the longest sequence.
        hash: a hash of all tokens, masks, judgements and margins.
        summary: the counts, in lines to print.
    """

    train: list[Row]
    heldout: list[Row]
    longest: int
    hash: str
    summary: str


@dataclass(frozen=True)
class Prepared:
    """A command's rows, with the tokenizer and the template that encoded them.

    Attributes:
        tokenizer_folder: the result's tokenizer files and template are copied from here.
        fingerprint: the hashes of data, tokenizer and template that a resume requires.
    """

    rows: PreferenceRows
    tokenizer: Tokenizer
    template: ChatTemplate
    tokenizer_folder: Path
    fingerprint: dict[str, str]

    def train(
        self,
        objective: Objective,
        session: Session,
        optim: OptimConfig,
        loop: LoopConfig,
        card: ModelCard,
    ) -> None:
        """Train from the beginning or the newest checkpoint to the last step."""
        session.train(
            objective,
            optim,
            loop,
            tokenizer_folder=self.tokenizer_folder,
            card=card,
            context=self.rows.longest,
            announcement=f"{self.rows.summary}\n{loop.max_steps:,} steps of {loop.batch_size}",
            template=self.template,
        )


def prepare_rows(
    config: PreferenceConfig, session: Session, *, paired: bool, positions: int
) -> Prepared:
    """Read and encode a command's data with its base model's tokenizer.

    Args:
        positions: the model's positions, the longest possible context.

    Raises InputError for unusable data or a base model without a chat template, ConfigError for an
    invalid template or context.
    """
    if config.context > positions:
        raise ConfigError(
            f"context {config.context} exceeds the {positions} positions of {config.base_model}"
        )
    base, folder = Path(config.base_model), session.output / DATA
    tokenizer = load_tokenizer(base)
    template = session.chat_template(tokenizer, config.template)
    notes = folder if session.processes.is_main else None
    rows = read_rows(
        config, template, paired=paired, context=config.context or positions, notes=notes
    )
    if config.template:
        base = folder / "tokenizer"
        if session.processes.is_main:
            with fs.publish(base, replace=True) as beside:
                copy_tokenizer(tokenizer.folder, beside)
                fs.write_text(beside / chat.FILE, template.source)
    session.processes.barrier()
    found = {
        "data": rows.hash,
        "tokenizer": tokenizer.hash,
        "template": fingerprint.of_json(template.source),
        **day_of(template),
    }
    return Prepared(rows, tokenizer, template, base, found)


def read_rows(
    config: PreferenceConfig,
    template: ChatTemplate,
    *,
    paired: bool,
    context: int,
    notes: Path | None = None,
) -> PreferenceRows:
    """Read, encode and split a command's preferences.

    Args:
        context: the most tokens of a prompt with its answer.
        notes: a folder for `quarantine.jsonl` and `left_out.jsonl`; None for all processes but one.

    Raises InputError when nothing can be used, too much cannot, or nothing is left to learn from.
    """
    reader = PreferenceReader(config.data, layout=config.layout, fill=parse_fill(config.fill))
    rows: list[Row] = []
    refused: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for row in _encoded(reader, template, paired, config.loop.seed, refused):
        tokens = max(row.first.ids.size, row.second.ids.size if paired else 0)
        if tokens > context:
            left_out.append({"id": row.id, "reason": "longer than the context", "tokens": tokens})
        else:
            rows.append(row if paired else _second_within(row, context))
    if notes is not None:
        fs.make_folder(notes)
        reader.write_quarantine(notes)
        fs.write_jsonl(notes / "left_out.jsonl", [*refused, *left_out])
    reader.check(config.max_quarantine_share)
    seed, share = config.loop.seed, config.heldout_share
    held = [rank(seed, row.prompt.hex()) < share * 2**64 for row in rows]
    train = [row for row, out in zip(rows, held, strict=True) if not out]
    unseen = [row for row, out in zip(rows, held, strict=True) if out]
    noun = "pairs" if paired else "judged answers"
    if not train:
        raise InputError(
            f"{', '.join(config.data)}: no {noun} are left to learn from: {len(left_out):,} are"
            f" longer than the context of {context} tokens, {len(refused):,} are refused by the"
            f" chat template, {len(unseen):,} are held out"
        )
    longest = max(max(row.first.ids.size, row.second.ids.size) for row in rows)
    summary = f"{reader.summary()}\n{len(train):,} {noun} to learn from, {len(unseen):,} held out"
    if left_out:
        summary += f"; {len(left_out):,} longer than {context} tokens left out (left_out.jsonl)"
    if refused:
        summary += f"; {len(refused):,} refused by the chat template (left_out.jsonl)"
    return PreferenceRows(train, unseen, longest, _hash(rows), summary)


# --- the reference model's log-probabilities -----------------------------------------------------


def reference_log_probs(
    rows: Sequence[Row],
    of_rows: Callable[[Sequence[Row]], NDArray[np.float64]],
    *,
    kept: Path,
    fingerprint: str,
    micro_batch_size: int,
    world: World,
    device: torch.device,
) -> NDArray[np.float32]:
    """log p of both sequences of every row, [rows, 2], computed once and kept in a folder.

    Args:
        of_rows: rows -> their log-probabilities [rows, 2] under the reference.
        kept: the folder.
        fingerprint: a hash of the reference and the data; for another one all is computed again.

    Raises CorruptError when the folder is damaged.
    """
    if kept.is_dir():
        fs.verify_sums(kept)
        if fs.read_json(kept / "facts.json")["fingerprint"] == fingerprint:
            found: NDArray[np.float32] = np.load(kept / "log_probs.npy", allow_pickle=False)
            return found
    values = np.zeros((len(rows), 2))
    mine = np.arange(len(rows))[world.rank :: world.size]
    with Progress(kept.name, len(mine), "rows") if world.is_main else nullcontext() as progress:
        for start in range(0, len(mine), micro_batch_size):
            part = mine[start : start + micro_batch_size]
            values[part] = of_rows([rows[i] for i in part])
            if progress is not None:
                progress.advance(len(part))
    summed = world.sum(values.ravel().tolist(), device)
    log_probs = np.array(summed, dtype=np.float32).reshape(-1, 2)
    if world.is_main:
        with fs.publish(kept, replace=True) as beside:
            np.save(beside / "log_probs.npy", log_probs)
            fs.write_json(beside / "facts.json", {"fingerprint": fingerprint, "rows": len(rows)})
    world.barrier()
    return log_probs


# --- encoding ------------------------------------------------------------------------------------


def _encoded(
    reader: PreferenceReader,
    template: ChatTemplate,
    paired: bool,
    seed: int,
    refused: list[dict[str, Any]],
) -> Iterator[Row]:
    """Yield the rows, in order; add items whose prompt the template refuses to `refused`."""

    def rendered(items: Iterable[_Item]) -> Iterator[_Item]:
        for item in items:
            try:  # the template may lack a role
                template.render(item.prompt, generation_prompt=True)
            except InputError as error:
                refused.append({"id": item.id, "reason": str(error)})
            else:
                yield item

    answered: Iterator[tuple[Pair | Judged, str, str]]
    if paired:
        answered = ((pair, pair.chosen, pair.rejected) for pair in rendered(reader))
    else:
        answered = _beside_another(list(rendered(reader.judged())), seed)
    while part := list(islice(answered, _ENCODED_AT_A_TIME)):
        talks = [[*item.prompt, assistant(text)] for item, *texts in part for text in texts]
        sides = [last_answer(encoded) for encoded in template.encode_many(talks)]
        for (item, *_), first, second in zip(part, sides[::2], sides[1::2], strict=True):
            good = item.good if isinstance(item, Judged) else True
            margin = 0.0 if isinstance(item, Judged) else item.margin or 0.0
            yield Row(first, second, good, margin, prompt_hash(item.prompt), item.id)


def _beside_another(items: Sequence[Judged], seed: int) -> Iterator[tuple[Judged, str, str]]:
    """Yield each answer with an answer to another prompt, the next one in a random order."""
    prompts = [prompt_hash(item.prompt) for item in items]
    if len(set(prompts)) == 1:
        raise InputError(
            "an unpaired loss needs answers to at least two prompts, but all of these answer the"
            " same one; give more data, or use a paired loss"
        )
    order = permutation(len(items), seed, 0).tolist()
    partner = dict(zip(order, _next_of_another(order, prompts), strict=True))
    for number, item in enumerate(items):
        yield item, item.answer, items[partner[number]].answer


def _next_of_another(order: Sequence[int], prompts: Sequence[bytes]) -> list[int]:
    """For each place of a cyclic order, the next item with another prompt."""
    found = [0] * len(order)
    following = -1
    # Twice around, backwards: the second time every place has such an item after it.
    for place in [*reversed(range(len(order))), *reversed(range(len(order)))]:
        after = order[(place + 1) % len(order)]
        if prompts[after] != prompts[order[place]]:
            following = after
        found[place] = following
    return found


def last_answer(encoded: Encoded) -> TokenSequence:
    """A conversation up to its last end token; only the tokens of the last answer count.

    Tokens that a template puts after the end token (ChatML's newline) are left out: no model writes
    them, and a reward is read at the last token.
    """
    trained = np.flatnonzero(encoded.mask)
    end = int(trained[-1]) + 1
    before = np.flatnonzero(~encoded.mask[:end])
    mask = np.zeros(end, dtype=np.bool_)
    mask[int(before[-1]) + 1 if before.size else 0 :] = True
    return TokenSequence(encoded.ids[:end], mask)


def _second_within(row: Row, context: int) -> Row:
    """Cut another prompt's answer to the context; for the `kl` its beginning is enough.

    A prompt that fills the context alone was left out already, with its own answer.
    """
    ids, mask = row.second.ids[:context], row.second.mask[:context]
    return replace(row, second=TokenSequence(ids, mask))


def _hash(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        for sequence in (row.first, row.second):
            digest.update(sequence.ids.size.to_bytes(8, "little"))
            digest.update(sequence.ids.astype("<i4").tobytes())
            digest.update(np.packbits(sequence.mask).tobytes())
        facts: list[Any] = [row.good, row.margin]
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()
