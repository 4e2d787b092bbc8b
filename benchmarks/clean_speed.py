"""How fast a preset cleans, rule by rule and as a command, and how much memory that takes.

    python benchmarks/clean_speed.py rules FOLDER [--rules webnovel]
    python benchmarks/clean_speed.py workers FOLDER [--rules webnovel] [--rounds 3]
    python benchmarks/clean_speed.py memory FOLDER [--gigabytes 3] [--scratch DIR] [--dedup WORDS]

`rules` applies the preset in this process to every document of FOLDER and prints megabytes (of
UTF-8, as they come in) per CPU second, for each rule and for all. `workers` runs `hanllama clean`
with one worker and with two, in turns, and compares wall clocks. `memory` writes a corpus of that
size by putting FOLDER's lines together anew (books of 1 to 5 MB, and records of a few lines),
cleans it, and watches the resident memory of each process. Every line then stands in the corpus a
hundred times and more; with `--numbered` every line begins with a number of its own. `--dedup`,
the last option, takes those of `hanllama dedup`, which then runs instead.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hanllama.corpus import ruleset
from hanllama.corpus.rules import Drop
from hanllama.reading import records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["rules", "workers", "memory"])
    parser.add_argument("folder")
    parser.add_argument("--rules", nargs="+", default=["webnovel"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--workers", type=int, default=2, help="of `memory`")
    parser.add_argument("--scratch", type=Path, help="where `memory` writes; needs twice the size")
    parser.add_argument("--numbered", action="store_true", help="`memory`: no line occurs twice")
    parser.add_argument("--dedup", nargs=argparse.REMAINDER, help="`memory`: words of dedup")
    options = parser.parse_args()
    {"rules": by_rule, "workers": by_workers, "memory": by_memory}[options.what](options)


# --- rules -------------------------------------------------------------------------------------


def by_rule(options: argparse.Namespace) -> None:
    rules = [(step.title, step.build()) for step in ruleset.expand(options.rules)]
    texts = [d.text for d in records.read([options.folder], records.Quarantine())]
    megabytes = sum(len(t.encode()) for t in texts) / 1e6
    for _, rule in rules:  # compile what is compiled
        rule("他把门推开，院子里一个人也没有。" * 20)
    rounds = [one_round(rules, texts) for _ in range(options.rounds)]
    seconds = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    whole = statistics.median(sum(r.values()) for r in rounds)
    print(f"{len(texts):,} documents, {megabytes:.1f} MB, median of {options.rounds} rounds\n")
    print("| rule | ms per MB | MB per CPU second |\n| --- | --- | --- |")
    for name, took in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| `{name}` | {1000 * took / megabytes:.1f} | {megabytes / took:,.1f} |")
    print(f"| all | {1000 * whole / megabytes:.1f} | {megabytes / whole:,.2f} |")


def one_round(rules: list, texts: list[str]) -> dict[str, float]:
    """CPU seconds by rule; each text goes through all rules as in the cleaner."""
    seconds: Counter[str] = Counter({name: 0.0 for name, _ in rules})
    for text in texts:
        for name, rule in rules:
            began = time.process_time()
            after = rule(text)
            seconds[name] += time.process_time() - began
            if isinstance(after, Drop):
                break
            text = after
    return dict(seconds)


# --- workers -----------------------------------------------------------------------------------


def by_workers(options: argparse.Namespace) -> None:
    megabytes = sum(p.stat().st_size for p in records.files([options.folder])) / 1e6
    wall: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        clean(options, options.folder, Path(scratch) / "warm", 2)  # compiled rules to disk
        for _ in range(options.rounds):
            for workers in wall:
                began, before = time.perf_counter(), children_cpu()
                clean(options, options.folder, Path(scratch) / "out", workers)
                wall[workers].append(time.perf_counter() - began)
                cpu[workers].append(children_cpu() - before)
                shutil.rmtree(Path(scratch) / "out")
    ratios = [one / two for one, two in zip(wall[1], wall[2], strict=True)]
    print(
        f"{megabytes:.1f} MB, {options.rounds} rounds in turns, start of the processes included\n"
    )
    print("| workers | wall seconds | CPU seconds | MB/s | MB per CPU second |")
    print("| --- | --- | --- | --- | --- |")
    for workers in wall:
        seconds, burnt = statistics.median(wall[workers]), statistics.median(cpu[workers])
        print(
            f"| {workers} | {seconds:.2f} | {burnt:.2f} | {megabytes / seconds:.2f}"
            f" | {megabytes / burnt:.2f} |"
        )
    print(
        f"\ntwo workers against one: {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f}-{max(ratios):.2f})"
    )


def clean(options: argparse.Namespace, source: str, output: Path, workers: int) -> None:
    subprocess.run(command(options, source, output, workers), check=True, capture_output=True)


def command(options: argparse.Namespace, source: str, output: Path, workers: int) -> list[str]:
    verb, further = "clean", ["--rules", *options.rules]
    if options.dedup is not None:
        verb, further = "dedup", options.dedup
    words = [sys.executable, "-m", "hanllama", verb, source, "--output", str(output)]
    return [*words, "--workers", str(workers), *further]


def children_cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


# --- memory ------------------------------------------------------------------------------------


def by_memory(options: argparse.Namespace) -> None:
    import psutil

    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        written = write_corpus(options.folder, source, options.gigabytes, options.numbered)
        print(f"{written / 1e9:.2f} GB written", flush=True)
        began = time.perf_counter()
        log = Path(scratch) / "log"
        with open(log, "wb") as out:
            running = subprocess.Popen(
                command(options, str(source), Path(scratch) / "out", options.workers),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        peaks: dict[int, int] = {}
        parent = psutil.Process(running.pid)
        while running.poll() is None:
            for process in family(parent):
                try:
                    size = process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                peaks[process.pid] = max(peaks.get(process.pid, 0), size)
            time.sleep(0.05)
        minutes = (time.perf_counter() - began) / 60
        if running.returncode:
            raise SystemExit(log.read_text(encoding="utf-8"))
        print(f"done in {minutes:.1f} minutes with {options.workers} workers; it said at last:")
        print(*log.read_text(encoding="utf-8").splitlines()[-8:], "", sep="\n")
        print("| process | peak resident MiB |\n| --- | --- |")
        print(f"| parent | {peaks.pop(running.pid) / 2**20:.0f} |")
        for number, size in enumerate(sorted(peaks.values(), reverse=True)[: options.workers], 1):
            print(f"| worker {number} | {size / 2**20:.0f} |")


def family(parent: object) -> list:
    import psutil

    try:
        return [parent, *parent.children(recursive=True)]  # type: ignore[attr-defined]
    except psutil.NoSuchProcess:
        return []


def write_corpus(folder: str, target: Path, gigabytes: float, numbered: bool) -> int:
    """Half of the bytes as txt books, half as JSON lines of short records; by seed."""
    rng = random.Random(0)
    lines = [
        line
        for document in records.read([folder], records.Quarantine())
        for line in document.text.split("\n")
        if line.strip()
    ]
    numbers = map("{} ".format, itertools.count()) if numbered else itertools.repeat("")

    def text(n_bytes: int) -> str:
        return "\n".join(map(str.__add__, numbers, some_lines(lines, rng, n_bytes)))

    wanted = gigabytes * 1e9
    written = number = 0
    while written < wanted / 2:
        data = text(rng.randrange(1_000_000, 5_000_000)).encode()
        (target / f"book-{number:05d}.txt").write_bytes(data)
        written += len(data)
        number += 1
    part = 0
    while written < wanted:
        with open(target / f"records-{part:03d}.jsonl", "wb") as out:
            while out.tell() < 64e6 and written + out.tell() < wanted:
                record = json.dumps({"text": text(rng.randrange(200, 6000))}, ensure_ascii=False)
                out.write(record.encode() + b"\n")
            written += out.tell()
        part += 1
    return written


def some_lines(lines: list[str], rng: random.Random, n_bytes: int) -> Iterator[str]:
    """Passages of a few lines from anywhere, until they hold so many bytes of Chinese."""
    size = 0
    while size < n_bytes:
        start = rng.randrange(len(lines))
        for line in lines[start : start + 5]:
            size += 3 * len(line) + 1
            yield line


if __name__ == "__main__":
    main()
