"""A conversation with a model, without the terminal: its messages and the next answer.

When the context is full, the prompt leaves out the oldest exchanges; the system prompt and the last
question stay. The session still keeps and saves all messages.
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

ROOM_SHARE = 4  # at most a quarter of the context is kept free for the answer

Message = dict[str, Any]


@dataclass
class Answer:
    """One answer, complete once all its pieces were yielded.

    Attributes:
        text: the text so far.
        finish: `eos`, `length`, `context`, or `stopped` by the reader.
        forgotten: number of exchanges that the prompt left out, since the context is full.
        tokens: number of tokens so far.
    """

    text: str = ""
    finish: str = ""
    forgotten: int = 0
    tokens: int = 0


class Speaker(Protocol):
    """A model, or a test's stand-in."""

    context: int

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt that asks for the next answer."""
        ...

    def write(
        self, prompt: list[int], sampling: Sampling, stream: int, wanted: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """Yield (piece of text, reason of the end or "") until the end or `wanted()` is false."""
        ...


class Session:
    """The conversation so far.

    Args:
        speaker: the model.
        sampling: how it chooses tokens; may be replaced at any time.
        system: the system prompt.
    """

    def __init__(self, speaker: Speaker, sampling: Sampling, system: str = "") -> None:
        self.speaker, self.sampling, self.system = speaker, sampling, system
        self.turns: list[Message] = []
        self._answers = 0  # the random stream of the next answer, so that a retry differs

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
        """Ask, and yield the answer piece by piece while filling `answer`.

        The exchange joins the conversation if the answer has any text. An answer stopped before its
        first token has none.

        Args:
            wanted: called after each token; the answer ends when it returns false.
            instead: replace the last exchange, which stays until the answer is complete.

        Raises InputError if the question alone leaves no room for an answer.
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
        """A prompt that leaves room for the answer, and the number of exchanges left out."""
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
        """Take back the last exchange; return its question, or None if there is none."""
        if not self.turns:
            return None
        question = self.turns[-2]["content"]
        del self.turns[-2:]
        return str(question)

    def reset(self) -> None:
        """Drop all messages except the system prompt."""
        self.turns.clear()

    # --- files ---

    def save(self, path: Path) -> None:
        """Write the conversation as one line of JSON lines, as `hanllama sft` reads it.

        Raises InputError if there is nothing to save, or the file is no conversation.
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
        """Replace this conversation by a saved one."""
        messages = read_conversation(path)
        self.system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        self.turns = messages[1:] if self.system else messages


def read_conversation(path: Path) -> list[Message]:
    """Read the messages of a file that `save` wrote.

    Raises InputError or CorruptError if it holds no conversation that ends with an answer.
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
        raise InputError(f"the conversation in {path} cannot be continued: {reason}")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


# --- the model -----------------------------------------------------------------------------------


class ModelSpeaker:
    """A model that answers through its chat template, or continues a text without one.

    Args:
        model, tokenizer: from one folder.
        template: None for continuation: the last message's text is the prompt.
        end_ids: the tokens that end an answer.
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
        """The prompt: rendered by the template, or the last message unchanged."""
        if self._template is not None:
            return self._template.prompt(messages)
        from hanllama.model.generate import encode_prompt

        return encode_prompt(self._tokenizer, str(messages[-1]["content"]))

    def write(
        self, prompt: list[int], sampling: Sampling, stream: int, wanted: Callable[[], bool]
    ) -> Iterator[tuple[str, str]]:
        """Yield the pieces of the answer, never half a character."""
        from hanllama.model.decode import decode
        from hanllama.model.generate import TextRow

        # The answer continues a text, so a leading space belongs to it.
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
    """Set one number of `sampling` from text; ConfigError for an unknown name or bad value."""
    return config.load(Sampling, {**vars(sampling), name: value}, "/set")
