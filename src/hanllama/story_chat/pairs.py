"""`hanllama corpus pairs`: a chat model's own answers, ranked by the gold checker, as preferences.

Each training instruction is answered several times; where some answers obey and some do not, one
of each makes a pair. So both sides come from the model that will be trained (on-policy): what it
learns is which of the things it does say are right, not how somebody else writes. Prompts whose
answers are all of one kind teach nothing and are counted; with `teach` the generator's own answer
stands in where none obeys.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hanllama import fs
from hanllama.data import story_tasks
from hanllama.data.story_tasks import KINDS, Instruction
from hanllama.errors import InputError
from hanllama.model.answers import Answer, Answerer
from hanllama.progress import Progress
from hanllama.story_chat.options import PairsConfig


def pairs(config: PairsConfig) -> None:
    """The command: answer, rank, and write the pairs in the house form, one a line.

    Raises InputError when the output exists and `force` was not given, and when no prompt was
    answered both ways.
    """
    output = Path(config.output)
    if output.exists() and not config.force:
        raise InputError(f"{output} exists already; --force replaces it")
    made = list(story_tasks.instructions(config.count, config.seed))
    answerer = Answerer(config.model, device=config.device)
    with Progress("answers", len(made) * config.samples, "answers") as progress:
        answers = answerer(
            [instruction.messages[:-1] for instruction in made],
            config.sampling(),
            samples=config.samples,
            batch=config.batch,
            answered=progress.advance,
        )
    counts: Counter[tuple[str, str]] = Counter()
    source = f"story-pairs-{config.seed}"
    records = list(_pairs(made, answers, counts, source, teach=config.teach))
    if not records:
        raise InputError(
            f"none of {len(made)} prompts was answered both well and badly by {config.model};"
            " ask more, or take more samples of each"
        )
    write(output, records)
    for kind in KINDS:
        asked = sum(count for (k, _), count in counts.items() if k == kind)
        ends = (f"{counts[kind, end]} {end}" for end in ("mixed", "all obeyed", "none obeyed"))
        print(f"{kind:<8}  {asked} prompts: {', '.join(ends)}")
    print(f"{len(records):,} pairs in {output}")


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """JSON lines, complete or not at all."""
    fs.write_text(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def _pairs(
    made: Sequence[Instruction],
    answers: Sequence[Sequence[Answer]],
    counts: Counter[tuple[str, str]],
    source: str,
    *,
    teach: bool,
) -> Iterator[Mapping[str, Any]]:
    """The pairs; `counts` is told how the prompts of each kind were answered."""
    for number, (instruction, given) in enumerate(zip(made, answers, strict=True)):
        good: list[str] = []
        bad: list[str] = []
        for answer in given:
            obeyed = answer.complete and story_tasks.judge(instruction.task, answer.text).obeyed
            (good if obeyed else bad).append(answer.text)
        kind = instruction.task.kind
        # An answer that came to nothing is no answer to compare with.
        bad = [text for text in bad if text.strip()]
        counts[kind, "mixed" if good and bad else "all obeyed" if good else "none obeyed"] += 1
        if teach and not good:
            good = [instruction.messages[-1]["content"]]
        if good and bad:
            yield {
                "prompt": list(instruction.messages[:-1]),
                "chosen": [{"role": "assistant", "content": good[0]}],
                "rejected": [{"role": "assistant", "content": bad[0]}],
                "id": f"{source}:{number}",
                "source": source,
                "category": kind,
            }
