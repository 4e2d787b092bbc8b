"""Samples during training: the same prompts each time, so that they show progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hanllama.model.generate import encode_prompt, generate_tokens
from hanllama.model.llama import Llama
from hanllama.model.sampling import Sampling
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import load_tokenizer


class Sampler:
    """Writes one text for each prompt; the draw depends on the seed and the step.

    A base model continues the prompt; with a chat template the prompt is a user's message.
    """

    def __init__(
        self,
        tokenizer_folder: Path,
        prompts: Sequence[str],
        tokens: int,
        seed: int,
        template: ChatTemplate | None = None,
    ) -> None:
        """Raise InputError for a prompt without a token, before any training."""
        self._tokenizer = load_tokenizer(tokenizer_folder)
        self._prompts, self._tokens, self._seed = list(prompts), tokens, seed
        self._template = template
        self._ids = [self._encode(prompt) for prompt in prompts]

    def write(self, model: Llama, step: int) -> list[str]:
        """Each prompt with its continuation, or with its answer on the next line."""
        room = model.config.max_position_embeddings - self._tokens
        ids = [prompt[-max(room, 1) :] for prompt in self._ids]
        sampling = Sampling(
            max_new_tokens=min(self._tokens, model.config.max_position_embeddings - 1),
            temperature=0.8,
            top_k=50,
            top_p=0.95,
            seed=self._seed + step,
        )
        template = self._template
        rows = generate_tokens(model, ids, sampling, template.end_ids if template else None)
        between = "\n" if template else ""
        return [
            prompt + between + self._tokenizer.decode(list(row))
            for prompt, row in zip(self._prompts, rows, strict=True)
        ]

    def _encode(self, prompt: str) -> list[int]:
        if self._template is None:
            return encode_prompt(self._tokenizer, prompt)
        return self._template.prompt([{"role": "user", "content": prompt}])
