"""`hanllama chat MODEL`: talk with a model on a terminal, or through a pipe.

On a terminal the answer appears as it is written, Ctrl-C ends the answer and not the program, and
a line that begins with / is a command. Through a pipe every line is a question (or a command), and
every answer is one line on stdout, for scripts; everything else goes to stderr. Both run the same
loop, `Chat.turn`.
"""

from __future__ import annotations

import contextlib
import json
import locale
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TextIO

from hanllama.base.errors import HanllamaError, InputError
from hanllama.base.pager import visible
from hanllama.base.plugins import nearest
from hanllama.chat.options import ChatConfig
from hanllama.chat.session import Answer, ModelSpeaker, Session, changed

BLOCK = '"""'
PROMPT, CONTINUED = "> ", "… "


def chat(config: ChatConfig) -> None:
    """Run the command. Raises InputError for a missing model or conversation."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    screen: Screen = Terminal() if interactive else Pipe(as_json=config.json)
    speaker, remarks = _speaker(config)
    session = Session(speaker, config.sampling(), config.system)
    if config.load:
        session.load(Path(config.load))
        session.system = config.system or session.system
    for remark in remarks:
        screen.tell(remark)
    Chat(session, screen, continues=speaker.continues).run()


def _speaker(config: ChatConfig) -> tuple[ModelSpeaker, list[str]]:
    """Load the model; return it with the remarks to print before the first question."""
    from hanllama.model.checkpoint import load_model
    from hanllama.model.decode import decoding_layout
    from hanllama.model.device import choose_device, choose_dtype
    from hanllama.tokenizer.chat import ChatTemplate, of_folder
    from hanllama.tokenizer.load import load_tokenizer

    tokenizer = load_tokenizer(config.model)
    remarks = []
    template = None
    if config.template or (of_folder(tokenizer.folder) and not config.continuation):
        template = ChatTemplate(tokenizer, config.template)
        if _is_base(config.model):
            remarks.append(
                f"{config.model} is a base model by its card: it was pretrained and not taught to"
                " answer. It may ramble; with --continuation it continues a text instead."
            )
    else:
        if not config.continuation:
            remarks.append(
                f"{config.model} is a base model: it carries no chat template and was not taught"
                " to answer. It continues what you type (continuation); to try a template, use"
                " --template NAME."
            )
        if config.system:
            raise InputError("a system prompt needs a chat template; see --template")
    device = choose_device(config.device)
    model = load_model(config.model, device=device, dtype=choose_dtype(config.dtype, device))
    decoding_layout(model)
    ends = {tokenizer.eos_id, *model.config.eos_ids, *(template.end_ids if template else ())}
    context = model.config.max_position_embeddings
    how = "conversation" if template else "continuation"
    remarks.append(f"{how}, context {context:,} tokens; /help shows the commands")
    return ModelSpeaker(model, tokenizer, template, sorted(ends)), remarks


def _is_base(folder: str) -> bool:
    """Whether the model's card lists only pretraining; false without a card."""
    from hanllama.model.card import read_card

    card = read_card(folder)
    return bool(card and card.lineage) and all(
        stage.name == "pretrain" for stage in (card.lineage if card else ())
    )


# --- the loop ------------------------------------------------------------------------------------


class Screen(Protocol):
    """The source of lines and the place for answers."""

    def lines(self) -> Iterator[str]:
        """Yield the typed messages and commands until the input ends."""
        ...

    def tell(self, text: str) -> None:
        """Print a remark of the program."""
        ...

    def show(self, pieces: Iterator[str], answer: Answer) -> None:
        """Print an answer as it comes."""
        ...

    def fail(self, why: str) -> None:
        """Print why a question gets no answer."""
        ...


class Chat:
    """The commands, and the loop over the typed lines.

    Args:
        session: the conversation.
        screen: a terminal or a pipe.
        continues: the model continues a text instead of answering.
    """

    def __init__(self, session: Session, screen: Screen, *, continues: bool = False) -> None:
        self.session, self.screen, self._continues = session, screen, continues
        self._stopped = False
        self._unanswered = ""  # the last question, if it was taken back: for /retry
        self._commands: dict[str, tuple[Callable[[str], None], str]] = {
            "/help": (self._help, "this list"),
            "/retry": (self._retry, "answer the last question again"),
            "/undo": (self._undo, "take back the last question and answer"),
            "/reset": (self._reset, "begin a new conversation"),
            "/history": (self._history, "show the conversation"),
            "/system": (self._system, "TEXT: set the system prompt; - for none; alone: show it"),
            "/set": (self._set, "NAME NUMBER: change a setting (temperature …); alone: show them"),
            "/save": (self._save, "FILE: write the conversation"),
            "/load": (self._load, "FILE: continue a saved conversation"),
            "/quit": (lambda rest: None, "leave (or Ctrl-D)"),
        }
        if continues:
            self._commands["/more"] = (self._more, "continue the last text")
            del self._commands["/system"]

    def run(self) -> None:
        """Take turns until the input ends or /quit."""
        for line in self.screen.lines():
            if line.strip() in ("/quit", "/exit"):
                return
            self.turn(line)

    def turn(self, line: str) -> None:
        """Handle one message or command; an error is printed, and the chat goes on."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                self._command(line)
            elif line.strip():
                self._ask(line[1:] if line.startswith("//") else line)
        except HanllamaError as error:
            self.screen.tell(str(error))

    def _command(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if name not in self._commands:
            raise InputError(
                f"there is no command {name}{nearest(name, list(self._commands))} (to send a"
                " message that begins with /, type //)"
            )
        self._commands[name][0](rest.strip())

    def _ask(self, question: str, *, instead: bool = False) -> None:
        """Ask and show the answer; with `instead`, it replaces the last exchange."""
        answer = Answer()
        self._stopped = False
        self._unanswered = "" if instead else question
        before = len(self.session.turns) // 2 - instead
        pieces = self.session.answer(question, answer, lambda: not self._stopped, instead=instead)
        try:
            with self._interruptible():
                self.screen.show(self._telling_what_is_left_out(pieces, answer, before), answer)
        except HanllamaError as error:
            self.screen.fail(str(error))
            if instead:
                self.screen.tell("the answer before stays")
            return
        if answer.finish == "length":
            self.screen.tell(
                f"cut at max_new_tokens {self.session.sampling.max_new_tokens:,}; /set"
                " max_new_tokens NUMBER allows more"
            )
        elif answer.finish == "context":
            self.screen.tell("cut because the context is full")
        elif answer.finish == "stopped":
            self.screen.tell("stopped")
        if answer.text.strip():
            self._unanswered = ""
        elif instead:
            self.screen.tell("no answer came; the one before stays")
        elif self._continues:
            self.screen.tell("nothing came after this text; the text before stays")
        else:
            self.screen.tell("no answer came; the question was taken back (/retry asks it again)")

    def _telling_what_is_left_out(
        self, pieces: Iterator[str], answer: Answer, before: int
    ) -> Iterator[str]:
        for number, piece in enumerate(pieces):
            if number == 0 and answer.forgotten:
                self.screen.tell(
                    f"the context is full: the model no longer sees the oldest {answer.forgotten:,}"
                    f" of {before:,} exchanges"
                )
            yield piece

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C ends the answer inside this block, and keeps its usual effect at the prompt."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopped = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # --- commands ---

    def _help(self, rest: str) -> None:
        width = max(map(len, self._commands))
        lines = [f"{name:<{width}}  {words}" for name, (_, words) in self._commands.items()]
        lines.append(f"a line ending in \\ continues on the next; {BLOCK} begins and ends a block")
        self.screen.tell("\n".join(lines))

    def _retry(self, rest: str) -> None:
        if self._unanswered:
            self._ask(self._unanswered)
        elif self.session.turns:
            self._ask(self.session.turns[-2]["content"], instead=True)
        else:
            raise InputError("nothing was asked yet")

    def _undo(self, rest: str) -> None:
        question = self.session.undo()
        if question is None:
            raise InputError("nothing was said yet")
        self._unanswered = ""
        self.screen.tell(f"taken back: {question}")

    def _reset(self, rest: str) -> None:
        self.session.reset()
        self._unanswered = ""
        self.screen.tell("a new conversation")

    def _history(self, rest: str) -> None:
        words = {"system": "system", "user": "you", "assistant": "model"}
        said = [f"{words[m['role']]}: {m['content']}" for m in self.session.messages]
        self.screen.tell("\n".join(said) or "nothing was said yet")

    def _system(self, rest: str) -> None:
        if rest:
            self.session.system = "" if rest == "-" else rest
        self.screen.tell(f"system prompt: {self.session.system or 'none'}")

    def _set(self, rest: str) -> None:
        if rest:
            name, _, value = rest.replace("=", " ").partition(" ")
            self.session.sampling = changed(self.session.sampling, name, value.strip())
        settings = vars(self.session.sampling).items()
        self.screen.tell("  ".join(f"{name} {value}" for name, value in settings))

    def _save(self, rest: str) -> None:
        self.session.save(_path(rest))
        self.screen.tell(f"saved {len(self.session.turns) // 2:,} exchanges in {rest}")

    def _load(self, rest: str) -> None:
        self.session.load(_path(rest))
        self._unanswered = ""
        self.screen.tell(f"{len(self.session.turns) // 2:,} exchanges from {rest}")

    def _more(self, rest: str) -> None:
        if not self.session.turns:
            raise InputError("nothing was written yet")
        question, written = self.session.turns[-2:]
        self._ask(question["content"] + written["content"])


def _path(name: str) -> Path:
    if not name:
        raise InputError("the file name is missing")
    return Path(name).expanduser()


def joined(read: Callable[[bool], str]) -> str:
    """Read one message: a block, lines that end in a backslash, or a single line.

    Args:
        read: returns the next line; its argument says whether the line continues a message.
            Raises EOFError.
    """
    line = read(False)
    if line.strip().startswith(BLOCK):
        first = line.strip()[len(BLOCK) :]
        if first.endswith(BLOCK):
            return first[: -len(BLOCK)]
        lines = [first] if first else []
        while not (line := read(True)).rstrip().endswith(BLOCK):
            lines.append(line)
        last = line.rstrip()[: -len(BLOCK)]
        return "\n".join([*lines, *([last] if last else [])])
    while line.endswith("\\"):
        line = line[:-1] + "\n" + read(True)
    return line


# --- a terminal ----------------------------------------------------------------------------------


class Terminal:
    """A person at a terminal, with readline's editing and history if available."""

    def __init__(self) -> None:
        _utf8_for_readline()
        # readline edits lines and recalls earlier ones; Windows' console does so itself.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401

    def lines(self) -> Iterator[str]:
        """Yield the typed lines. Ctrl-C drops the line, Ctrl-D leaves."""
        while True:
            try:
                yield joined(lambda goes_on: input(CONTINUED if goes_on else PROMPT))
            except KeyboardInterrupt:
                print()
            except UnicodeDecodeError:
                self.tell("the line is not valid in the terminal's encoding; type it again")
            except EOFError:
                print()
                return

    def tell(self, text: str) -> None:
        """Print a remark in dim letters."""
        print(f"\x1b[2m{visible(text)}\x1b[0m", flush=True)

    def show(self, pieces: Iterator[str], answer: Answer) -> None:
        """Print the answer as it comes, with escape codes made visible."""
        for piece in pieces:
            print(visible(piece), end="", flush=True)
        print()

    def fail(self, why: str) -> None:
        self.tell(why)


def _utf8_for_readline() -> None:
    """Give readline a UTF-8 locale if there is none, as in many containers.

    In the locale C, or in one that is not installed, readline takes the bytes of 你 for three keys.
    It reads the environment variable, not Python's locale.
    """
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
            os.environ["LC_ALL"] = "C.UTF-8"


# --- a pipe --------------------------------------------------------------------------------------


class Pipe:
    """A script: one message per line in, one answer per line out."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._number = 0

    def lines(self) -> Iterator[str]:
        """Yield the lines of standard input, without a byte order mark and \\r before \\n."""
        while True:
            try:
                yield joined(self._line)
            except EOFError:
                return

    def _line(self, goes_on: bool) -> str:
        data = sys.stdin.buffer.readline()
        if not data:
            raise EOFError
        self._number += 1
        try:
            text = data.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"standard input, line {self._number}: not UTF-8") from error
        return text.removesuffix("\n").removesuffix("\r")

    def tell(self, text: str) -> None:
        """Print a remark to stderr: stdout holds only answers."""
        print(f"hanllama: {visible(text)}", file=sys.stderr, flush=True)

    def show(self, pieces: Iterator[str], answer: Answer) -> None:
        """Print the complete answer as one line; line breaks inside are written as \\n."""
        for _ in pieces:
            pass
        if self._as_json:
            facts: dict[str, Any] = {"answer": answer.text, "finish": answer.finish}
            facts |= {"tokens": answer.tokens, "forgotten": answer.forgotten}
            _write_line(sys.stdout, json.dumps(facts, ensure_ascii=False))
        else:
            line = answer.text.strip().replace("\r", "").replace("\n", "\\n")
            _write_line(sys.stdout, line)

    def fail(self, why: str) -> None:
        """Print an empty line, so that questions and answers keep the same line numbers."""
        self.tell(why)
        failed = {"answer": "", "finish": "error", "error": why}
        _write_line(sys.stdout, json.dumps(failed, ensure_ascii=False) if self._as_json else "")


def _write_line(out: TextIO, line: str) -> None:
    """Write a line as UTF-8 in every locale, since the input is UTF-8."""
    out.flush()
    out.buffer.write(line.encode("utf-8", "replace") + os.linesep.encode())
    out.buffer.flush()
