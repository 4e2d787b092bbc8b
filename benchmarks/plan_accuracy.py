"""What `hanllama plan` foretells beside what `hanllama pretrain` then takes: time and memory.

Three runs of different shapes, each planned and then really run for some steps, in processes of
their own. The text is generated and the tokenizer trained on it by the real commands; ids up to
the wanted vocabulary are drawn at random, so that any vocabulary can be asked for. Time is the
median step times the steps (both runs share one noisy machine), memory the peak of the process as
the kernel counted it.

    python benchmarks/plan_accuracy.py [--steps 12] [--threads 2] [--only 24m]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hanllama.base import fs
from hanllama.batches.shards import TOKENIZER, ShardWriter, write_manifest
from hanllama.tokenizer.load import copy_tokenizer, load_tokenizer

# Forgotten: the first steps, in which memory is touched for the first time.
_WARM_UP = 2


@dataclass(frozen=True)
class Case:
    """One configuration: a name, the vocabulary, and what its YAML says."""

    name: str
    vocab_size: int
    context: int
    micro: int
    batch: int
    model: dict[str, Any]
    checkpointing: bool = False


CASES = (
    Case("24m", 64793, 512, 8, 8, {"preset": "tiny-llama2-24m"}),
    Case(
        "10m",
        8000,
        256,
        16,
        32,
        {
            "hidden_size": 320,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 5,
        },
    ),
    Case("58m", 64793, 512, 4, 4, {"preset": "tiny-llama2-58m"}, checkpointing=True),
)


def main() -> None:
    """Plan and run each case; print one row of a markdown table for each."""
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    print(
        "| case | parameters | forecast s/step | measured s/step | ratio | forecast GiB | measured"
        " GiB | ratio |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="plan-accuracy-") as name:
        work = Path(name)
        tokenizer = _tokenizer(work)
        for case in CASES:
            if not arguments.only or case.name == arguments.only:
                print(_row(case, work, tokenizer, arguments.steps), flush=True)


def _row(case: Case, work: Path, tokenizer: Path, steps: int) -> str:
    data = _shards(work / f"{case.name}-data", tokenizer, case, steps)
    config = work / f"{case.name}.yaml"
    output = work / f"{case.name}-run"
    fs.write_json(  # JSON is YAML
        config,
        {
            "data": str(data),
            "output": str(output),
            "context": case.context,
            "model": case.model,
            "loop": {
                "max_steps": steps,
                "batch_size": case.batch,
                "micro_batch_size": case.micro,
                "gradient_checkpointing": case.checkpointing,
                "device": "cpu",
                "log_every": 1,
                "eval_rows": case.micro,
                "sample_tokens": 0,
            },
        },
    )
    plan = json.loads(_run("plan", str(config), "--devices", "here", "--json")[0])["plans"][0]
    here = plan["devices"][0]
    _, peak = _run("pretrain", "--config", str(config))
    measured = _median_step(output / "metrics.jsonl")
    forecast, memory = here["training_seconds"] / steps, here["memory"]["total"]
    return (
        f"| {case.name} | {plan['parameters'] / 1e6:.1f}M | {forecast:.3f} | {measured:.3f}"
        f" | {forecast / measured:.2f} | {memory / 2**30:.2f} | {peak / 2**30:.2f}"
        f" | {memory / peak:.2f} |"
    )


def _run(*words: str) -> tuple[str, int]:
    """A command in a process of its own: its stdout, and the most memory it held."""
    program = "import sys; from hanllama.cli import main; sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.PIPE)
    assert child.stdout is not None
    said = child.stdout.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"hanllama {' '.join(words)} failed")
    kib = 1 if sys.platform == "darwin" else 1024
    return said, usage.ru_maxrss * kib


def _median_step(metrics: Path) -> float:
    """Seconds of a step, from the average speed that each line gives for all steps before it."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [m for m in lines if "tokens_per_second" in m]
    ends = [m["tokens"] / m["tokens_per_second"] for m in steps]
    return statistics.median(np.diff(ends)[_WARM_UP - 1 :])


def _tokenizer(work: Path) -> Path:
    _run("corpus", "stories", "--output", str(work / "text"), "--count", "1000")
    folder = work / "tokenizer"
    _run("tokenizer", "train", str(work / "text"), "--output", str(folder), "--vocab-size", "1500")
    return folder


def _shards(folder: Path, tokenizer: Path, case: Case, steps: int) -> Path:
    """Random documents of uneven length, enough that no row comes twice."""
    tokens = load_tokenizer(tokenizer)
    draw = np.random.default_rng(0)
    wanted = {"train": (steps + 1) * case.batch * case.context, "heldout": 64 * case.context}
    with fs.publish(folder) as beside:
        writers = {name: ShardWriter(beside, name, case.vocab_size) for name in wanted}
        for name, writer in writers.items():
            while writer.n_tokens < wanted[name]:
                length = int(draw.integers(20, 2 * case.context))
                ids = draw.integers(3, case.vocab_size, length)
                ids[-1] = tokens.eos_id
                writer.add(ids, 3 * length)
        write_manifest(
            beside,
            writers,
            vocab_size=case.vocab_size,
            tokenizer_hash=tokens.hash,
            token_bytes=np.full(case.vocab_size, 3, np.int32),
            facts={},
        )
        (beside / TOKENIZER).mkdir()
        copy_tokenizer(tokenizer, beside / TOKENIZER)
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="plan beside real runs")
    parser.add_argument("--steps", type=int, default=12, help="steps of each run, up to 50")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="one case by name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
