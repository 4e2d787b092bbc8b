"""Preferences as sequences of tokens, split by prompt, with what a reference model thinks of them.

A row is a pair (the chosen and the rejected answer to a prompt) or, for unpaired losses, one judged
answer, beside which lies another prompt's answer: how much more probable a model makes that than
its reference does says how far it has moved altogether (KTO's `kl`).

Messages become ids through the chat template alone; what counts is the last answer with its end
token, and nothing behind it. A row that is longer than the context is left out, counted and named
in `left_out.jsonl`: a cut answer has no end, and an answer to a cut prompt answers something else.
Rows with the same prompt are held out together, by a hash of the prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hanllama.base import fingerprint, fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.progress import Progress
from hanllama.batches.mix import permutation
from hanllama.talks.conversations import parse_fill
from hanllama.talks.conversations.form import prompt_hash
from hanllama.talks.preferences import Judged, Pair, PreferenceReader
from hanllama.text.hashing import rank
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate, Encoded
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer, load_tokenizer
from hanllama.train.command import Session, day_of
from hanllama.train.parallel import World
from hanllama.train.preferences.config import DpoConfig, RewardConfig
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
        good: unpaired: whether the answer is good; always true of pairs.
        margin: by how much the chosen answer is better, 0 where nobody said.
        prompt: a hash of the prompt.
        id: of the record.
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
    """What a run learns from and is measured by.

    Attributes:
        train, heldout: the rows.
        longest: tokens of the longest sequence.
        hash: of all tokens, masks, judgements and margins.
        summary: the counts, in lines to show.
    """

    train: list[Row]
    heldout: list[Row]
    longest: int
    hash: str
    summary: str


@dataclass(frozen=True)
class Prepared:
    """A command's rows, and what they were encoded with.

    Attributes:
        tokenizer_folder: what the result's tokenizer files are copied from, template included.
        fingerprint: what a resume must find unchanged of data, tokenizer and template.
    """

    rows: PreferenceRows
    tokenizer: Tokenizer
    template: ChatTemplate
    tokenizer_folder: Path
    fingerprint: dict[str, str]


def prepare_rows(
    config: DpoConfig | RewardConfig, session: Session, *, paired: bool, positions: int
) -> Prepared:
    """Read and encode a command's data with its base model's tokenizer.

    Args:
        positions: the model's, the longest context there is.

    Raises InputError for data that cannot be used and a base model without a chat template,
    ConfigError for a template or a context that does not fit.
    """
    if config.context > positions:
        raise ConfigError(
            f"context {config.context} exceeds the {positions} positions of {config.base_model}"
        )
    base, folder = Path(config.base_model), session.output / DATA
    tokenizer = load_tokenizer(base)
    template = session.chat_template(tokenizer, config.template)
    rows = read_rows(
        config.data,
        template,
        paired=paired,
        context=config.context or positions,
        heldout_share=config.heldout_share,
        seed=config.loop.seed,
        layout=config.layout,
        fill=config.fill,
        max_quarantine_share=config.max_quarantine_share,
        notes=folder if session.processes.is_main else None,
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
    inputs: Sequence[str],
    template: ChatTemplate,
    *,
    paired: bool,
    context: int,
    heldout_share: float,
    seed: int,
    layout: str,
    fill: Sequence[str],
    max_quarantine_share: float,
    notes: Path | None,
) -> PreferenceRows:
    """Read, encode and split preferences.

    Args:
        context: the most tokens of a prompt with its answer.
        heldout_share: the share of the prompts that is held out.
        fill: `name=value` for each `{{name}}`.
        notes: a folder for `quarantine.jsonl` and `left_out.jsonl`; None on all processes but one.

    Raises InputError when nothing can be used, too much cannot, or nothing is left to learn from.
    """
    reader = PreferenceReader(inputs, layout=layout, fill=parse_fill(fill))
    rows: list[Row] = []
    refused: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    made = (
        _pairs(_renderable(reader, template, refused), template)
        if paired
        else _judged(_renderable(reader.judged(), template, refused), template, seed)
    )
    for row in made:
        tokens = max(row.first.ids.size, row.second.ids.size if paired else 0)
        if tokens > context:
            left_out.append({"id": row.id, "reason": "longer than the context", "tokens": tokens})
        else:
            rows.append(row if paired else _second_within(row, context))
    if notes is not None:
        fs.make_folder(notes)
        reader.write_quarantine(notes)
        fs.write_jsonl(notes / "left_out.jsonl", [*refused, *left_out])
    reader.check(max_quarantine_share)
    held = [rank(seed, row.prompt.hex()) < heldout_share * 2**64 for row in rows]
    train = [row for row, out in zip(rows, held, strict=True) if not out]
    unseen = [row for row, out in zip(rows, held, strict=True) if out]
    noun = "pairs" if paired else "judged answers"
    if not train:
        raise InputError(
            f"{', '.join(inputs)}: no {noun} are left to learn from: {len(left_out):,} are longer"
            f" than the context of {context} tokens, {len(refused):,} are refused by the chat"
            f" template, {len(unseen):,} are held out"
        )
    longest = max(max(row.first.ids.size, row.second.ids.size) for row in rows)
    summary = f"{reader.summary()}\n{len(train):,} {noun} to learn from, {len(unseen):,} held out"
    if left_out:
        summary += f"; {len(left_out):,} longer than {context} tokens left out (left_out.jsonl)"
    if refused:
        summary += f"; {len(refused):,} refused by the chat template (left_out.jsonl)"
    return PreferenceRows(train, unseen, longest, _hash(rows), summary)


# --- what a reference model thinks of them -------------------------------------------------------


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
        fingerprint: of the reference and the data; what was kept for another one is made anew.

    Raises CorruptError when what was kept is damaged.
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


def _renderable(
    items: Iterable[_Item], template: ChatTemplate, refused: list[dict[str, Any]]
) -> Iterator[_Item]:
    """The items whose prompt the template renders; others (it may lack a role) are `refused`."""
    for item in items:
        try:
            template.render(item.prompt, generation_prompt=True)
        except InputError as error:
            refused.append({"id": item.id, "reason": str(error)})
        else:
            yield item


def _pairs(pairs: Iterable[Pair], template: ChatTemplate) -> Iterator[Row]:
    for part in _parts(pairs):
        conversations = [
            [*pair.prompt, {"role": "assistant", "content": answer}]
            for pair in part
            for answer in (pair.chosen, pair.rejected)
        ]
        sides = [last_answer(e) for e in template.encode_many(conversations)]
        for number, pair in enumerate(part):
            chosen, rejected = sides[2 * number], sides[2 * number + 1]
            margin = pair.margin or 0.0
            yield Row(chosen, rejected, True, margin, prompt_hash(pair.prompt), pair.id)


def _judged(items: Iterable[Judged], template: ChatTemplate, seed: int) -> Iterator[Row]:
    """Judged answers, each beside the next one in a drawn order that answers another prompt."""
    all_items = list(items)
    if not all_items:
        return
    prompts = [prompt_hash(item.prompt) for item in all_items]
    if len(set(prompts)) < 2:
        raise InputError(
            "an unpaired loss measures how far the model moves by answers to other prompts, and"
            " all of these answer the same one; give more data, or use a paired loss"
        )
    order = permutation(len(all_items), seed, 0).tolist()
    partner = dict(zip(order, _next_of_another(order, prompts), strict=True))
    for start in range(0, len(all_items), _ENCODED_AT_A_TIME):
        numbers = range(start, min(start + _ENCODED_AT_A_TIME, len(all_items)))
        conversations = [
            [*all_items[n].prompt, {"role": "assistant", "content": all_items[m].answer}]
            for n in numbers
            for m in (n, partner[n])
        ]
        sides = [last_answer(e) for e in template.encode_many(conversations)]
        for place, n in enumerate(numbers):
            item, own, other = all_items[n], sides[2 * place], sides[2 * place + 1]
            yield Row(own, other, item.good, 0.0, prompts[n], item.id)


def _next_of_another(order: Sequence[int], prompts: Sequence[bytes]) -> list[int]:
    """For each place of a cyclic order the next item that has another prompt."""
    found = [0] * len(order)
    following = -1
    # Twice round backwards: the second time every place has one behind it.
    for place in [*reversed(range(len(order))), *reversed(range(len(order)))]:
        after = order[(place + 1) % len(order)]
        if prompts[after] != prompts[order[place]]:
            following = after
        found[place] = following
    return found


def last_answer(encoded: Encoded) -> TokenSequence:
    """A conversation up to its last end token, of which only the last answer counts.

    What a template puts behind the end token (ChatML a newline) is no part of an answer: no model
    writes it, and a reward is read from the last token.
    """
    trained = np.flatnonzero(encoded.mask)
    end = int(trained[-1]) + 1
    before = np.flatnonzero(~encoded.mask[:end])
    mask = np.zeros(end, dtype=np.bool_)
    mask[int(before[-1]) + 1 if before.size else 0 :] = True
    return TokenSequence(encoded.ids[:end], mask)


def _second_within(row: Row, context: int) -> Row:
    """Another prompt's answer behind a long prompt may be too long; its beginning serves as well.

    A prompt that fills the context by itself was left out, for its own answer did not fit either.
    """
    ids, mask = row.second.ids[:context], row.second.mask[:context]
    return replace(row, second=TokenSequence(ids, mask))


def _parts(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    part: list[Pair] = []
    for pair in pairs:
        part.append(pair)
        if len(part) == _ENCODED_AT_A_TIME:
            yield part
            part = []
    if part:
        yield part


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
