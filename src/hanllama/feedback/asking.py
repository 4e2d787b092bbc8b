"""Many requests to an endpoint: in order, some at a time, each paid for once, within a budget.

Every reply is written to a journal before anybody sees it, so a killed command asks nothing twice:
the key of an entry is the whole request. The budget is kept by promise: before a request goes out,
the most it may use (a token for each byte of its prompt, and max_tokens) is set aside; one that no
longer fits is not sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hanllama.base import config as configs
from hanllama.base import fs
from hanllama.base.errors import CorruptError
from hanllama.base.fingerprint import Contents
from hanllama.base.making import Log, Making, flat, making
from hanllama.feedback.endpoint import Endpoint, EndpointError, Reply
from hanllama.feedback.options import MAY_CHANGE, MOST_AT_A_TIME, AskConfig
from hanllama.reading import records

JOURNAL = "answers.journal"  # of no suffix that the readers of corpora know
MANIFEST = "manifest.json"
# Replies that may wait for the one before them; what is asked must not depend on later ones.
WINDOW = 2 * MOST_AT_A_TIME
_MESSAGE_TOKENS = 16  # what a chat template puts around a message, generously
_REFUSED_IN_A_ROW = 8


@dataclass(frozen=True)
class Request:
    """Messages to be answered. Equal messages with different tags are asked separately."""

    messages: Sequence[Mapping[str, Any]]
    tag: str = ""


@dataclass
class Usage:
    """What was used, over all runs that wrote the journal.

    Attributes:
        requests: that were answered or refused.
        prompt_tokens, answer_tokens: as the server counts them.
        refused: requests that the endpoint will not answer.
        unreported: answers that came without a count.
        further_tries: requests sent beyond the first of each; a provider may bill some of them.
        replayed: answers taken from the journal in this run.
    """

    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    refused: int = 0
    unreported: int = 0
    further_tries: int = 0
    replayed: int = 0

    def add(self, reply: Reply) -> None:
        """Count one reply."""
        self.requests += 1
        self.further_tries += reply.tries - 1
        if reply.refused:
            self.refused += 1
        elif reply.prompt_tokens is None or reply.answer_tokens is None:
            self.unreported += 1
        self.prompt_tokens += reply.prompt_tokens or 0
        self.answer_tokens += reply.answer_tokens or 0

    def words(self, ask: AskConfig) -> str:
        """`12 requests, 3,456 + 7,890 tokens, cost 0.0123`."""
        cost = ask.cost(self.prompt_tokens, self.answer_tokens)
        return (
            f"{self.requests:,} requests ({self.replayed:,} from the journal), {self.refused:,}"
            f" refused, {self.further_tries:,} further tries; {self.prompt_tokens:,} tokens of"
            f" prompts and {self.answer_tokens:,} of answers"
            + (f", cost {cost:,.4f}" if ask.price_prompt or ask.price_answer else "")
        )


class Journal:
    """Every reply, a JSON line each, on the disk before it is used.

    A last line that a kill cut short is cut off; a broken line elsewhere is a CorruptError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.replies: dict[str, Reply] = {}
        self._log = Log(path, self._load() if path.is_file() else 0)

    def _load(self) -> int:
        """Read what is there; returns the length of the whole lines."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            try:
                entry = json.loads(line)
                key = entry.pop("key")
                self.replies[key] = Reply(**entry)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CorruptError(f"{self._path}, line {number}: no answer: {error}") from error
        return whole

    def add(self, key: str, reply: Reply) -> None:
        """Keep a reply; called by many threads."""
        line = json.dumps({"key": key, **asdict(reply)}, ensure_ascii=False) + "\n"
        with self._lock:
            self._log.write(line.encode("utf-8", "backslashreplace"))
            self._log.sync()
            self.replies[key] = reply

    def computed(self, what: Any, compute: Callable[[], Any]) -> Any:
        """The value noted for `what`, else what `compute` gives (plain values), noted.

        For a local model's work: a stopped command does it once as well.
        """
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        if key not in self.replies:
            self.add(key, Reply(json.dumps(compute(), ensure_ascii=False)))
        return json.loads(self.replies[key].text)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


class Asker:
    """Asks an endpoint many things.

        with Asker(endpoint, journal, ask) as asker:
            for reply in asker.replies(requests): ...      # in the order of the requests

    Attributes:
        usage: so far, what the journal held included.
        capped: a request was not sent because the budget might not have sufficed.
    """

    def __init__(self, endpoint: Endpoint, journal: Journal, ask: AskConfig) -> None:
        self._endpoint, self._journal, self._ask = endpoint, journal, ask
        self.usage = Usage()
        for reply in journal.replies.values():
            self.usage.add(reply)
        self.capped = False
        self._promised: dict[str, tuple[int, int]] = {}  # key -> (prompt, answer) at most
        self._under_way: dict[str, Future[Reply]] = {}
        self._jobs: queue.SimpleQueue[tuple[str, Request, Future[Reply]] | None]
        self._jobs = queue.SimpleQueue()
        self._refused = 0

    def __enter__(self) -> Asker:
        for _number in range(self._ask.concurrency):
            # Daemons: a thread that waits for an answer must not keep a stopped command alive.
            threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._endpoint.stop()  # nobody begins another try
        if kind is None:
            self._drain()
        for _number in range(self._ask.concurrency):
            self._jobs.put(None)

    def _drain(self) -> None:
        """Count what is still under way: it will be paid for. What was not sent is not."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    del self._under_way[job[0]]
        for future in self._under_way.values():
            if future.exception() is None:  # nobody needs this answer: its failure harms nothing
                self.usage.add(future.result())
        self._under_way.clear()

    def replies(self, requests: Iterable[Request | None]) -> Iterator[Reply]:
        """A reply for each request, in order; ends early when the budget does (see `capped`).

        Requests are taken as late as possible, at most WINDOW before the reply that is due. An
        iterator may give None for "not now": it is asked again after the next reply.

        Raises EndpointError when the endpoint cannot be used.
        """
        waiting: deque[tuple[str, Future[Reply]]] = deque()
        source, more = iter(requests), True
        held: Request | None = None  # it waits for the budget: an answer may use less than promised
        while True:
            while more and len(waiting) < min(2 * self._ask.concurrency, WINDOW):
                try:
                    request = held or next(source)
                except StopIteration:
                    more = False
                    break
                if request is None:
                    break
                sent = self._send(request)
                if sent is None:
                    held = request
                    if not waiting:
                        more, self.capped = False, True
                    break
                held = None
                waiting.append(sent)
            if not waiting:
                return
            key, future = waiting.popleft()
            reply = future.result()
            if self._under_way.pop(key, None) is not None:
                del self._promised[key]
                self._account(reply)
            yield reply

    def _send(self, request: Request) -> tuple[str, Future[Reply]] | None:
        """The reply to come of a request; None where the budget may not suffice for it."""
        body = self._endpoint.body(request.messages)
        text = json.dumps([body, request.tag], ensure_ascii=False, sort_keys=True)
        key = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
        future: Future[Reply] = Future()
        if key in self._journal.replies:
            self.usage.replayed += 1
            future.set_result(self._journal.replies[key])
            return key, future
        if key in self._under_way:  # the same question twice
            return key, self._under_way[key]
        contents = [str(m.get("content", "")) for m in request.messages]
        prompt = sum(_MESSAGE_TOKENS + len(c.encode("utf-8", "replace")) for c in contents)
        if not self._fits(prompt, self._ask.max_tokens):
            return None
        self._promised[key] = (prompt, self._ask.max_tokens)
        self._under_way[key] = future
        self._jobs.put((key, request, future))
        return key, future

    def _fits(self, prompt: int, answer: int) -> bool:
        prompts = self.usage.prompt_tokens + prompt + sum(p for p, _ in self._promised.values())
        answers = self.usage.answer_tokens + answer + sum(a for _, a in self._promised.values())
        ask = self._ask
        return (not ask.token_cap or prompts + answers <= ask.token_cap) and (
            not ask.cost_cap or ask.cost(prompts, answers) <= ask.cost_cap
        )

    def _account(self, reply: Reply) -> None:
        self.usage.add(reply)
        has_cap = self._ask.token_cap or self._ask.cost_cap
        if has_cap and not reply.refused and reply.answer_tokens is None:
            raise EndpointError(
                "the endpoint does not say how many tokens an answer used, so no cap can be kept;"
                " leave token_cap and cost_cap at 0"
            )
        self._refused = self._refused + 1 if reply.refused else 0
        if self._refused == _REFUSED_IN_A_ROW:
            raise EndpointError(
                f"the endpoint refused {_REFUSED_IN_A_ROW} requests in a row; the last:"
                f" {reply.refused}"
            )

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            key, request, future = job
            try:
                reply = self._endpoint.chat(request.messages)
                self._journal.add(key, reply)
            except BaseException as error:
                future.set_exception(error)  # raised again where the reply is waited for
                return  # jobs are taken in order, so the one that waits meets this failure first
            future.set_result(reply)


# --- the folder beside the output ----------------------------------------------------------------


class Work:
    """A command's output while it is being asked for, and the journal of the answers."""

    def __init__(self, made: Making, options: Mapping[str, Any]) -> None:
        self.made, self._options = made, options
        self.journal = Journal(made.folder / JOURNAL)

    @contextlib.contextmanager
    def publish(self, *, complete: bool, facts: Mapping[str, Any]) -> Iterator[Path]:
        """The output folder, with the journal and a manifest.

        Args:
            complete: False where a cap ended the work: the same command goes on.
            facts: what the manifest says besides the options.
        """
        with self.made.publish() as folder:
            yield folder
            shutil.copyfile(self.made.folder / JOURNAL, folder / JOURNAL)
            manifest = {"options": self._options, "complete": complete, **facts}
            fs.write_json(folder / MANIFEST, manifest)


@contextlib.contextmanager
def working(
    config: Any, *, reads: Sequence[str] = (), grows: Sequence[str] = ()
) -> Iterator[Work | None]:
    """Hold a command's output as `making` does; None where it is complete already.

        with working(config, reads=config.inputs, grows=["limit"]) as work:
            if work is None: return
            asker = Asker(endpoint, work.journal, config.ask)
            with work.publish(complete=True, facts={}) as folder: ...

    A finished output gives its journal back when only what MAY_CHANGE or `grows` names differs: a
    larger count goes on from what was answered before.

    Args:
        config: the command's config; `output` and `force` are left aside.
        reads: the files, folders and globs that the result depends on, by content.
        grows: further options that may change.
    """
    options = flat(configs.to_dict(config))
    del options["output"], options["force"]

    def made_from() -> dict[str, Any]:
        options.update(_contents(reads))
        return _deciding(options) | {"complete": True}

    with making(
        config.output,
        force=config.force,
        made_from=made_from,
        published=_published,
        grows={*grows, "complete"},
        changed="refuse",
    ) as made:
        if made.complete:
            yield None
            return
        made.save()  # from here on what is answered is kept
        earlier = made.output / JOURNAL
        if earlier.is_file() and not config.force and not (made.folder / JOURNAL).is_file():
            fs.write_bytes(made.folder / JOURNAL, earlier.read_bytes())
        work = Work(made, options)
        try:
            yield work
        finally:
            work.journal.close()


def _deciding(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in MAY_CHANGE}


def _published(output: Path) -> dict[str, Any] | None:
    """The values that a finished output was made from; None where it is something else."""
    manifest = output / MANIFEST
    held = fs.read_json(manifest) if manifest.is_file() else None
    if not isinstance(held, dict) or "options" not in held:
        return None
    fs.verify_sums(output)
    return _deciding(held["options"]) | {"complete": held["complete"]}


def _contents(names: Sequence[str]) -> dict[str, str]:
    """{"content of NAME": hash}; what comes through a pipe is not known before it is read."""
    with tempfile.TemporaryDirectory() as folder:
        contents = Contents(Path(folder) / "seen.json")
        hashes = {}
        for name in names:
            if name in ("", "-"):
                continue
            if Path(name).exists():
                hashes[name] = contents.of(Path(name))
            else:  # a glob; what is nothing at all is refused here
                parts = [contents.of(path) for path in records.files([name])]
                hashes[name] = hashlib.sha256("".join(parts).encode()).hexdigest()
    return {f"content of {name}": value for name, value in hashes.items()}
