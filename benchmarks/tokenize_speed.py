"""Text to shards, end to end: `hanllama tokenize` beside a loop over HF `encode_batch_fast`.

Both sides read the same files, and write the same ids of the same documents (BOS, tokens, EOS) as
uint16. Ours does everything the command does (held-out split, copies refused, checksums, flushed
to disk); the loop only reads, encodes and writes. Each run is a process of its own, all of them
take turns, medians of the rounds count; imports are left out, but for pyarrow's of our side, which
belongs to the work (and would keep the second process from being forked); loading the tokenizer is
not. The ids of both sides are compared.

    python benchmarks/tokenize_speed.py TOKENIZER_FOLDER FILE_OR_FOLDER... [--rounds 3]

prints one markdown row for one thread and one for two, and what the second brought to each side.
`--ceiling` prints what a second process can bring on this machine: all jobs in one process (parse,
encode, hash for the held-out split) beside two processes with half of them each, which start
with everything loaded, exchange nothing and write nothing.

`--encoder` compares the encoder alone with sentencepiece's, on texts that are in memory.

(Not called `tokenize.py`: a script's folder comes first on Python's path, and every script here
would import that instead of the standard library's `tokenize`.)
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("hf", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ceiling", action="store_true", help="measure the machine instead")
    parser.add_argument("--encoder", action="store_true", help="beside sentencepiece, no files")
    parser.add_argument("--side", choices=["hf", "ours"], help="(internal) run one side")
    parser.add_argument("--out", type=Path, help="(internal) where that side writes")
    options = parser.parse_args()
    if options.side:
        run_side(options)
        return
    if options.ceiling or options.encoder:
        print(ceiling(options) if options.ceiling else encoder(options))
        return
    facts: dict[tuple[str, int], list[dict[str, float]]] = {}
    equal = True
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(options.rounds):
            for threads in options.threads:
                for side in SIDES:
                    fact = in_own_process(options, side, threads, Path(scratch))
                    facts.setdefault((side, threads), []).append(fact)
                equal = equal and same_ids(Path(scratch))
    show(facts, options.threads, equal)


def show(
    facts: dict[tuple[str, int], list[dict[str, float]]], threads: list[int], equal: bool
) -> None:
    """The medians of the rounds as a table."""

    def median(side: str, n: int, what: str) -> float:
        return statistics.median(fact[what] for fact in facts[side, n])

    print("| threads | HF MB/s | ours MB/s | wall ratio | CPU ratio | equal ids |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in threads:
        speeds = [facts["hf", n][0]["bytes"] / 1e6 / median(s, n, "seconds") for s in SIDES]
        ratios = [median("hf", n, w) / median("ours", n, w) for w in ("seconds", "cpu_seconds")]
        cells = " | ".join(f"{value:.2f}" for value in [*speeds, *ratios])
        print(f"| {n} | {cells} | {'yes' if equal else 'NO'} |")
    for n in threads[1:]:
        gains = [median(s, threads[0], "seconds") / median(s, n, "seconds") for s in SIDES]
        print(f"from {threads[0]} to {n}: the loop {gains[0]:.2f}, ours {gains[1]:.2f}")


def in_own_process(
    options: argparse.Namespace, side: str, threads: int, scratch: Path
) -> dict[str, float]:
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "BENCHMARK_WORKERS": str(threads),
        # A second process of ours imports the package: from byte code, as where it is installed.
        "PYTHONPYCACHEPREFIX": str(scratch / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    command = [sys.executable, __file__, str(options.tokenizer), *options.inputs]
    command += ["--side", side, "--out", str(scratch / side)]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def ceiling(options: argparse.Namespace) -> str:
    """Seconds of one process with all jobs, and of two with half of them each; medians."""
    from hanllama.batches import tokenize as tokenizing

    config = tokenizing.TokenizeConfig(
        inputs=tuple(options.inputs), tokenizer=str(options.tokenizer), output="(none)"
    )
    jobs = list(tokenizing._jobs(tokenizing._pieces(config.inputs)[0]))

    def seconds(processes: int) -> float:
        worker = tokenizing._Worker(config)  # whose table of segments is empty
        worker.load()
        began = time.perf_counter()
        children = []
        for first in range(processes):
            child = os.fork()
            if child == 0:
                for job in jobs[first::processes]:
                    worker((job, 64))
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        return time.perf_counter() - began

    rounds = [(seconds(1), seconds(2)) for _ in range(options.rounds)]
    one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
    return f"one process {one:.2f} s, two {two:.2f} s: ratio {one / two:.2f}"


def encoder(options: argparse.Namespace) -> str:
    """CPU seconds of the command's encoder and of sentencepiece, one thread each, in turns."""
    import sentencepiece

    from hanllama.tokenizer.load import load_tokenizer

    ours = load_tokenizer(options.tokenizer)
    theirs = sentencepiece.SentencePieceProcessor(
        model_file=str(options.tokenizer / "tokenizer.model")
    )
    taken = list(batches(itertools.islice(plain_texts(options.inputs), 2_000)))

    def timed(encode: Callable[[list[str]], Any]) -> tuple[float, list[Any]]:
        began = time.process_time()
        found = [encode(batch) for batch in taken]
        return time.process_time() - began, found

    seconds: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        one, flat = timed(ours.encode_raw)
        two, lists = timed(lambda batch: theirs.encode(batch, num_threads=1))
        seconds.append((one, two))
    equal = [i for ids, _ in flat for i in ids.tolist()] == [i for b in lists for t in b for i in t]
    ratios = sorted(two / one for one, two in seconds)
    return (
        f"{sum(map(len, taken)):,} texts: {statistics.median(ratios):.2f} times sentencepiece"
        f" ({ratios[0]:.2f}-{ratios[-1]:.2f}), equal ids: {'yes' if equal else 'NO'}"
    )


def run_side(options: argparse.Namespace) -> None:
    """One side in this process: prints its seconds as JSON."""
    if options.side == "ours":
        from hanllama.batches.tokenize import TokenizeConfig, tokenize
        from hanllama.tokenizer.model_proto import model_class

        model_class()  # protobuf's part of the imports
    else:
        import pyarrow  # noqa: F401 (reads .zst)
        import tokenizers

    began, cpu = time.perf_counter(), cpu_seconds()
    if options.side == "ours":
        workers = int(os.environ["BENCHMARK_WORKERS"])
        config = TokenizeConfig(
            inputs=tuple(options.inputs),
            tokenizer=str(options.tokenizer),
            output=str(options.out),
            workers=workers,
            force=True,
        )
        tokenize(config)
        n_bytes = 0
    else:
        tokenizer = tokenizers.Tokenizer.from_file(str(options.tokenizer / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        n_bytes = hf_loop(tokenizer, options.inputs, options.out)
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}
    print(json.dumps({**took, "bytes": n_bytes}))


def cpu_seconds() -> float:
    """Of this process and of the workers that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def hf_loop(tokenizer: object, inputs: list[str], out: Path) -> int:
    """The plain loop: batches of documents through `encode_batch_fast` into one uint16 file."""
    eos = np.array([tokenizer.token_to_id("</s>")], dtype=np.uint16)  # type: ignore[attr-defined]
    n_bytes = 0
    with open(out, "wb") as file:
        for texts in batches(plain_texts(inputs)):
            n_bytes += sum(len(t.encode()) for t in texts)
            for row in tokenizer.encode_batch_fast(texts):  # type: ignore[attr-defined]
                file.write(np.array(row.ids, dtype=np.uint16).tobytes())
                file.write(eos.tobytes())
        file.flush()
        os.fsync(file.fileno())
    return n_bytes


def batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """1,024 short documents or a few long ones: enough for both threads, and for one."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        if not text.strip():
            continue
        batch.append(text)
        characters += len(text)
        if len(batch) == 1024 or characters > 3_000_000:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def plain_texts(inputs: list[str]) -> Iterator[str]:
    """UTF-8 txt files and JSON lines, in the order in which `hanllama` reads them."""
    import pyarrow as pa

    from hanllama.reading import records

    for path in records.files(inputs):
        if path.suffix == ".txt":
            yield next(iter(records.read_file(path, records.Quarantine()))).text
            continue
        with pa.input_stream(str(path), compression="detect") as stream:
            for line in stream.read().split(b"\n"):
                if line:
                    yield json.loads(line)["text"]


def same_ids(scratch: Path) -> bool:
    """Whether the shards, put back into the order of the corpus, are the loop's file."""
    from hanllama.batches.shards import open_shards

    shards = open_shards(scratch / "ours")
    held = set(shards.manifest["holdout"]["documents"])
    if shards.manifest["holdout"]["tail_characters"]:
        raise SystemExit("this corpus is a single document; use a larger one")
    rows: dict[str, Iterator[np.ndarray]] = {}
    for name, split in shards.splits.items():
        starts = split.document_starts()
        rows[name] = iter(np.split(split.read(0, split.n_tokens), starts[1:-1]))
    n_documents = sum(s.n_documents for s in shards.splits.values())
    ours = [next(rows["heldout" if i in held else "train"]) for i in range(n_documents)]
    theirs = np.fromfile(scratch / "hf", dtype="<u2")
    return bool(np.array_equal(np.concatenate(ours), theirs))


if __name__ == "__main__":
    main()
