"""Noise put into clean novels, and what the rules of a preset take of it and of the novels.

    python benchmarks/planted_noise.py NOVELS_DIR [--rules webnovel] [--json result.json]

1. The rules clean the novels as they are. What they take is reported apart: the novels are not
   wholly clean, and what is taken there has to be looked at by eye (`--show`).
2. Noise of many kinds (`noise_templates.py`) is put into the result, between the lines and into
   them, and the rules are applied one by one. Each character remembers whether it was planted, so
   every loss is known to be noise or novel: precision of a rule is the share of planted characters
   in what it took, recall of a kind is the share of its plants that went.
3. Every novel is hard-wrapped, and the line ends that came back are counted.
4. Chapters of the novels and documents that are nothing but noise are judged: which are dropped.

White space is not counted anywhere. Plants count as gone when at least 90 % of their characters
are, runs of one character when half of them are, since these are shortened. Full-width characters
that a rule rewrote are not lost.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import noise_templates as noise
import numpy as np
from numpy.typing import NDArray

from hanllama.corpus import ruleset
from hanllama.corpus.rules import CleaningRule, Drop
from hanllama.reading import records

# Who owns a character: the novel, a plant (numbered from 1), or nobody in particular: the words
# that announce personal data (作者QQ：) are neither loss nor find when an advert rule takes them.
CLEAN, NOBODY = 0, -1
Owners = NDArray[np.int32]
Rules = list[tuple[str, CleaningRule]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("novels", help="a folder of clean novels")
    parser.add_argument("--rules", nargs="+", default=["webnovel"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--every", type=int, default=40, help="lines between two plants, on average"
    )
    parser.add_argument("--limit", type=int, default=0, help="only the first so many novels")
    parser.add_argument("--show", type=int, default=0, help="examples of losses to print")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    options = parser.parse_args()
    rules = [(step.title, step.build()) for step in ruleset.expand(options.rules)]
    novels = [d.text for d in records.read([options.novels], records.Quarantine())]
    novels = novels[: options.limit or None]

    before, cleaned = take_apart(rules, novels, options.show)
    planted = plant_and_clean(rules, cleaned, options)
    result = {
        "before_planting": before,
        **planted,
        "hard_wraps": hard_wraps(rules, cleaned, options.seed),
        "documents": documents(rules, cleaned, options.seed),
    }
    if options.json:
        options.json.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")


# --- 1. the novels as they are -----------------------------------------------------------------


def take_apart(rules: Rules, novels: list[str], show: int) -> tuple[dict[str, Any], list[str]]:
    """(what each rule took from the novels, the novels after all rules)."""
    total = sum(len(squeezed(n)) for n in novels)
    lost: Counter[str] = Counter()
    examples: dict[str, list[str]] = defaultdict(list)
    cleaned = []
    for novel in novels:
        text: str | Drop = novel
        for name, rule in rules:
            after = rule(text)
            if isinstance(after, Drop):
                raise SystemExit(f"{name} dropped a whole novel: {after.reason}: {text[:60]!r}")
            losses = Losses(squeezed(text), squeezed(after))
            lost[name] += losses.count
            examples[name] += losses.quotes(show - len(examples[name]))
            text = after
        cleaned.append(text)
    rows = {name: count / total for name, count in lost.items() if count}
    print(f"\nThe {len(novels)} novels as they are, {total:,} characters\n")
    print("| rule | characters taken | share |\n| --- | --- | --- |")
    for name, share in sorted(rows.items(), key=lambda item: -item[1]):
        print(f"| `{name}` | {lost[name]:,} | {share:.4%} |")
    print(f"| together | {sum(lost.values()):,} | {sum(rows.values()):.4%} |")
    for name, quotes in examples.items():
        for quote in quotes:
            print(f"  {name}: {quote}")
    return {"characters": total, "taken": dict(lost), "share": sum(rows.values())}, cleaned


# --- 2. planted lines and insertions -----------------------------------------------------------


@dataclass
class Plant:
    kind: str
    text: str
    alive: int = 0
    taken_by: str = ""


@dataclass
class Planted:
    """A text, and who owns each of its characters that is no white space."""

    text: str
    owners: Owners
    plants: list[Plant] = field(default_factory=list)


LINE_KINDS: dict[str, Callable[[random.Random], list[str]]] = {
    "advert line": lambda rng: [noise.advert_line(rng)],
    "URL line": lambda rng: [noise.url_line(rng)],
    "page furniture": lambda rng: [noise.furniture(rng)],
    "mojibake line": lambda rng: [noise.mojibake(rng)],
    "table of contents": noise.contents,
    "run of characters": lambda rng: [noise.run_of_characters(rng)],
    "repeated line": lambda rng: [noise.slogan(rng)] * rng.randrange(4, 20),
}
INLINE_KINDS: dict[str, Callable[[random.Random], str]] = {
    "advert inside a line": noise.advert_inline,
    "URL inside a line": noise.url_inline,
}


def plant(text: str, rng: random.Random, every: int) -> Planted:
    """Noise of all kinds put into a text, one plant in `every` lines."""
    out: list[str] = []
    owners: list[Owners] = []
    plants: list[Plant] = []

    def put(piece: str, owner: int) -> None:
        out.append(piece)
        owners.append(np.full(len(squeezed(piece)), owner, dtype=np.int32))

    def sow(kind: str, piece: str) -> None:
        plants.append(Plant(kind, piece))
        put(piece, len(plants))

    kinds = [*LINE_KINDS, *INLINE_KINDS, "personal", "personal", "decoy"]
    for line in text.split("\n"):
        kind = rng.choice(kinds) if line.strip() and rng.random() * every < 1 else ""
        if kind in LINE_KINDS:
            lines = LINE_KINDS[kind](rng)
            if kind == "repeated line":  # said once it is no repetition
                put(lines.pop() + "\n", CLEAN)
            sow(kind, "\n".join(lines))
            put("\n" + line + "\n", CLEAN)
        elif kind in INLINE_KINDS:
            cut = rng.choice([m for m, c in enumerate(line, 1) if c in "。，！？”"] or [len(line)])
            put(line[:cut], CLEAN)
            sow(kind, INLINE_KINDS[kind](rng))
            put(line[cut:] + "\n", CLEAN)
        elif kind == "personal":
            name, draw, frames = rng.choice(noise.PERSONAL)
            head, tail = rng.choice(frames).split("|")
            put(line + "\n", CLEAN)
            put("　　" + head, NOBODY)
            sow(f"personal: {name}", draw(rng))
            put(tail + "\n", NOBODY)
        elif kind == "decoy":
            put(line + "\n　　" + noise.decoy(rng) + "\n", CLEAN)
        else:
            put(line + "\n", CLEAN)
    return Planted("".join(out), np.concatenate(owners), plants)


def plant_and_clean(rules: Rules, novels: list[str], options: argparse.Namespace) -> dict[str, Any]:
    rng = random.Random(options.seed)
    noise_taken: Counter[str] = Counter()
    clean_taken: Counter[str] = Counter()
    clean_total = 0
    plants: list[Plant] = []
    examples: dict[str, list[str]] = defaultdict(list)
    for novel in novels:
        field_ = plant(novel, rng, options.every)
        text, owners = field_.text, field_.owners
        clean_total += int((owners == CLEAN).sum())
        taken_by: dict[int, Counter[str]] = defaultdict(Counter)
        for name, rule in rules:
            after = rule(text)
            if isinstance(after, Drop):
                raise SystemExit(f"{name} dropped a novel with noise in it: {after.reason}")
            losses = Losses(squeezed(text), squeezed(after), owners, repairs=name == "mojibake")
            for owner, count in losses.by_owner.items():
                if owner == CLEAN:
                    clean_taken[name] += count
                elif owner != NOBODY:
                    noise_taken[name] += count
                    taken_by[owner][name] += count
            if losses.by_owner[CLEAN]:
                examples[name] += losses.quotes(options.show - len(examples[name]), CLEAN)
            text, owners = after, losses.owners_after
        alive = Counter(owners.tolist())
        for number, one in enumerate(field_.plants, 1):
            one.alive = alive[number]
            best = taken_by[number].most_common(1)
            one.taken_by = best[0][0] if best else ""
        plants += field_.plants
    return report(noise_taken, clean_taken, clean_total, plants, examples, options.show)


def is_gone(one: Plant) -> bool:
    length = len(squeezed(one.text))
    return one.alive <= (0.5 if one.kind == "run of characters" else 0.1) * length


def report(
    noise_taken: Counter[str],
    clean_taken: Counter[str],
    clean_total: int,
    plants: list[Plant],
    examples: dict[str, list[str]],
    show: int,
) -> dict[str, Any]:
    """Print the two tables; give their numbers."""
    print(f"\nPlanted: {len(plants):,} plants among {clean_total:,} characters\n")
    print("| kind | plants | gone (recall) | characters gone | taken by |")
    print("| --- | --- | --- | --- | --- |")
    kinds: dict[str, Any] = {}
    for kind in sorted({p.kind for p in plants}):
        these = [p for p in plants if p.kind == kind]
        size = sum(len(squeezed(p.text)) for p in these)
        gone = sum(map(is_gone, these)) / len(these)
        characters = 1 - sum(p.alive for p in these) / size
        by = Counter(p.taken_by for p in these if is_gone(p))
        kinds[kind] = {"plants": len(these), "recall": gone, "characters": characters, "by": by}
        main_rules = ", ".join(f"`{name}`" for name, _ in by.most_common(3))
        print(f"| {kind} | {len(these):,} | {gone:.1%} | {characters:.1%} | {main_rules} |")
    print("\n| rule | noise taken | precision | novel taken | share of the novels |")
    print("| --- | --- | --- | --- | --- |")
    rows: dict[str, Any] = {}
    for name in dict.fromkeys([*noise_taken, *clean_taken]):
        took, wrong = noise_taken[name], clean_taken[name]
        if took + wrong:
            precision = took / (took + wrong)
            rows[name] = {"noise": took, "clean": wrong, "precision": precision}
            share = wrong / clean_total
            print(f"| `{name}` | {took:,} | {precision:.2%} | {wrong:,} | {share:.4%} |")
    lost = sum(clean_taken.values())
    print(f"| together | {sum(noise_taken.values()):,} | | {lost:,} | {lost / clean_total:.4%} |")
    for name, quotes in examples.items():
        for quote in quotes:
            print(f"  novel lost by {name}: {quote}")
    missed: dict[str, list[str]] = defaultdict(list)
    for one in plants:
        if not is_gone(one):
            missed[one.kind].append(one.text[:60].replace("\n", "/"))
    for kind, texts in missed.items():
        for text in texts[:show]:
            print(f"  missed {kind}: {text}")
    return {"kinds": kinds, "rules": rows, "clean_characters": clean_total, "clean_lost": lost}


# --- 3. hard wraps -----------------------------------------------------------------------------


def hard_wraps(rules: Rules, novels: list[str], seed: int) -> dict[str, Any]:
    """Every novel wrapped at 32 to 40 characters: line ends put in that go, own ones that stay."""
    rng = random.Random(seed)
    put_in = went = own = stayed = lost = total = 0
    for novel in novels:
        width = rng.randrange(32, 41)
        wrapped = "\n".join(part for line in novel.split("\n") for part in cut(line, width))
        text = wrapped
        for _, rule in rules:
            after = rule(text)
            if isinstance(after, Drop):
                raise SystemExit(f"a wrapped novel was dropped: {after.reason}")
            text = after
        losses = Losses(squeezed(wrapped), squeezed(text))
        lost += losses.count
        total += len(squeezed(wrapped))
        owned, all_ends = set(line_ends(novel)), set(line_ends(wrapped))
        left = {int(losses.origin[end - 1]) + 1 for end in line_ends(text)}
        put_in += len(all_ends - owned)
        went += len(all_ends - owned - left)
        own += len(owned)
        stayed += len(owned & left)
    print(
        "\n| hard wraps put in | joined again (recall) | own line ends | kept | characters lost |"
    )
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| {put_in:,} | {went / put_in:.2%} | {own:,} | {stayed / own:.2%} | {lost / total:.4%} |"
    )
    return {"put_in": put_in, "joined": went, "own": own, "kept": stayed, "lost": lost}


def cut(line: str, width: int) -> Iterator[str]:
    yield line[:width]
    for start in range(width, len(line), width):
        yield line[start : start + width]


def line_ends(text: str) -> Iterator[int]:
    """How many characters, white space left out, stand before each line end (once each)."""
    at = 0
    for line in text.split("\n"):
        size = len(squeezed(line))
        at += size
        if size:
            yield at


# --- 4. whole documents ------------------------------------------------------------------------


def documents(rules: Rules, novels: list[str], seed: int) -> dict[str, Any]:
    """Which documents are dropped: chapters of novels, and documents of nothing but noise."""
    rng = random.Random(seed)
    kinds = {"chapters of novels": [c for novel in novels for c in chapters(novel)]}
    for kind, draw in noise.DOCUMENTS.items():
        kinds[kind] = [draw(rng) for _ in range(200)]
    print("\n| documents | number | dropped | emptied | by rule |")
    print("| --- | --- | --- | --- | --- |")
    result: dict[str, Any] = {}
    for kind, texts in kinds.items():
        reasons: Counter[str] = Counter()
        emptied = 0
        for text in texts:
            size = len(squeezed(text))
            for name, rule in rules:
                after = rule(text)
                if isinstance(after, Drop):
                    reasons[name] += 1
                    break
                text = after
            else:
                emptied += len(squeezed(text)) < 0.1 * size
        dropped = sum(reasons.values())
        by = ", ".join(f"`{name}` {count}" for name, count in reasons.most_common())
        number = len(texts)
        result[kind] = {"number": number, "dropped": reasons, "emptied": emptied}
        print(f"| {kind} | {number:,} | {dropped / number:.2%} | {emptied / number:.2%} | {by} |")
    return result


def chapters(novel: str, characters: int = 3000) -> Iterator[str]:
    """The novel in pieces of about so many characters, cut at line ends."""
    piece: list[str] = []
    size = 0
    for line in novel.split("\n"):
        piece.append(line)
        size += len(line)
        if size >= characters:
            yield "\n".join(piece)
            piece, size = [], 0
    if piece:
        yield "\n".join(piece)


# --- what is missing, character by character ---------------------------------------------------


def squeezed(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


_ANCHOR = 12  # characters that must agree before two texts are in step again
_AHEAD = 60_000  # characters of `before` in which the next anchor is looked for
_INSERTED = 400  # characters that a rule may put in at one place
_CHUNK = 8192


class Losses:
    """`before` and `after` a rule brought into step: what is missing, and whose it was.

    What a rule rewrote is not missing, except where rewriting is how it removes: the masks of
    personal data, and mojibake that was repaired (`repairs`).
    """

    def __init__(
        self, before: str, after: str, owners: Owners | None = None, repairs: bool = False
    ) -> None:
        self.repairs = repairs
        self.before = before
        self.owners = np.zeros(len(before), dtype=np.int32) if owners is None else owners
        assert len(self.owners) == len(before)
        self.spans: list[tuple[int, int]] = []  # missing characters of `before`
        self.origin = np.full(len(after), -1, dtype=np.int64)  # where in `before` each came from
        self._align(before, after)
        self.by_owner: Counter[int] = Counter()
        for start, end in self.spans:
            self.by_owner.update(self.owners[start:end].tolist())
        self.owners_after = np.where(self.origin >= 0, self.owners[self.origin], CLEAN)
        self.owners_after = self.owners_after.astype(np.int32)
        # For positions: what was put in counts as standing where the text before it stood.
        self.origin = np.maximum.accumulate(self.origin) if len(after) else self.origin

    @property
    def count(self) -> int:
        return sum(end - start for start, end in self.spans)

    def quotes(self, number: int, owner: int | None = None) -> list[str]:
        """Up to `number` losses (of one owner), with what stood around."""
        found = []
        for start, end in self.spans:
            if len(found) >= number:
                break
            if owner is None or (self.owners[start:end] == owner).any():
                left = self.before[max(0, start - 12) : start]
                right = self.before[end : end + 12]
                found.append(f"{left}⟦{self.before[start:end][:80]}⟧{right}")
        return found

    def _align(self, before: str, after: str) -> None:
        i = j = 0
        while i < len(before) or j < len(after):
            same = common_length(before, i, after, j)
            self.origin[j : j + same] = np.arange(i, i + same)
            i, j = i + same, j + same
            if i == len(before) and j == len(after):
                return
            out, put = next_in_step(before, i, after, j)
            out, put, shift = self._slide(i, out, put)
            if shift:  # the equal characters before the gap belong behind it
                self.origin[j - shift : j] = np.arange(i - shift + out, i + out)
            self._gap(i - shift, out, j - shift, put, after)
            i, j = i + out, j + put

    def _slide(self, i: int, out: int, put: int) -> tuple[int, int, int]:
        """A pure deletion may be read a few characters earlier: where it covers most noise."""
        best, best_noise = 0, int((self.owners[i : i + out] != CLEAN).sum())
        if put == 0 and out:
            for shift in range(1, min(i, 40) + 1):
                if self.before[i - shift] != self.before[i - shift + out]:
                    break
                planted = int((self.owners[i - shift : i - shift + out] != CLEAN).sum())
                if planted > best_noise:
                    best, best_noise = shift, planted
        return out, put, best

    def _gap(self, i: int, out: int, j: int, put: int, after: str) -> None:
        masked = put and ("[" in after[j : j + put + 1] or "[" in after[max(0, j - 1) : j])
        if not masked and not self.repairs:
            kept = min(out, put)
            self.origin[j : j + kept] = np.arange(i, i + kept)
            i, out = i + kept, out - kept
        if out:
            self.spans.append((i, i + out))


def common_length(a: str, i: int, b: str, j: int) -> int:
    """How many characters from a[i] and b[j] on are equal."""
    start, step = i, _CHUNK
    while step and i < len(a) and j < len(b):
        if a[i : i + step] == b[j : j + step]:
            i, j = i + step, j + step
        else:
            step //= 2
    return min(i, len(a)) - start


def next_in_step(before: str, i: int, after: str, j: int) -> tuple[int, int]:
    """(characters of `before`, of `after`) to pass over until the two agree again."""
    best = (len(before) - i, len(after) - j)
    for put in range(min(_INSERTED, len(after) - j)):
        if put > 40 and sum(best) < _ANCHOR + put:
            break
        anchor = after[j + put : j + put + _ANCHOR]
        limit = min(len(before), i + min(_AHEAD, sum(best)) + _ANCHOR)
        found = before.find(anchor, i, limit)
        if found >= 0 and found - i + put < sum(best):
            best = found - i, put
        if sum(best) <= put:
            break
    return best


if __name__ == "__main__":
    began = time.process_time()
    main()
    print(f"\n{time.process_time() - began:.0f} CPU seconds")
