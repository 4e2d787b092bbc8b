"""One request to an OpenAI-compatible endpoint: `POST URL/chat/completions`.

The standard library's HTTP is enough: an answer takes seconds, so keeping connections saves
nothing, and many requests at a time are threads (`asking.py`). What may pass is tried again with
growing pauses: 429 and 5xx (as long as `Retry-After` says), a connection refused or cut, an answer
that takes too long or is not JSON. What will not pass ends the work with one sentence: a wrong
key, an unknown model, an address that is no endpoint. A request that the endpoint refuses for
itself (400, 413, 422: a filter of content, too long) is a reply with `refused` set.

The key comes from an environment variable and goes into the `Authorization` header alone: it is in
no config, journal or message (servers like to repeat a wrong key, so messages are searched for
it), and redirects, which would carry it elsewhere, are refused.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

from hanllama.base.errors import ConfigError, HanllamaError
from hanllama.feedback.options import AskConfig

MOST_BYTES = 16 * 2**20  # no answer is longer; a server that never ends would fill the memory
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 600.0
_REFUSALS = (400, 413, 422)
_PASSING = (408, 409, 425, 429)  # and 5xx


class EndpointError(HanllamaError):
    """The endpoint cannot be used: no answer after every try, a wrong key, an unknown model."""


@dataclass(frozen=True)
class Reply:
    """What came back for one request.

    Attributes:
        text: the answer; "" where it was refused.
        finish: `stop`, `length` (cut at max_tokens) or what the server calls it.
        prompt_tokens, answer_tokens: as the server counts them; None where it does not.
        refused: why the endpoint will not answer this request; "" where it did.
        tries: requests sent, 1 where the first was answered.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    refused: str = ""
    tries: int = 1


class _Passing(Exception):
    """What may be gone on another try; `pause` is the server's wish in seconds."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


class Endpoint:
    """An address, a model behind it, and how it is asked.

    Args:
        url: up to the version: `http://localhost:8000/v1`.
        model: the model's name there.
        ask: timeouts, retries, sampling, the key's variable.
        first_pause: seconds before the second try, doubled each time; tests shorten it.

    Raises ConfigError for an address that is none, holds a password, or a key with white space.
    """

    def __init__(self, url: str, model: str, ask: AskConfig, first_pause: float = 1.0) -> None:
        self.url = _address(url)
        self.model = model
        self._ask = ask
        self._key = _key(ask.api_key_variable)
        self._first_pause = first_pause
        self._opener = urllib.request.build_opener(_NoRedirect())
        self._stopped = threading.Event()
        self._open_at = 0.0  # time.monotonic() before which nobody asks: the server said so

    def body(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The request as it is sent; equal bodies are equal requests."""
        return {
            "model": self.model,
            "messages": [dict(m) for m in messages],
            "max_tokens": self._ask.max_tokens,
            "temperature": self._ask.temperature,
            "top_p": self._ask.top_p,
        }

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Reply:
        """Ask once, and again as long as it may help.

        Raises EndpointError when it does not, InterruptedError after `stop`.
        """
        data = json.dumps(self.body(messages), ensure_ascii=False).encode("utf-8", "replace")
        pause, last = self._first_pause, ""
        for number in range(1, self._ask.retries + 2):
            self._wait_until_open()
            try:
                reply = self._once(data)
            except _Passing as error:
                last = str(error)
                if number <= self._ask.retries:
                    wish = error.pause if error.pause is not None else 0.0
                    # Spread, so that many waiting clients do not come back together.
                    self._pause(max(wish, pause * random.uniform(0.5, 1.0)), wish)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            return Reply(**{**reply, "tries": number})
        raise EndpointError(
            f"{self.url} gave no answer in {self._ask.retries + 1} tries; the last: {last}. The"
            " same command goes on from here"
        )

    def stop(self) -> None:
        """Nobody waits for a pause any more."""
        self._stopped.set()

    # --- waiting ---

    def _wait_until_open(self) -> None:
        # A 429 holds back every thread, not only the one that met it.
        if self._stopped.wait(max(self._open_at - time.monotonic(), 0.0)):
            raise InterruptedError

    def _pause(self, seconds: float, wish: float) -> None:
        if wish > LONGEST_RETRY_AFTER_SECONDS:
            raise EndpointError(
                f"{self.url} asks for a pause of {wish:,.0f} seconds; try the same command later,"
                " it goes on from here"
            )
        if wish:
            self._open_at = max(self._open_at, time.monotonic() + wish)
        if self._stopped.wait(seconds):
            raise InterruptedError

    # --- one try ---

    def _once(self, data: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, data=data, headers=headers, method="POST")
        until = time.monotonic() + self._ask.timeout
        try:
            with self._opener.open(request, timeout=self._ask.timeout) as response:
                answer = _read(response, until)
        except urllib.error.HTTPError as error:
            with error:
                return self._refusal(error, until)
        except urllib.error.URLError as error:
            raise _Passing(f"cannot be reached: {self._clean(str(error.reason))}") from error
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise _Passing(f"the connection broke: {self._clean(why)}") from error
        return _understood(answer)

    def _refusal(self, error: urllib.error.HTTPError, until: float) -> dict[str, Any]:
        """An answer that is no 200: passing, for this request alone, or for all of them."""
        try:
            said = self._clean(_message(_read(error, until)))
        except (OSError, http.client.HTTPException, _Passing):
            said = ""  # the status alone says enough
        what = f"status {error.code}" + (f": {said}" if said else "")
        if error.code in _PASSING or error.code >= 500:
            raise _Passing(what, _retry_after(error.headers.get("Retry-After")))
        if error.code in (401, 403):
            held = "is not accepted" if self._key else "is not set"
            raise EndpointError(
                f"{self.url} wants a key, and the one in the environment variable"
                f" {self._ask.api_key_variable} {held} ({what})"
            )
        if error.code in (404, 405) or error.code // 100 == 3:
            raise EndpointError(
                f"{self.url} does not answer as an endpoint with a model {self.model!r} ({what});"
                " check the address (it usually ends in /v1) and the model's name"
            )
        if error.code in _REFUSALS:
            return {"text": "", "finish": "refused", "refused": what}
        raise EndpointError(f"{self.url} answers {what}")

    def _clean(self, said: str) -> str:
        if self._key:
            said = said.replace(self._key, "[key]")
        return " ".join(said.split())[:300]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None  # the 3xx becomes an HTTPError


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"endpoint {url!r} is no address; give one like http://localhost:8000/v1")
    if parts.username or parts.password:
        raise ConfigError("the endpoint's address must hold no password; see api_key_variable")
    if parts.query or parts.fragment:
        raise ConfigError("the endpoint's address must end before any ? or #")
    plain = url.rstrip("/")
    return plain if plain.endswith("/chat/completions") else plain + "/chat/completions"


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip() if variable else ""
    if not re.fullmatch(r"[!-~]*", key):
        raise ConfigError(f"the key in {variable} holds characters that no key has")
    return key


def _read(response: IO[bytes], until: float) -> bytes:
    """The body, within the time and the size that an answer may take."""
    parts: list[bytes] = []
    size = 0
    take = getattr(response, "read1", response.read)
    while part := take(65536):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise _Passing(f"an answer of more than {MOST_BYTES:,} bytes")
        if time.monotonic() > until:
            raise _Passing("the answer took longer than the timeout")
    length = getattr(response, "length", 0)
    if length:  # http.client leaves here what was promised and did not come
        raise _Passing("the answer was cut short")
    return b"".join(parts)


def _understood(answer: bytes) -> dict[str, Any]:
    try:
        value = json.loads(answer)
        choice = value["choices"][0]
        text = choice["message"]["content"]
        usage = value.get("usage") or {}
        finish = choice.get("finish_reason") or "stop"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        shown = answer[:100].decode("utf-8", "backslashreplace")
        raise _Passing(f"an answer that is not as the protocol has it: {shown!r}") from error
    if text is not None and not isinstance(text, str):
        raise _Passing("an answer whose content is not text")
    return {
        "text": text or "",
        "finish": str(finish),
        "prompt_tokens": _count(usage, "prompt_tokens"),
        "answer_tokens": _count(usage, "completion_tokens"),
    }


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def _message(body: bytes) -> str:
    """What an error says: `{"error": {"message": …}}`, or the text itself."""
    try:
        value = json.loads(body)
    except ValueError:
        return body[:2000].decode("utf-8", "replace")
    error = value.get("error", value) if isinstance(value, dict) else value
    said = error.get("message", error) if isinstance(error, dict) else error
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header: a number, or a date."""
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None
