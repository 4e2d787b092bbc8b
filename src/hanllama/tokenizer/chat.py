"""The ONLY place that turns messages into ids and a loss mask.

Training, evaluation and serving call the same function, so a model is asked in exactly the form it
was taught. A template is a Jinja file, as transformers, vLLM and llama.cpp read it: a model folder
carries its own (`chat_template.jinja`), a new one is chosen from `chat_templates/` by name. The ids
equal those of AutoTokenizer's `apply_chat_template`, with one intended difference: typed text never
becomes a special token. `</s>` inside a message is four characters.

The method: before rendering, a guard (a code point that no text holds) breaks every look-alike of a
special token inside a message. The rendered string is then cut at the remaining special tokens,
which are the template's own. The guards are removed, and each stretch of text between two tokens is
encoded by itself, as the tokenizers library does.

The mask is true on the assistant's words and on the token that ends them: on the text that message
i, the assistant's, adds after the generation prompt. A template that rewrites earlier turns is
refused, since this text is then no longer an addition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.base.plugins import nearest
from hanllama.tokenizer.load import Tokenizer, home_of

FILE = "chat_template.jinja"
TEMPLATES = Path(__file__).parent / "chat_templates"

Message = Mapping[str, Any]
"""`role` (system, user, assistant, tool) and `content`; only the template reads other fields."""


@dataclass(frozen=True)
class Encoded:
    """A conversation as ids.

    Attributes:
        ids: int32 [tokens].
        mask: bool [tokens], true where the loss is taken: the assistant's words and end tokens.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]


def names() -> list[str]:
    """The names of the shipped templates."""
    return sorted(path.stem for path in TEMPLATES.glob("*.jinja"))


def source(name: str) -> str:
    """The text of a shipped template, or of the file at `name` when it ends in `.jinja`.

    Raises ConfigError for a name or a file that does not exist.
    """
    path = Path(name) if name.endswith(".jinja") else TEMPLATES / f"{name}.jinja"
    if not path.is_file():
        hint = "" if name.endswith(".jinja") else nearest(name, names())
        raise ConfigError(f"chat template {name!r} does not exist{hint}")
    return path.read_text(encoding="utf-8-sig")  # a byte order mark would begin every prompt


def of_folder(folder: Path) -> str | None:
    """The template of a tokenizer or model folder, None where it has none."""
    folder = home_of(folder)
    if (folder / FILE).is_file():
        return (folder / FILE).read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    found = fs.read_json(config).get("chat_template") if config.is_file() else None
    return found if isinstance(found, str) else None


def problem(messages: Sequence[Message]) -> str | None:
    """Why a conversation cannot be trained on or answered, None where it can.

    A conversation begins with the user (after at most one system message), and no two messages in
    a row have one role, except a tool's. Only a system message may be empty. Other roles are
    unknown.
    """
    turns = messages[1:] if messages and messages[0].get("role") == "system" else messages
    if not turns:
        return "no message"
    before = None
    for number, message in enumerate(turns):
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "tool"):
            return "a system message after the first" if role == "system" else "an unknown role"
        if number == 0 and role != "user":
            return f"the conversation begins with the {role}"
        if role == before and role != "tool":
            return f"two messages of the {role} in a row"
        if not isinstance(content, str):
            return f"the {role}'s content is not text"
        if not content.strip():
            return f"an empty message of the {role}"
        before = role
    return None


class ChatTemplate:
    """A template joined to a tokenizer.

        template = ChatTemplate(tokenizer)                 # the one in the tokenizer's folder
        template = ChatTemplate(tokenizer, "llama2")       # by name, or a path ending in .jinja
        ids = template.prompt(messages)                    # ends where the assistant begins
        encoded = template.encode(messages)                # ids and loss mask

    Some templates (Llama 3's) tell the model the date. A training keeps one date from its first
    step to its last: the same data must give the same ids after a night's pause.

    Args:
        today: the date for such a template, as 2026-01-31; the current date when empty.

    Attributes:
        today: that date; empty if the template does not use it.

    Raises InputError if the folder has no template, ConfigError for an unknown name, a template
    that is not valid Jinja, or one whose tokens the vocabulary lacks.
    """

    def __init__(self, tokenizer: Tokenizer, name: str = "", *, today: str = "") -> None:
        found = source(name) if name else of_folder(tokenizer.folder)
        if found is None:
            raise InputError(
                f"{tokenizer.folder} carries no chat template ({FILE}); it is the tokenizer of a"
                f" base model. Name one: {', '.join(names())}"
            )
        self.name = name or str(tokenizer.folder / FILE)
        self.source = found
        self._tokenizer = tokenizer
        self._special = tokenizer.special_tokens
        self._split, self._guarded = _patterns(tokenizer)
        day = datetime.fromisoformat(today) if today else None
        self.today = (day or datetime.now()).date().isoformat() if "strftime_now" in found else ""
        self._template = _compile(found, self.name, day)
        self._roles = tokenizer.special_roles
        self._need()

    @property
    def end_ids(self) -> list[int]:
        """The tokens that end an answer, where a decoder stops. EOS is always one."""
        encoded = self.encode(_PROBE)
        last = int(encoded.ids[np.flatnonzero(encoded.mask)[-1]])
        ends = {self._tokenizer.eos_id}
        if last in set(self._special.values()):
            ends.add(last)
        return sorted(ends)

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
        """Render a conversation as transformers does; InputError if the template refuses it."""
        from jinja2 import TemplateError

        try:
            text: str = self._template.render(
                messages=[dict(m) for m in messages],
                add_generation_prompt=generation_prompt,
                tools=None,
                documents=None,
                **self._roles,
            )
            return text
        except TemplateError as error:
            raise InputError(f"chat template {self.name}: {error}") from error

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask for the next answer: all messages, then the generation prompt."""
        text = self.render(self._guard(messages), generation_prompt=True)
        ids: list[int] = self._encode([(text, [])])[0].ids.tolist()
        return ids

    def encode(self, messages: Sequence[Message]) -> Encoded:
        """A conversation's ids and its loss mask."""
        return self.encode_many([messages])[0]

    def encode_many(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """`encode` for many conversations, several times faster than one by one."""
        return self._encode([self._answers(self._guard(m)) for m in conversations])

    def encode_each(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded | str]:
        """`encode_many`, with the reason in place of a conversation that the template refuses."""
        try:
            return list(self.encode_many(conversations))
        except InputError as error:
            if len(conversations) == 1:
                return [str(error)]
        return [one for messages in conversations for one in self.encode_each([messages])]

    # --- text and spans ---

    def _answers(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered conversation, and the (begin, end) of its answers, end tokens included."""
        text = self.render(messages)
        spans = []
        for i, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            begin = self.render(messages[:i], generation_prompt=True)
            end = self.render(messages[: i + 1]) if i + 1 < len(messages) else text
            # A generation prompt may lack the space that an answer begins with (Vicuna's).
            if not (text.startswith(begin) and text.startswith(end)):
                raise InputError(
                    f"chat template {self.name} rewrites earlier turns (message {i + 1} is rendered"
                    " differently once another follows), so no loss mask can be made; choose"
                    f" another: {', '.join(names())}"
                )
            stops = [m.end() for m in self._split.finditer(text, len(begin), len(end))]
            spans.append((len(begin), stops[-1] if stops else len(end)))
        return text, spans

    def _guard(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with a guard inside each look-alike of a special token."""
        if self._guarded is None:
            return list(messages)
        pattern = self._guarded

        def guarded(value: Any) -> Any:
            if isinstance(value, str):
                return pattern.sub(lambda m: m[0][0] + _GUARD + m[0][1:], value)
            if isinstance(value, Mapping):
                return {k: guarded(v) for k, v in value.items()}
            return [guarded(v) for v in value] if isinstance(value, list | tuple) else value

        return [guarded(m) for m in messages]

    # --- text to ids ---

    def _encode(self, texts: Sequence[tuple[str, list[tuple[int, int]]]]) -> list[Encoded]:
        """The ids and masks of rendered texts, each with the spans where its mask is true."""
        cut = [_Cut(text, spans, self._split) for text, spans in texts]
        stretches = [part for c in cut for part in c.stretches]
        ids, lengths = self._tokenizer.encode_raw([_unguarded(s) for s in stretches])
        rows = np.split(ids, np.cumsum(lengths)[:-1]) if stretches else []
        encoded, at = [], 0
        for c in cut:
            encoded.append(c.join(rows[at : at + len(c.stretches)], self._special))
            at += len(c.stretches)
        return encoded

    def _need(self) -> None:
        """Refuse a template whose tokens the vocabulary lacks: they would be encoded as letters."""
        found = re.match(r"\{#-? needs: (.*?) -?#\}", self.source)
        lacking = [t for t in found[1].split() if t not in self._special] if found else []
        if lacking:
            raise ConfigError(
                f"chat template {self.name} needs the tokens {' '.join(lacking)}, which the"
                f" vocabulary in {self._tokenizer.folder} lacks; choose another template:"
                f" {', '.join(n for n in names() if n != self.name)}"
            )


_PROBE: list[Message] = [
    {"role": "user", "content": "问"},
    {"role": "assistant", "content": "答"},
]
# A noncharacter, which Unicode keeps out of exchanged text. The rule control_characters removes it
# from corpora, `_unguarded` from messages.
_GUARD = "\ufdd0"


def _unguarded(text: str) -> str:
    return text.replace(_GUARD, "")


class _Cut:
    """A rendered text, cut at its special tokens.

    `stretches` holds the texts to encode: every stretch between two special tokens and, if a span
    begins or ends inside one, also its part before that edge. The ids that both begin with lie
    before the edge; a token across the edge counts as behind it.
    """

    def __init__(self, text: str, spans: list[tuple[int, int]], split: re.Pattern[str]) -> None:
        self.stretches: list[str] = []
        self._parts: list[tuple[str, int, int, list[tuple[int, int]]]] = []
        self._spans = spans
        edges = sorted({edge for span in spans for edge in span})
        at = 0
        for match in [*split.finditer(text), None]:
            begin, end = match.span() if match else (len(text), len(text))
            if at < begin:
                self._add_text(text, at, begin, edges)
            if match:
                self._parts.append((match[match.lastgroup or 0], begin, end, []))
            at = end

    def _add_text(self, text: str, begin: int, end: int, edges: list[int]) -> None:
        number = len(self.stretches)
        self.stretches.append(text[begin:end])
        inside = []
        for edge in edges:
            if begin < edge < end:
                inside.append((edge, len(self.stretches)))
                self.stretches.append(text[begin:edge])
        self._parts.append(("", begin, number, inside))

    def join(self, rows: Sequence[NDArray[np.int32]], special: Mapping[str, int]) -> Encoded:
        """Put the parts' ids end to end; a token that begins inside a span is in the mask."""
        ids: list[NDArray[np.int32]] = []
        places: list[NDArray[np.int64]] = []  # the character at which each token begins
        for token, begin, number, inside in self._parts:
            if token:
                ids.append(np.array([special[token]], dtype=np.int32))
                places.append(np.array([begin], dtype=np.int64))
                continue
            row = rows[number]
            place = np.full(row.size, begin, dtype=np.int64)
            for edge, before in inside:
                place[_shared(rows[before], row) :] = edge
            ids.append(row)
            places.append(place)
        if not ids:
            return Encoded(np.zeros(0, np.int32), np.zeros(0, np.bool_))
        at = np.concatenate(places)
        mask = np.zeros(at.size, dtype=np.bool_)
        for begin, end in self._spans:
            mask |= (at >= begin) & (at < end)
        return Encoded(np.concatenate(ids), mask)


def _shared(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """The length of the longest common prefix."""
    n = min(a.size, b.size)
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if different.size else n


def _patterns(tokenizer: Tokenizer) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
    """The pattern that cuts a rendered text, and the one that finds a message's look-alikes."""
    tokens = sorted(tokenizer.special_tokens, key=len, reverse=True)  # the longest match wins
    if not tokens:
        return re.compile(r"(?!)"), None
    strips = tokenizer.special_strips
    forms = []
    for i, token in enumerate(tokens):
        left, right = strips.get(token, (False, False))
        body = f"(?P<t{i}>{re.escape(token)})"
        forms.append((r"\s*" if left else "") + body + (r"\s*" if right else ""))
    # A guard cannot break a token of one character.
    broken = [re.escape(t) for t in tokens if len(t) > 1]
    return re.compile("|".join(forms)), re.compile("|".join(broken))


def _compile(text: str, name: str, day: datetime | None) -> Any:
    """Compile a template in the sandboxed environment that transformers uses."""
    import json

    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}…` marks answers for transformers; here it renders its content."""

        tags = {"generation"}  # noqa: RUF012 (jinja2's interface)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: (day or datetime.now()).strftime(form)
    try:
        return environment.from_string(text)
    except TemplateError as error:
        raise ConfigError(f"chat template {name} is not valid Jinja: {error}") from error
