"""`hanllama corpus`: write the demo's stories and chats about them, and measure a model's stories.

A model has learnt to tell stories when its texts follow the grammar of its training, say new things
and do not recite. So `corpus check` prints how many samples parse, which verb-noun pairs withheld
from training occur, and the longest span copied from a training story.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from hanllama.base import fs
from hanllama.base.config import Count, Share, checked, option
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.making import making
from hanllama.base.progress import Progress
from hanllama.reading import records
from hanllama.reading.records import Document, Quarantine
from hanllama.reading.rows import Row, of_file
from hanllama.stories import grammar, tasks

SHOWN_FAILURES = 3


@checked
class StoriesConfig:
    """Options of `hanllama corpus stories`."""

    output: str = option(help="the corpus folder to write, or a .jsonl[.gz|.zst] file")
    count: Count = option(40_000, help="stories to write")
    seed: int = option(0, help="which stories; the same seed gives the same ones")
    force: bool = option(False, help="replace the output")


def stories(config: StoriesConfig) -> None:
    """The command: write `count` stories, one document each, its plot as the category.

    Raises InputError when the output exists and `force` was not given.
    """
    is_file = config.output.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst"))
    with (
        making(config.output, force=config.force, file=is_file) as made,
        Progress("stories", config.count, "stories") as progress,
        nullcontext() if is_file else made.publish() as folder,
    ):
        place = folder / "part-00000.jsonl" if folder else made.output
        count = records.write_jsonl(place, _documents(config, progress))
    print(f"{count:,} stories of seed {config.seed} in {config.output}")


def _documents(config: StoriesConfig, progress: Progress) -> Iterator[Document]:
    source = f"stories-{config.seed}"
    for number, story in enumerate(grammar.stories(config.count, config.seed)):
        yield Document(story.text, f"{source}:{number}", source, story.plot)
        progress.advance(1)


@checked
class WordsConfig:
    """Options of `hanllama corpus words`."""

    output: str = option(help="the .txt file to write")
    force: bool = option(False, help="replace the output")

    def __post_init__(self) -> None:
        if not self.output.endswith(".txt"):
            raise ConfigError(f"output must end in .txt; it is {self.output!r}")


def words(config: WordsConfig) -> None:
    """The command: write the words of the stories, one a line, for `tokenizer train --words`.

    Raises InputError when the output exists and `force` was not given.
    """
    with making(config.output, force=config.force, file=True) as made:
        found = grammar.vocabulary()
        fs.write_text(made.output, "".join(f"{word}\n" for word in found))
    print(f"{len(found):,} words in {config.output}")


@checked
class InstructionsConfig:
    """Options of `hanllama corpus instructions`."""

    output: str = option(help="the .jsonl file to write")
    count: Count = option(6000, help="conversations to write")
    seed: int = option(0, help="which conversations; the same seed gives the same ones")
    heldout: bool = option(False, help="write prompts that training never asks, all different")
    singly: bool = option(
        False,
        help="ask for at most two words or one question, not four; held-out prompts always do",
    )
    earlier: Share = option(0.0, help="share of conversations that follow another conversation")
    force: bool = option(False, help="replace the output")

    def __post_init__(self) -> None:
        if not self.output.endswith(".jsonl"):
            raise ConfigError(f"output must end in .jsonl; it is {self.output!r}")


def instructions(config: InstructionsConfig) -> None:
    """The command: write the conversations, one a line in the house form (`messages`).

    Each ends in an obedient answer. `sft` trains on the answers; preference and reward training
    take the prompts; `corpus obeyed` asks the prompts again. `text` holds the conversation as plain
    lines, so that a tokenizer trained on the file knows the words of the instructions and of the
    chat template.

    Raises InputError when the output exists and `force` was not given.
    """
    with making(config.output, force=config.force, file=True) as made:
        fs.write_text(made.output, "".join(_conversations(config)))
    kind = "held-out" if config.heldout else "training"
    print(f"{config.count:,} {kind} conversations of seed {config.seed} in {config.output}")


def _conversations(config: InstructionsConfig) -> Iterator[str]:
    source = f"story-{'heldout' if config.heldout else 'instructions'}-{config.seed}"
    with Progress("instructions", config.count, "conversations") as progress:
        made = tasks.instructions(
            config.count,
            config.seed,
            heldout=config.heldout,
            singly=config.singly,
            earlier=config.earlier,
        )
        for number, instruction in enumerate(made):
            record = {
                "messages": list(instruction.messages),
                "text": "\n".join(f"{m['role']}\n{m['content']}" for m in instruction.messages),
                "id": f"{source}:{number}",
                "source": source,
                "category": instruction.task.kind,
            }
            yield json.dumps(record, ensure_ascii=False) + "\n"
            progress.advance(1)


@checked
class CheckConfig:
    """Options of `hanllama corpus check`."""

    samples: str = option(
        help="the texts to check: the output of `generate --output`, or a .txt with blank lines"
        " between texts",
        positional=True,
    )
    corpus: tuple[str, ...] = option(
        (), help="the stories and chats of the training, to search for copies"
    )


@dataclass
class Findings:
    """Figures of a set of samples."""

    samples: int
    parsed: int
    plots: Counter[str]
    withheld: Counter[tuple[str, str]]
    """Pairs that training never shows, in samples that parse."""
    with_withheld: int
    failures: list[str]
    copied: list[tuple[int, str]] | None = None
    """(length, longest span copied from training) of each sample; None: not searched."""


def check(config: CheckConfig) -> Findings:
    """The command: print how many samples parse, their new pairs, and their longest copy.

    Raises InputError when there are no samples or no training stories.
    """
    samples = _samples(Path(config.samples))
    findings = examine(samples)
    if config.corpus:
        findings.copied = _copies(samples, config.corpus)
    for line in _lines(findings):
        print(line)
    return findings


def examine(samples: list[str]) -> Findings:
    """Check every sample with the grammar."""
    found = Findings(len(samples), 0, Counter(), Counter(), 0, [])
    for text in samples:
        verdict = grammar.check(text)
        if not verdict.ok:
            found.failures.append(verdict.reason)
            continue
        found.parsed += 1
        found.plots[str(verdict.plot)] += 1
        new = [pair for pair in verdict.pairs if pair in grammar.WITHHELD]
        found.withheld.update(new)
        found.with_withheld += bool(new)
    return found


def _copies(samples: list[str], corpus: Sequence[str]) -> list[tuple[int, str]]:
    with Quarantine() as quarantine:
        index = grammar.CopyIndex(d.text for d in records.read(list(corpus), quarantine))
    if quarantine.count:
        raise InputError(f"{', '.join(corpus)} cannot be read whole: {quarantine.summary()}")
    # The index reserves U+0000. No story holds it, but a model may write any byte.
    return [(len(text), index.longest_copy(text.replace("\0", "\ufffd"))) for text in samples]


def _samples(path: Path) -> list[str]:
    """The texts of a file: prompt and continuation of JSON lines, or blocks between blank lines."""
    if path.suffix == ".jsonl":
        texts = [_sample(row) for row in of_file(path, "samples")]
    else:
        try:
            content, _ = records.decode(path.read_bytes())
        except OSError as error:
            raise InputError(f"samples {path} cannot be read: {error.strerror}") from error
        texts = [block.strip() for block in content.split("\n\n") if block.strip()]
    if not texts:
        raise InputError(f"{path} holds no samples")
    return texts


def _sample(row: Row) -> str:
    prompt, text = row.value.get("prompt", ""), row.value.get("text")
    if isinstance(prompt, str) and isinstance(text, str):
        return prompt + text
    raise InputError(f"{row.file}, line {row.line}: not a sample with a field `text`: {row.shown}")


def _lines(found: Findings) -> Iterator[str]:
    share = found.parsed / found.samples
    yield f"{found.parsed} of {found.samples} samples parse under the grammar ({share:.1%})"
    for name, count in found.plots.most_common():
        yield f"  {name}: {count}"
    for reason in found.failures[:SHOWN_FAILURES]:
        yield f"  not: {reason}"
    if len(found.failures) > SHOWN_FAILURES:
        yield f"  and {len(found.failures) - SHOWN_FAILURES} more that do not parse"
    pairs = ", ".join(f"{v}{n} x{count}" for (v, n), count in found.withheld.most_common(12))
    yield (
        f"{found.with_withheld} samples use a verb-noun pair that training never showed;"
        f" {len(found.withheld)} of {len(grammar.WITHHELD)} such pairs occur"
        + (f": {pairs}" if pairs else "")
    )
    if found.copied is not None:
        whole = sum(len(copy) >= length for length, copy in found.copied)
        length, copy = max(found.copied, key=lambda item: len(item[1]))
        mean = sum(len(c) for _, c in found.copied) / len(found.copied)
        yield (
            f"longest span copied from training: {len(copy)} characters, of a sample of {length}:"
            f" “{copy}”"
        )
        yield f"  on average {mean:.0f} characters; {whole} samples are copies as a whole"
