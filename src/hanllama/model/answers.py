"""A chat model answers many conversations at once: messages in, answers out.

The model's template renders the prompts, the decoder writes all rows of a batch together, and an
answer ends with the template's end token. Each conversation has its own random stream, so its
answer does not depend on its batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanllama.model.batches import FittingBatches
from hanllama.model.checkpoint import load_model
from hanllama.model.decode import decoding_layout, generate_tokens
from hanllama.model.device import choose_device, choose_dtype
from hanllama.model.llama import Llama
from hanllama.model.sampling import Sampling
from hanllama.tokenizer.chat import ChatTemplate, Message
from hanllama.tokenizer.load import load_tokenizer


@dataclass(frozen=True)
class Answer:
    """One answer of a model.

    Attributes:
        text: the answer without special tokens.
        prompt_ids, ids: the tokens of the prompt and of the answer, its end token included.
        complete: the model ended the answer; false where a limit of tokens cut it.
    """

    text: str
    prompt_ids: list[int]
    ids: list[int]
    complete: bool


class Answerer:
    """A chat model with its template and tokenizer, ready to answer.

    Raises InputError where the folder holds no chat model.
    """

    def __init__(self, folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> None:
        self.tokenizer = load_tokenizer(folder)
        self.template = ChatTemplate(self.tokenizer)
        chosen = choose_device(device)
        self.model: Llama = load_model(folder, device=chosen, dtype=choose_dtype(dtype, chosen))
        decoding_layout(self.model)
        self._fits = sys.maxsize  # answers that fit into memory at a time, once known

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        sampling: Sampling,
        *,
        samples: int = 1,
        batch: int = 32,
        answered: Callable[[int], None] = lambda count: None,
    ) -> list[list[Answer]]:
        """Write `samples` answers to each conversation, which ends with the user's turn.

        Args:
            batch: answers written at a time; fewer where they do not fit into memory.
            answered: called after each batch with its number of answers.

        Raises InputError for a conversation that fills the context.
        """
        prompts = [self.template.prompt(messages) for messages in conversations]
        jobs = [prompt for prompt in prompts for _ in range(samples)]
        # Sorted by length, because a batch is as wide as its longest prompt.
        order = sorted(range(len(jobs)), key=lambda job: len(jobs[job]))
        found: dict[int, Answer] = {}
        batches = FittingBatches(min(batch, self._fits), "batch")

        def write(part: Sequence[int]) -> dict[int, Answer]:
            rows = self._write([jobs[job] for job in part], sampling, part)
            return dict(zip(part, rows, strict=True))

        for written in batches(order, write):
            found.update(written)
            answered(len(written))
        if batches.size < batch:
            self._fits = batches.size
        return [
            [found[number * samples + sample] for sample in range(samples)]
            for number in range(len(prompts))
        ]

    def _write(
        self, prompts: list[list[int]], sampling: Sampling, streams: Sequence[int]
    ) -> list[Answer]:
        end_ids = self.template.end_ids
        answers = generate_tokens(
            self.model,
            prompts,
            sampling,
            end_ids,
            streams=streams,
            vocab_size=min(self.tokenizer.vocab_size, self.model.config.vocab_size),
        )
        return [
            Answer(self._text(ids), prompt, ids, ids[-1] in end_ids)
            for prompt, ids in zip(prompts, answers, strict=True)
        ]

    def _text(self, ids: Sequence[int]) -> str:
        stream = self.tokenizer.stream(continues=True)
        return "".join([*map(stream.push, ids), stream.finish()])
