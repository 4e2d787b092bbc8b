"""Training speed and memory beside a plain transformers loop; loop overhead beside the bare step.

    python benchmarks/train.py [--batch 2] [--threads 1] [--rounds 7] [--json PATH]
    python benchmarks/train.py --overhead [--steps 12]

Each contender runs in a process of its own, one after the other in every round, so that a slow
minute of the machine hits all of them; the figures are medians over the rounds. The task is the
same: the 24M preset (288 wide, 6 layers, vocabulary 64,793, tied), rows of 512 random tokens, fp32,
fused AdamW, gradient clipping at 1.0. With one thread the clock counts processor seconds.

    transformers             LlamaForCausalLM(input_ids, labels=…).loss.backward(), its own loss
    transformers + settings  the same, with oneDNN and the heap kept as ours has them
    ours - settings          hanllama's training loop whole, without these two settings
    ours                     packing, chunked loss, norm, checks, metrics: as `hanllama pretrain`
    bare                     hanllama's model and loss, and the optimizer, without the loop

The loop's overhead is a few per cent of a step, less than a shared machine's mood changes between
two processes. So it is measured in one: before each step of the loop a bare step on a twin model,
and the overhead is the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BATCH, CONTEXT, VOCABULARY = 2, 512, 64793
PRESET = "tiny-llama2-24m"
clock = time.process_time


def transformers_step(steps: int) -> list[float]:
    """Seconds of each step of the plain loop that most people write."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from hanllama.model.device import fast_products
    from hanllama.model.presets import preset

    shape = preset(PRESET, vocab_size=VOCABULARY).to_hf()
    model = LlamaForCausalLM(LlamaConfig(**shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, VOCABULARY, (BATCH, CONTEXT))
    times = []
    for _ in range(steps):
        started = clock()
        with fast_products(torch.device("cpu")):
            loss = model(input_ids=tokens, labels=tokens).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        times.append(clock() - started)
    return times


def bare_step(compile: bool) -> Callable[[], float]:
    """A step of our model, loss and optimizer alone, which returns its seconds."""
    import torch

    from hanllama.model.device import fast_products
    from hanllama.model.llama import Llama
    from hanllama.model.losses import cross_entropy_sum
    from hanllama.model.presets import preset
    from hanllama.train.config import OptimConfig
    from hanllama.train.loop import gradient_norm
    from hanllama.train.optim import build_optimizer
    from hanllama.train.pretrain import Hidden

    model = Llama(preset(PRESET, vocab_size=VOCABULARY))
    hidden = Hidden(model, compile)
    optimizer = build_optimizer(model, OptimConfig())
    parameters = list(model.parameters())
    tokens = torch.randint(0, VOCABULARY, (BATCH, CONTEXT))
    labels = tokens.roll(-1, 1).reshape(-1)

    def step() -> float:
        started = clock()
        with fast_products(torch.device("cpu")):
            states = hidden(tokens, None, None).reshape(len(labels), -1)
            loss = cross_entropy_sum(states, model.output_weight(), labels)
            optimizer.zero_grad()
            (loss / len(labels)).backward()
            float(gradient_norm(parameters))
            optimizer.step()
        return clock() - started

    return step


def our_step(steps: int, compile: bool, before: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds of each step of `Loop` on a run folder, as `hanllama pretrain` drives it.

    `before` runs before each step; its time is not counted.
    """
    import numpy as np

    from hanllama.batches.mix import PackedRows, TokenSource
    from hanllama.model.card import ModelCard
    from hanllama.model.llama import Llama
    from hanllama.model.presets import preset
    from hanllama.train.config import LoopConfig, OptimConfig, PretrainConfig
    from hanllama.train.loop import Loop
    from hanllama.train.parallel import World
    from hanllama.train.pretrain import Pretrain
    from hanllama.train.run import RunFolder
    from hanllama.train.speed import flops_per_token

    class Random(TokenSource):
        """One long document of random tokens."""

        def __init__(self) -> None:
            count = BATCH * CONTEXT * (steps + 1) + 1
            self._tokens = np.random.default_rng(0).integers(0, VOCABULARY, count)

        def document_starts(self) -> np.ndarray:
            return np.array([0, len(self._tokens)])

        def copy_into(self, out, positions, starts, lengths) -> None:  # type: ignore[no-untyped-def]
            for at, start, n in zip(positions, starts, lengths, strict=True):
                out[at : at + n] = self._tokens[start : start + n]

    begun: list[float] = []
    ended: list[float] = []

    class Timed(Loop):
        """The loop; between two steps lies everything it does."""

        def _one_step(self, step: int):  # type: ignore[no-untyped-def]
            if begun:
                ended.append(clock())
            before()
            begun.append(clock())
            return super()._one_step(step)

        def _save(self) -> None:
            ended.append(clock())

        def _publish_result(self, run: RunFolder) -> None:
            pass

    loop = LoopConfig(
        max_steps=steps,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        log_every=1,
        trackers=(),
        compile=compile,
        device="cpu",
    )
    model = Llama(preset(PRESET, vocab_size=VOCABULARY))
    objective = Pretrain(
        model,
        PackedRows(Random(), CONTEXT, 0, 0),
        None,
        np.ones(VOCABULARY),
        loop,
        World(),
        {},
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run", PretrainConfig(data="", output="", loop=loop))
        Timed(
            objective,
            OptimConfig(),
            loop,
            run,
            World(),
            tokenizer_folder=Path(folder),
            card=ModelCard(),
            checkpoint=None,
            sampler=None,
            flops_per_token=flops_per_token(model.config, CONTEXT),
        ).train()
    return [b - a for a, b in zip(begun, ended, strict=True)]


def overhead(steps: int, compile: bool) -> None:
    """Print what the loop adds to a bare step, from neighbouring steps in one process."""
    bare_times: list[float] = []
    bare = bare_step(compile)
    ours = our_step(steps, compile, lambda: bare_times.append(bare()))
    ratios = [a / b for a, b in zip(ours, bare_times, strict=True)][1:]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"overhead of the loop: {100 * (middle - 1):.1f} % (quartiles {100 * (low - 1):.1f} and"
        f" {100 * (high - 1):.1f} %) over {len(ratios)} pairs of steps"
    )


def settle(contender: str, batch: int, threads: int) -> None:
    """Set what every function here reads, and the two settings or not."""
    import torch

    from hanllama.base import allocator
    from hanllama.model import device

    global BATCH, clock
    BATCH, clock = batch, time.process_time if threads == 1 else time.perf_counter
    torch.set_num_threads(threads)
    if contender in ("transformers", "ours - settings"):
        device.onednn = lambda: (False, "switched off")  # type: ignore[assignment]
        allocator.keep_heap = lambda: None
    else:
        allocator.keep_heap()


CONTENDERS: dict[str, Callable[[int], list[float]]] = {
    "transformers": transformers_step,
    "transformers + settings": transformers_step,
    "bare": lambda n: [step() for step in [bare_step(False)] for _ in range(n)],
    "ours - settings": lambda n: our_step(n, False),
    "ours": lambda n: our_step(n, False),
    "ours + compile": lambda n: our_step(n, True),
}


def measure(contender: str, words: list[str]) -> dict[str, float]:
    """One round of one contender in a fresh process: median step and peak memory."""
    command = [sys.executable, __file__, "--contender", contender, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ratios(rounds: list[dict[str, dict[str, float]]], one: str, other: str, what: str) -> list:
    """Of each round how many times of `other` is `one`."""
    return [r[one][what] / r[other][what] for r in rounds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also time ours with torch.compile")
    parser.add_argument("--overhead", action="store_true", help="the loop beside the bare step")
    parser.add_argument("--json", type=Path, help="a file of results that rows are added to")
    parser.add_argument("--machine", default="", help="what the rows say of the machine")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender or options.overhead:
        settle(options.contender or "ours", options.batch, options.threads)
    if options.overhead:
        overhead(options.steps, options.compile)
        return
    if options.contender:
        times = CONTENDERS[options.contender](options.steps)[1:]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": statistics.median(times), "gib": peak}))
        return
    names = [n for n in CONTENDERS if options.compile or "compile" not in n]
    size = ["--steps", str(options.steps), "--batch", str(options.batch)]
    words = [*size, "--threads", str(options.threads)]
    rounds = [{n: measure(n, words) for n in names} for _ in range(options.rounds)]
    print("| contender | seconds | speed | pairwise min-max | peak MiB | peak memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        speed = ratios(rounds, "transformers", name, "seconds")
        memory = ratios(rounds, name, "transformers", "gib")
        seconds, gib = (statistics.median(r[name][k] for r in rounds) for k in ("seconds", "gib"))
        print(
            f"| {name} | {seconds:.2f} | {statistics.median(speed):.2f} |"
            f" {min(speed):.2f}-{max(speed):.2f} | {gib * 1024:,.0f} |"
            f" {statistics.median(memory):.2f} |"
        )
    if options.json:
        add_rows(options, rounds, [*size, *words[-2:], "--rounds", str(options.rounds)])


def add_rows(
    options: argparse.Namespace, rounds: list[dict[str, dict[str, float]]], words: list[str]
) -> None:
    """Put the figures into a file of results, in the place of those of the same question."""
    threads = "one thread" if options.threads == 1 else f"{options.threads} threads"
    task = f"24M, {options.batch} x {CONTEXT}, fp32, {threads}"
    questions = {
        f"training, {task}, against transformers as it is": ("transformers", "ours", "1.3"),
        f"training, {task}, against transformers with the same settings": (
            *("transformers + settings", "ours"),
            "",
        ),
        f"training, {task}, against ours without the settings": ("ours - settings", "ours", ""),
    }
    rows = []
    for question, (other, one, aim) in questions.items():
        speed = ratios(rounds, other, one, "seconds")
        memory = statistics.median(ratios(rounds, one, other, "gib"))
        rows.append(
            {
                "question": question,
                "aim": aim,
                "figure": f"{statistics.median(speed):.2f} times, {memory:.2f} of the memory",
                "spread": f"{min(speed):.2f}-{max(speed):.2f}",
                "date": datetime.date.today().isoformat(),
                "machine": options.machine,
                "command": " ".join(["python benchmarks/train.py", *words]),
            }
        )
    kept = []
    with contextlib.suppress(FileNotFoundError):
        kept = [r for r in json.loads(options.json.read_text()) if r["question"] not in questions]
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in [*kept, *rows])
    options.json.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
