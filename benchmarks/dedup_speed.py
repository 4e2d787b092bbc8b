"""Duplicates: megabytes a CPU second, recall and precision, beside rensa and datasketch.

    python benchmarks/dedup_speed.py INPUT... [--megabytes 60] [--only ours rensa] [--workers 1]

The inputs are cut into documents of 600 to 1,400 characters; copies of some of them with 3 % and
10 % of their characters replaced are planted. All sides look for pairs among the same documents
with the same shingles (5 letters, Han, letters and digits) and the same threshold, on one thread,
each in a process of its own. The others have 512 hashes in 128 bands of 4; ours has the bands of
`hanllama dedup`, which were chosen so that its recall is not below theirs:

- ours: texts in, pairs out that were verified by their sketches;
- rensa: letters by a regular expression and shingles by slicing, both in Python since it takes
  tokens; then its matrix interface, the fastest that it has, and its one-shot duplicate flags,
  which verify nothing; `rensa-rho` is the same with its cheaper Rho sketch, `rensa-update` is the
  loop of its README (one `RMinHash` a document, `insert`, `query`);
- datasketch: the same shingles, `update_batch` with xxh32, `MinHashLSH` with the same bands.

Recall is the share of planted copies that were flagged; precision the share of flagged documents
that are planted, originals of planted ones, or have an exact Jaccard similarity of at least 0.3
with another document (60 of those that were not planted are judged). `exact` and `lines` hash texts
that are in memory and find what occurs more than once; `exact-command` and `lines-command` are the
whole command with `--workers`, from JSON lines on disk to a corpus folder, less its start-up: in a
round the same on a tiny input, the mean of one run right before and one right after. Start-up takes
longer than the work and scatters as much, so there are seven rounds, of which the median counts, of
CPU seconds and by the clock; the seconds of each go to standard error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SHINGLE, BANDS, ROWS, THRESHOLD = 5, 128, 4, 0.3
OUR_BANDS = 152
ROUNDS = 3  # of which the quickest counts; the slow sides have one
COMMAND_ROUNDS = 7  # of which the median counts
PLANTED = 500  # pairs of each rate
JUDGED = 60  # flagged documents that were not planted, for the precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--only", nargs="*", choices=list(SIDES), help="sides to run; else all")
    parser.add_argument("--workers", type=int, default=1, help="of the whole command")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options.side, Path(options.inputs[0]), options.workers)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "large.jsonl"
        size = plant(options.inputs, options.megabytes, path)
        print("| side | MB | CPU s | MB a CPU s | MB/s | recall 3 % | recall 10 % | precision |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for side in options.only or SIDES:
            show(side, size, in_own_process(side, path, options.workers))


def show(side: str, size: int, facts: dict[str, float]) -> None:
    rates = " | ".join(
        f"{facts[k]:.3f}" if k in facts else "–" for k in ("recall_3", "recall_10", "precision")
    )
    megabytes = size / 1e6
    clock = f"{megabytes / facts['clock']:.1f}" if "clock" in facts else "–"
    print(
        f"| {side} | {megabytes:.1f} | {facts['seconds']:.2f}"
        f" | {megabytes / facts['seconds']:.1f} | {clock} | {rates} |",
        flush=True,
    )


def in_own_process(side: str, path: Path, workers: int) -> dict[str, float]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, __file__, str(path), "--side", side, "--workers", str(workers)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **single}
    )
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


# --- the documents -------------------------------------------------------------------------------


def plant(inputs: list[str], megabytes: float, path: Path) -> int:
    """Write documents with planted copies as JSON lines; returns their bytes of text."""
    rng = random.Random(0)
    texts = list(passages(inputs, megabytes * 1e6, rng))
    alphabet = "".join(texts[: len(texts) // 50 + 1])
    chosen = rng.sample(range(len(texts)), 2 * PLANTED)
    entries = [{"id": f"text-{i}", "text": text} for i, text in enumerate(texts)]
    for place, number in enumerate(chosen):
        rate = 3 if place < PLANTED else 10
        text = "".join(
            rng.choice(alphabet) if 100 * rng.random() < rate else c for c in texts[number]
        )
        entries.append({"id": f"copy-{rate}-{number}", "text": text})
    rng.shuffle(entries)
    with open(path, "w", encoding="utf-8") as out:
        for entry in entries:
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return sum(len(entry["text"].encode()) for entry in entries)


def passages(inputs: list[str], size: float, rng: random.Random) -> Iterator[str]:
    from hanllama.reading import records

    held = ""
    with records.Quarantine() as quarantine:
        for document in records.read(inputs, quarantine):
            held += document.text + "\n"
            while len(held) > 1400:
                length = rng.randint(600, 1400)
                if len(letters(held[:length])) >= 300:  # not a table of dashes
                    size -= len(held[:length].encode())
                    yield held[:length]
                held = held[length:]
                if size <= 0:
                    return


# --- the sides: in a process of their own --------------------------------------------------------


def run_side(side: str, path: Path, workers: int) -> dict[str, float]:
    if side.endswith("-command"):
        return command(side, path, workers)
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    texts = [entry["text"] for entry in entries]
    work = SIDES[side]
    assert work is not None
    work(texts[:50])  # compiled, imported
    seconds = float("inf")
    for _ in range(1 if side in SLOW else ROUNDS):
        began = time.process_time()
        flagged = work(texts)
        seconds = min(seconds, time.process_time() - began)
    if side in ("exact", "lines"):
        return {"seconds": seconds}
    return {"seconds": seconds, **rates([entry["id"] for entry in entries], texts, flagged)}


def rates(ids: list[str], texts: list[str], flagged: set[int]) -> dict[str, float]:
    """Recall for each rate of substitutions, and precision, by documents."""
    place = {identity: number for number, identity in enumerate(ids)}
    copies = {identity: number for identity, number in place.items() if identity[0] == "c"}
    involved = set(copies.values()) | {place[f"text-{i.split('-')[2]}"] for i in copies}
    found = {}
    for rate in (3, 10):
        here = [n for i, n in copies.items() if i.startswith(f"copy-{rate}-")]
        found[f"recall_{rate}"] = sum(n in flagged for n in here) / len(here)
    others = flagged - involved
    judged = set(random.Random(0).sample(sorted(others), min(JUDGED, len(others))))
    wrong = len(others) * (1 - truly_near(texts, judged) / max(len(judged), 1))
    found["precision"] = 1 - wrong / max(len(flagged), 1)
    return found


def truly_near(texts: list[str], numbers: set[int]) -> int:
    """How many of some documents have an exact Jaccard similarity of 0.3 with any other one."""
    from collections import Counter, defaultdict

    sets = {n: set(shingles(letters(texts[n]))) for n in numbers}
    holders: dict[str, list[int]] = defaultdict(list)
    for n, found in sets.items():
        for shingle in found:
            holders[shingle].append(n)
    near = set()
    for m, text in enumerate(texts):
        own = set(shingles(letters(text)))
        shared = Counter(n for s in own if s in holders for n in holders[s])
        near |= {n for n, c in shared.items() if m != n and c >= 0.3 * len(own | sets[n])}
    return len(near)


def letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def shingles(text: str) -> list[str]:
    return [text[i : i + SHINGLE] for i in range(len(text) - SHINGLE + 1)]


def ours(texts: list[str]) -> set[int]:
    import numpy as np

    from hanllama.corpus.dedup import near_loops as loops
    from hanllama.corpus.dedup.near import LARGEST_GROUP, paired, unpacked
    from hanllama.text.letters import folded

    keys, all_sketches = [], []
    for at in range(0, len(texts), 1000):
        encoded = [text.encode() for text in texts[at : at + 1000]]
        utf8 = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        ends = np.cumsum([len(text) for text in encoded])
        characters = np.array([len(text) for text in texts[at : at + 1000]])
        n = len(encoded)
        sketches = np.zeros((n, OUR_BANDS * ROWS), dtype=np.uint16)
        rows, _ = loops.survey(
            utf8, ends, characters, folded(), SHINGLE, SHINGLE, 0, 1, 4000,
            np.zeros((n, 5), dtype=np.uint32), sketches, np.zeros(0, dtype=np.uint64),
            np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint32),
        )  # fmt: skip
        assert rows == n
        band = np.empty((n, OUR_BANDS), dtype=np.uint64)
        loops.band_keys(sketches, ROWS, band)
        numbers = np.repeat(np.arange(at, at + n, dtype=np.uint64), OUR_BANDS)
        keys.append((band.ravel() & np.uint64(0xFFFFFFFF00000000)) | numbers)
        all_sketches.append(sketches)
    entries = np.concatenate(keys)
    entries.sort()
    upper = entries & np.uint64(0xFFFFFFFF00000000)
    pairs, _ = paired(upper, entries.astype(np.uint32), LARGEST_GROUP, star=True)
    pairs = np.unique(pairs)
    left, right = unpacked(pairs)
    shares = np.empty(len(pairs), dtype=np.float32)
    loops.equal_shares(np.concatenate(all_sketches), left, right, shares)
    near = shares >= THRESHOLD
    return set(left[near].tolist()) | set(right[near].tolist())


def rensa(texts: list[str], *, rho: bool = False) -> set[int]:
    from rensa import RMinHash, RMinHashLSH

    tokens = [shingles(letters(text)) for text in texts]
    make = (
        RMinHash.digest_matrix_from_token_sets_rho
        if rho
        else RMinHash.digest_matrix_from_token_sets
    )
    matrix = make(tokens, BANDS * ROWS, 42)
    index = RMinHashLSH(THRESHOLD, BANDS * ROWS, BANDS)
    flags = index.query_duplicate_flags_matrix_one_shot(matrix)
    return {number for number, flag in enumerate(flags) if flag}


def rensa_rho(texts: list[str]) -> set[int]:
    return rensa(texts, rho=True)


def rensa_update(texts: list[str]) -> set[int]:
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(THRESHOLD, BANDS * ROWS, BANDS)
    sketches = []
    for number, text in enumerate(texts):
        sketch = RMinHash(BANDS * ROWS, 42)
        sketch.update(shingles(letters(text)))
        index.insert(number, sketch)
        sketches.append(sketch)
    flagged = set()
    for number, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if other != number and sketch.jaccard(sketches[other]) >= THRESHOLD:
                flagged |= {number, other}
    return flagged


def datasketch(texts: list[str]) -> set[int]:
    import xxhash
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    sketches = []
    for number, text in enumerate(texts):
        sketch = MinHash(BANDS * ROWS, hashfunc=xxhash.xxh32_intdigest)
        sketch.update_batch([shingle.encode() for shingle in shingles(letters(text))])
        index.insert(number, sketch)
        sketches.append(sketch)
    flagged = set()
    for number, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if other != number and sketch.jaccard(sketches[other]) >= THRESHOLD:
                flagged |= {number, other}
    return flagged


def exact(texts: list[str]) -> set[int]:
    import numpy as np

    from hanllama.corpus.dedup.scan import digests

    encoded = [text.encode() for text in texts]
    utf8 = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    found = digests(utf8, np.cumsum([len(text) for text in encoded]))[:, 0]
    _, first = np.unique(found, return_index=True)
    return set(range(len(texts))) - set(first.tolist())


def lines(texts: list[str]) -> set[int]:
    import numpy as np

    from hanllama.corpus.dedup.scan import lines_of

    hashes = []
    for at in range(0, len(texts), 1000):
        encoded = [text.encode() for text in texts[at : at + 1000]]
        ends = np.cumsum([len(text) for text in encoded])
        hashes.append(lines_of(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends, 20)[0])
    _, counts = np.unique(np.concatenate(hashes), return_counts=True)
    return set(np.flatnonzero(counts > 1).tolist())


def command(side: str, path: Path, workers: int) -> dict[str, float]:
    """CPU seconds and seconds by the clock, reading JSON and writing the corpus included."""
    options = ["--method", "none", "--containment", "0", "--workers", str(workers)]
    if side == "lines-command":
        options += ["--exact-lines", "--no-exact-documents"]

    def seconds(source: Path) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as scratch:
            words = ["dedup", str(source), "--output", f"{scratch}/out", *options]
            before, began = os.times(), time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "hanllama", *words],
                check=True, capture_output=True,
            )  # fmt: skip
            after, clock = os.times(), time.perf_counter() - began
        return (
            after.children_user + after.children_system
            - before.children_user - before.children_system
        ), clock  # fmt: skip

    tiny = path.with_name("tiny.jsonl")
    tiny.write_text('{"text": "一篇短文。"}\n', encoding="utf-8")
    seconds(tiny)  # compiled once, kept on disk
    starts, works = [seconds(tiny)], []
    for _ in range(COMMAND_ROUNDS):
        works.append(seconds(path))
        starts.append(seconds(tiny))
    spent = [
        [work[i] - (before[i] + after[i]) / 2 for i in (0, 1)]
        for work, (before, after) in zip(works, itertools.pairwise(starts), strict=True)
    ]
    cpu, clock = (statistics.median(of_round[i] for of_round in spent) for i in (0, 1))
    rounds = " ".join(f"{cpu_seconds:.2f}" for cpu_seconds, _ in spent)
    start = statistics.median(cpu_seconds for cpu_seconds, _ in starts)
    print(f"{side}: CPU s of each round {rounds}; start-up {start:.2f}", file=sys.stderr)
    return {"seconds": cpu, "clock": clock}


SIDES: dict[str, Callable[[list[str]], set[int]] | None] = {
    "ours": ours,
    "rensa": rensa,
    "rensa-rho": rensa_rho,
    "rensa-update": rensa_update,
    "datasketch": datasketch,
    "exact": exact,
    "lines": lines,
    "exact-command": None,
    "lines-command": None,
}
SLOW = ("rensa-update", "datasketch")

if __name__ == "__main__":
    main()
