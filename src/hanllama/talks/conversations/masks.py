"""A conversation as training sees it: all tokens, and which of them are trained.

For `hanllama data view --mask`: a wrong mask is a quiet bug. A model trains on it without
complaint, and answers a little worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hanllama.base.errors import InputError
from hanllama.talks.conversations.form import Conversation
from hanllama.tokenizer.chat import ChatTemplate, Encoded
from hanllama.tokenizer.load import Tokenizer


@dataclass(frozen=True)
class Shown:
    """A conversation to show.

    Attributes:
        runs: (text, whether it is trained), end to end; special tokens by name.
        tokens: number of tokens.
        trained: number of trained tokens.
        refused: why the template refuses the conversation; `runs` are then its messages.
    """

    conversation: Conversation
    runs: list[tuple[str, bool]]
    tokens: int = 0
    trained: int = 0
    refused: str = ""


def shown(
    conversations: Iterable[Conversation], tokenizer: Tokenizer, template: ChatTemplate
) -> Iterator[Shown]:
    """Yield each conversation encoded as in training, or with the template's refusal."""
    for conversation in conversations:
        try:
            encoded = template.encode(conversation.messages)
        except InputError as error:
            said = [f"{m['role']}: {m['content']}\n" for m in conversation.messages]
            yield Shown(conversation, [(text, False) for text in said], refused=str(error))
            continue
        trained = int(encoded.mask.sum())
        yield Shown(conversation, runs(encoded, tokenizer), len(encoded.ids), trained)


def runs(encoded: Encoded, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """The tokens as text, cut where trained tokens begin and end.

    A character made of several tokens belongs to the run of its last one. The space that a
    SentencePiece model puts before every stretch of text is a token or part of one, and is shown.
    """
    special = set(tokenizer.special_tokens.values())
    stream = tokenizer.stream(continues=True)
    found: list[tuple[str, bool]] = []
    for token, trained in zip(encoded.ids.tolist(), encoded.mask.tolist(), strict=True):
        text = tokenizer.piece(token) if token in special else stream.push(token)
        if found and found[-1][1] == trained:
            found[-1] = (found[-1][0] + text, trained)
        else:
            found.append((text, trained))
    if found and (rest := stream.finish()):
        found[-1] = (found[-1][0] + rest, found[-1][1])
    return found
