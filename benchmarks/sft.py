"""SFT beside TRL's SFTTrainer: useful tokens a second on the same conversations.

    python benchmarks/sft.py alpaca_zh_hikariming.jsonl TOKENIZER [--rounds 6] [--budget 1024]

The 24M preset (288 wide, 6 layers, tied), the vocabulary of the tokenizer, fp32, fused AdamW,
clipping at 1.0, no gradient checkpointing, two threads, one process. Every step has the same budget
of real (not padding) tokens; the contenders take turns, a step each, so that a slow minute of the
machine hits all of them; the first turn warms up and is not counted.

    trl           SFTTrainer as it is: a row a conversation, padded to the longest of the batch
    trl, packing  packing=True (best fit; attention kept apart by position ids)
    ours          packed rows of 512, attention kept apart, the head on trained tokens only

All three train on the same tokens with the same labels: TRL is given ids and the assistant's mask.
Its `training_step` is called directly, without the bookkeeping of `Trainer.train`; ours is the
objective with norm, clipping and update as the loop does them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hanllama.batches.mix import PackedRows, TokenSource
from hanllama.model.llama import Llama
from hanllama.model.presets import preset
from hanllama.talks.conversations import ConversationReader
from hanllama.tokenizer.chat import ChatTemplate, Encoded
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.config import LoopConfig, OptimConfig
from hanllama.train.loop import gradient_norm
from hanllama.train.optim import build_optimizer
from hanllama.train.parallel import World
from hanllama.train.sft.data import fit
from hanllama.train.sft.sft import Sft

CONTEXT = 512
Clock = Callable[[], float]
Turn = Callable[[], tuple[float, int]]  # one step: seconds, real tokens


class Talks(TokenSource):
    """Encoded conversations as a split."""

    masked = True  # type: ignore[assignment]

    def __init__(self, talks: list[Encoded]) -> None:
        self._ids = np.concatenate([t.ids for t in talks])
        self._mask = np.concatenate([t.mask for t in talks])
        self._starts = np.cumsum([0, *(t.ids.size for t in talks)])

    def document_starts(self) -> np.ndarray:
        return self._starts

    def trained_at(self, tokens: np.ndarray) -> np.ndarray:
        return self._mask[tokens]

    def copy_into(self, out: Any, positions: Any, starts: Any, lengths: Any) -> None:
        for at, start, n in zip(positions, starts, lengths, strict=True):
            out[at : at + n] = self._ids[start : start + n]


def ours(talks: list[Encoded], model: Llama, rows_a_step: int, clock: Clock) -> Turn:
    """A step of the objective, with what the loop does around it."""
    rows = PackedRows(Talks(talks), CONTEXT, 0, 0)
    objective = Sft(
        model,
        rows,
        None,
        np.ones(model.config.vocab_size),
        LoopConfig(batch_size=rows_a_step, micro_batch_size=rows_a_step, device="cpu"),
        World(),
        {},
    )
    optimizer = build_optimizer(model, OptimConfig(learning_rate=1e-4))
    parameters = list(model.parameters())
    model.train()
    steps = iter(range(10**6))

    def turn() -> tuple[float, int]:
        started = clock()
        micros = objective.prepare(next(steps))
        weight = sum(m.weight for m in micros)
        optimizer.zero_grad()
        tokens = 0
        for micro in micros:
            (objective.loss(micro) / weight).backward()  # type: ignore[no-untyped-call]
            documents = micro.data[3]
            tokens += int((documents >= 0).sum())
        norm = float(gradient_norm(parameters))
        if norm > 1.0:
            torch._foreach_mul_([p.grad for p in parameters], 1.0 / norm)
        optimizer.step()
        return clock() - started, tokens

    return turn


def theirs(
    talks: list[Encoded],
    folder: Path,
    batch_size: int,
    scratch: str,
    clock: Clock,
    **options: Any,
) -> Turn:
    """A step of TRL's trainer on the same conversations."""
    import datasets
    import transformers
    import trl

    settings = trl.SFTConfig(
        output_dir=scratch,
        per_device_train_batch_size=batch_size,
        max_length=CONTEXT + 1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        learning_rate=1e-4,
        report_to=[],
        **options,
    )
    rows = [
        {"input_ids": t.ids.tolist(), "assistant_masks": t.mask.astype(int).tolist()} for t in talks
    ]
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=settings,
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        train_dataset=datasets.Dataset.from_list(rows),
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # as `train` sets it
    model, optimizer = trainer.model, trainer.optimizer

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from trainer.get_train_dataloader()

    stream = batches()
    model.train()

    def turn() -> tuple[float, int]:
        started = clock()
        batch = next(stream)
        mask = batch.get("attention_mask")
        tokens = batch["input_ids"].numel() if mask is None else int(mask.sum())
        trainer.training_step(model, batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return clock() - started, tokens

    return turn


def conversations(data: str, template: ChatTemplate, count: int) -> list[Encoded]:
    """A drawn part of the file's conversations, those that fit a row."""
    found = list(ConversationReader([data]))
    part = random.Random(0).sample(found, min(count, len(found)))
    fitted = fit([c.messages for c in part], template, CONTEXT + 1)
    return [f.encoded for f in fitted if f.encoded is not None and not f.dropped]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("tokenizer", help="a tokenizer folder (hanllama tokenizer import)")
    parser.add_argument("--template", default="vicuna")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--budget", type=int, default=1024, help="real tokens of a step")
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor seconds of this process, for a machine that others use (--threads 1)",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    tokenizer = load_tokenizer(options.tokenizer)
    talks = conversations(
        options.data, ChatTemplate(tokenizer, options.template), options.conversations
    )
    mean = statistics.fmean(t.ids.size for t in talks)
    trained = sum(int(t.mask.sum()) for t in talks) / sum(t.ids.size for t in talks)
    shape = preset(
        "tiny-llama2-24m",
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
    )
    model = Llama(shape, torch.Generator().manual_seed(0))
    print(
        f"{len(talks)} conversations of {mean:.0f} tokens, {100 * trained:.0f} % trained;"
        f" {shape.parameter_count() / 1e6:.1f}M parameters, {options.budget} tokens a step"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "base"
        folder.mkdir()
        from hanllama.model.card import ModelCard
        from hanllama.model.checkpoint import save_model

        save_model(folder, model, Path(options.tokenizer), ModelCard())
        rows = max(1, round(options.budget / CONTEXT))
        turns = {
            "trl": theirs(talks, folder, max(1, round(options.budget / mean)), scratch, clock),
            "trl, packing": theirs(talks, folder, rows, scratch, clock, packing=True),
            "ours": ours(talks, model, rows, clock),
        }
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        tokens: dict[str, int] = dict.fromkeys(turns, 0)
        ratios: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(options.rounds + 1):
            rates = {}
            for name, turn in turns.items():
                spent, seen = turn()
                rates[name] = seen / spent
                if number:
                    seconds[name].append(spent)
                    tokens[name] += seen
            if number:
                for name in turns:
                    ratios[name].append(rates["ours"] / rates[name])
            print(number, {name: round(rate) for name, rate in rates.items()}, file=sys.stderr)
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles(ratios[name], n=4)
        print(
            f"{name:<13} {tokens[name] / sum(times):8,.0f} useful tokens/s"
            f" ({tokens[name] // len(times):,} a step); ours is {middle:.2f} times it"
            f" (quartiles {low:.2f} and {high:.2f})"
        )


if __name__ == "__main__":
    main()
