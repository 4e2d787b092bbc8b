"""A conversation with a model, without the terminal: what was said, and the next answer.

What does not fit into the context any more is left out of the prompt from the oldest exchange on;
the system prompt and the last question stay. Nothing is forgotten for good: the messages are kept,
and saved, as they were said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hanllama.base import config, fs
from hanllama.base.errors import CorruptError, InputError
from hanllama.model.sampling import Sampling

if TYPE_CHECKING:
    from hanllama.model.llama import Llama
    from hanllama.tokenizer.chat import ChatTemplate
    from hanllama.tokenizer.load import Tokenizer

ROOM_SHARE = 4  # of the context, one in so many tokens is left for an answer at least

Message = dict[str, Any]


@dataclass
class Answer:
    """One answer, complete once its pieces were taken.

    Attributes:
        text: what was written so far.
        finish: `eos`, `length`, `context`, or `stopped` when the reader had enough.
        forgotten: exchanges that the prompt left out, since the context is full.
        tokens: written.
    """

    text: str = ""
    finish: str = ""
    forgotten: int = 0
    tokens: int = 0


class Speaker(Protocol):
    """What writes: a model, or a test's stand-in."""

    context: int

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt that asks for the next answer."""
        ...

    def write(
        self, prompt: list[int], sampling: Sampling, stream: int, wanted: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """(piece of text, why it ended or "") until it ends or `wanted` is no more."""
        ...


class Session:
    """What was said so far.

    Args:
        speaker: the model.
        sampling: how it chooses; may be replaced at any time.
        system: the system prompt.
    """

    def __init__(self, speaker: Speaker, sampling: Sampling, system: str = "") -> None:
        self.speaker, self.sampling, self.system = speaker, sampling, system
        self.turns: list[Message] = []
        self._answers = 0  # each draws from a stream of its own, so that a retry is another answer

    @property
    def messages(self) -> list[Message]:
        """The conversation, the system prompt first."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.turns]

    def answer(
        self,
        question: str,
        answer: Answer,
        wanted: Callable[[], bool] = lambda: True,
        *,
        instead: bool = False,
    ) -> Iterator[str]:
        """Ask, and yield the answer piece by piece; `answer` is filled meanwhile.

        The exchange becomes part of the conversation when the answer has any text. One that was no
        longer wanted before its first token came has none.

        Args:
            wanted: asked after each token; when false the answer ends where it is.
            instead: in place of the last exchange, which stays until the answer is there.

        Raises InputError when the question alone leaves no room for an answer.
        """
        asked: Message = {"role": "user", "content": question}
        before = self.turns[:-2] if instead else self.turns
        prompt, answer.forgotten = self._fitting([*before, asked])
        stream, self._answers = self._answers, self._answers + 1
        for piece, finish in self.speaker.write(prompt, self.sampling, stream, wanted):
            answer.finish = finish
            if finish == "stopped" and not answer.tokens:
                return
            answer.text += piece
            answer.tokens += 1
            yield piece
        if answer.text.strip():
            self.turns[len(before) :] = [asked, {"role": "assistant", "content": answer.text}]

    def _fitting(self, turns: list[Message]) -> tuple[list[int], int]:
        """(prompt, exchanges left out) with room for an answer."""
        context = self.speaker.context
        room = max(min(self.sampling.max_new_tokens, context // ROOM_SHARE), 1)
        system = self.messages[: bool(self.system)]
        forgotten = 0
        while True:
            prompt = self.speaker.ids([*system, *turns])
            if len(prompt) + room <= context:
                return prompt, forgotten
            if len(turns) == 1:
                raise InputError(
                    f"this has {len(prompt):,} tokens with the system prompt, and the context of"
                    f" {context:,} must leave {room:,} for the answer; say it shorter"
                )
            turns = turns[2:]
            forgotten += 1

    # --- taking back ---

    def undo(self) -> str | None:
        """Take the last exchange back; returns its question, None where there is none."""
        if not self.turns:
            return None
        question = self.turns[-2]["content"]
        del self.turns[-2:]
        return str(question)

    def reset(self) -> None:
        """Forget everything but the system prompt."""
        self.turns.clear()

    # --- files ---

    def save(self, path: Path) -> None:
        """Write the conversation as one line of JSON lines, as `hanllama sft` reads it.

        Raises InputError when there is nothing to save, or the file holds something else.
        """
        if not self.turns:
            raise InputError("nothing was said yet")
        if path.exists():
            try:
                read_conversation(path)
            except (InputError, CorruptError) as error:
                raise InputError(f"{path} exists and is no conversation; choose another") from error
        fs.write_text(path, json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")

    def load(self, path: Path) -> None:
        """Go on with a saved conversation; the present one is given up."""
        messages = read_conversation(path)
        self.system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        self.turns = messages[1:] if self.system else messages


def read_conversation(path: Path) -> list[Message]:
    """The messages of a file that `save` wrote.

    Raises InputError or CorruptError when it holds none that ends with an answer.
    """
    from hanllama.tokenizer.chat import problem

    held = fs.read_json(path) if not path.is_dir() else None
    messages = held.get("messages") if isinstance(held, dict) else None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise InputError(f"{path} holds no conversation: one JSON object with `messages`")
    roles = [m.get("role") for m in messages if m.get("role") != "system"]
    reason = problem(messages)
    if not reason and roles != ["user", "assistant"] * (len(roles) // 2):
        reason = "question and answer do not alternate"
    if not reason and messages[0]["role"] == "system":
        content = messages[0].get("content")
        reason = None if isinstance(content, str) else "the system prompt is not text"
    if reason:
        raise InputError(f"{path} cannot be gone on with: {reason}")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


# --- the model -----------------------------------------------------------------------------------


class ModelSpeaker:
    """A model that answers through its chat template, or without one goes on with a text.

    Args:
        model, tokenizer: of one folder.
        template: None for continuation: the last message's text is the prompt.
        end_ids: what ends an answer.
    """

    def __init__(
        self,
        model: Llama,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        end_ids: Sequence[int],
    ) -> None:
        self.context = model.config.max_position_embeddings
        self.continues = template is None
        self._model, self._tokenizer, self._template = model, tokenizer, template
        self._end_ids = list(end_ids)

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt: rendered by the template, or the last message as it is."""
        if self._template is not None:
            return self._template.prompt(messages)
        from hanllama.model.generate import encode_prompt

        return encode_prompt(self._tokenizer, str(messages[-1]["content"]))

    def write(
        self, prompt: list[int], sampling: Sampling, stream: int, wanted: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """The answer's pieces; never half a character."""
        from hanllama.model.decode import decode
        from hanllama.model.generate import TextRow

        # A leading space belongs to the answer: it does not stand at the beginning of a text.
        row = TextRow(self._tokenizer, "after the prompt")
        tokens = decode(
            self._model,
            [prompt],
            sampling,
            self._end_ids,
            streams=[stream],
            vocab_size=min(self._tokenizer.vocab_size, self._model.config.vocab_size),
            stop=lambda _row, _token: not wanted(),
        )
        for token in tokens:
            piece = row.push(token.id)
            if token.finish is not None:
                piece += row.finish()
            yield piece, "stopped" if token.finish == "stop" else token.finish or ""


def changed(sampling: Sampling, name: str, value: str) -> Sampling:
    """`sampling` with one number set from text; ConfigError where there is no such number."""
    return config.load(Sampling, {**vars(sampling), name: value}, "/set")
