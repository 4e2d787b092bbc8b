"""`hanllama corpus instructions`: conversations about stories, to train a chat model on or to ask.

A line is a conversation in the house form (`messages`) that ends in an obedient answer: `sft`
trains on the answers, a trainer of preferences or by reward takes the prompt, and who measures asks
the prompt again. `text` holds the conversation as plain lines, so that a tokenizer trained on the
file knows the words of the instructions and of the chat template.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hanllama.base import fs
from hanllama.base.config import option
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.progress import Progress
from hanllama.stories import tasks as story_tasks


@dataclass(frozen=True)
class InstructionsConfig:
    """What `hanllama corpus instructions` takes."""

    output: str = option(help="the .jsonl file to write")
    count: int = option(6000, help="conversations to write")
    seed: int = option(0, help="which conversations; the same seed gives the same ones")
    heldout: bool = option(False, help="prompts that training never asks, all different")
    singly: bool = option(
        False, help="one or two words and one question, not up to four; held-out prompts always"
    )
    earlier: float = option(0.0, help="share of them that another conversation goes before")
    force: bool = option(False, help="replace the output")

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count must be 1 or more, not {self.count}")
        if not 0 <= self.earlier <= 1:
            raise ConfigError(f"earlier must be from 0 to 1, not {self.earlier}")
        if not self.output.endswith(".jsonl"):
            raise ConfigError(f"output must end in .jsonl; it is {self.output!r}")


def instructions(config: InstructionsConfig) -> None:
    """The command: write the conversations, one a line.

    Raises InputError when the output exists and `force` was not given.
    """
    output = Path(config.output)
    if output.exists() and not config.force:
        raise InputError(f"{output} exists already; --force replaces it")
    fs.write_text(output, "".join(_lines(config)))
    kind = "held-out" if config.heldout else "training"
    print(f"{config.count:,} {kind} conversations of seed {config.seed} in {output}")


def _lines(config: InstructionsConfig) -> Iterator[str]:
    source = f"story-{'heldout' if config.heldout else 'instructions'}-{config.seed}"
    with Progress("instructions", config.count, "conversations") as progress:
        made = story_tasks.instructions(
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
