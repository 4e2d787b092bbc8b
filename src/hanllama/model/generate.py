"""Writing text with a model: `hanllama generate`.

The tokenizer's stream decoder turns ids into text, whether printed as they come or at the end, so
both give the same text: no half characters, and nothing from a stop text on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanllama.base import fs
from hanllama.base.errors import InputError
from hanllama.model.batches import FittingBatches
from hanllama.model.checkpoint import load_model
from hanllama.model.decode import (
    Finish,
    Token,
    decode,
    decoding_layout,
    generate_tokens,
    room_for,
)
from hanllama.model.device import choose_device, choose_dtype
from hanllama.model.folder import load_config, stop_ids
from hanllama.model.sampling import GenerateConfig
from hanllama.reading.rows import of_file
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import Tokenizer, load_tokenizer

__all__ = ["generate", "generate_tokens"]


@dataclass(frozen=True)
class Sample:
    """One text written for one prompt."""

    prompt: str
    text: str
    finish: Finish
    tokens: int


def generate(config: GenerateConfig) -> list[Sample]:
    """Run `hanllama generate`: print each prompt with its continuation."""
    prompts = _prompts(config)
    llama = load_config(config.model)
    tokenizer = load_tokenizer(config.model)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    eos_ids = {tokenizer.eos_id, *stop_ids(config.model, llama)}
    if config.chat:
        template = ChatTemplate(tokenizer)
        encoded = [template.prompt([{"role": "user", "content": p}]) for p in prompts]
        eos_ids.update(template.end_ids)
    else:
        encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    heads = [prompt + "\n" if config.chat else prompt for prompt in prompts]
    model = load_model(config.model, device=device, dtype=dtype)
    room_for(model, encoded, config.max_new_tokens)  # refuse a prompt before any text is written
    decoding_layout(model)
    jobs = [(row, row // config.count) for row in range(len(prompts) * config.count)]

    def write(part: Sequence[tuple[int, int]]) -> list[Sample]:
        texts = [TextRow(tokenizer, prompts[p], config.stop) for _, p in part]
        tokens = decode(
            model,
            [encoded[p] for _, p in part],
            config.sampling(),
            sorted(eos_ids),
            streams=[row for row, _ in part],
            vocab_size=min(tokenizer.vocab_size, model.config.vocab_size),
            stop=_stopper(texts, heads[part[0][1]] if config.stream else None),
        )
        rows = _collect(tokens, texts, [heads[p] for _, p in part], config.stream)
        return [Sample(prompts[p], *row) for (_, p), row in zip(part, rows, strict=True)]

    batches = FittingBatches(1 if config.stream else config.batch, "batch")
    samples = [sample for part in batches(jobs, write) for sample in part]
    if config.output:
        fs.write_jsonl(Path(config.output), map(vars, samples))
    cut = sum(sample.finish == "context" for sample in samples)
    if cut:
        print(
            f"hanllama: notice: {cut} of {len(samples)} texts end where the model's context of"
            f" {model.config.max_position_embeddings} tokens is full",
            file=sys.stderr,
        )
    return samples


def _stopper(texts: list[TextRow], streamed_head: str | None) -> Callable[[int, int], bool]:
    """A function that adds a token to its row's text, prints it when streaming, and returns
    whether the row is at a stop text."""
    if streamed_head is not None:
        print(streamed_head, end="", flush=True)

    def push(row: int, token: int) -> bool:
        piece = texts[row].push(token)
        if streamed_head is not None:
            print(piece, end="", flush=True)
        return texts[row].stopped

    return push


def _collect(
    tokens: Iterator[Token], texts: list[TextRow], heads: list[str], stream: bool
) -> list[tuple[str, Finish, int]]:
    """Run a batch to its end and print each head and text; when streaming, the held-back rest.

    Returns each row's text, the reason of its end, and its number of tokens.
    """
    counts = [0] * len(texts)
    finishes: dict[int, Finish] = {}
    for token in tokens:
        counts[token.row] += 1
        if token.finish is not None:
            finishes[token.row] = token.finish
    rows: list[tuple[str, Finish, int]] = []
    for row, (text, head) in enumerate(zip(texts, heads, strict=True)):
        rest = text.finish()
        print((rest if stream else head + text.text) + "\n", flush=True)
        rows.append((text.text, "stop" if text.stopped else finishes[row], counts[row]))
    return rows


def _prompts(config: GenerateConfig) -> list[str]:
    prompts = list(config.prompt)
    if config.prompts_file:
        prompts += _read_prompts(Path(config.prompts_file))
    return prompts or [""]


def _read_prompts(path: Path) -> list[str]:
    if path.suffix == ".jsonl":
        records = list(of_file(path, "prompts file"))
        for row in records:
            if not isinstance(row.value.get("prompt"), str):
                raise InputError(f"{path}, line {row.line}: needs a field `prompt` with text")
        prompts = [row.value["prompt"] for row in records]
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise InputError(f"prompts file {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"prompts file {path} is not UTF-8: {error}") from error
        # Not splitlines(): U+2028 and similar characters occur inside real text.
        prompts = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not prompts:
        raise InputError(f"prompts file {path} holds no prompt")
    return prompts


# --- ids to text ---------------------------------------------------------------------------------


class TextRow:
    """One row's ids turned into text: no half characters, nothing from a stop text on."""

    def __init__(self, tokenizer: Tokenizer, prompt: str, stop: Sequence[str] = ()) -> None:
        self._decoder = tokenizer.stream(continues=bool(prompt))
        self._stop = stop
        self._held = ""  # may be the beginning of a stop text
        self.stopped = False
        self.text = ""

    def push(self, token_id: int) -> str:
        """The text that became certain with this id."""
        return self._accept(self._decoder.push(token_id))

    def finish(self) -> str:
        """The rest of the text, once the row has ended."""
        piece = self._accept(self._decoder.finish())
        if self.stopped:
            return piece
        held, self._held = self._held, ""
        self.text += held
        return piece + held

    def _accept(self, piece: str) -> str:
        if self.stopped:
            return ""
        pending = self._held + piece
        found = [place for text in self._stop if (place := pending.find(text)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            pending = pending[: min(found)]
        else:
            keep = max((_overlap(pending, text) for text in self._stop), default=0)
            self._held = pending[len(pending) - keep :]
            pending = pending[: len(pending) - keep]
        self.text += pending
        return pending


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt's ids, BOS alone for an empty one; InputError when the tokenizer has no BOS."""
    ids = tokenizer.encode(prompt)
    if ids:
        return ids
    if tokenizer.bos_id is None:
        raise InputError("an empty prompt needs a tokenizer with a BOS token; give some text")
    return [tokenizer.bos_id]
