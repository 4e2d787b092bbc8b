"""An endpoint on this machine: as much of OpenAI's chat protocol as asking needs, and its failures.

`answer` decides what the model behind it says; `faults` go wrong one after the other, a request
each, before anything is answered. Tokens are counted as characters.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Fault:
    """What goes wrong with one request."""

    status: int = 200
    message: str = "no"
    retry_after: str = ""
    body: bytes | None = None  # instead of an answer
    cut: bool = False  # the connection closes in the middle of the answer
    drop: bool = False  # the connection closes before any answer
    wait: float = 0.0  # seconds before the answer
    location: str = ""


@dataclass
class LookalikeEndpoint:
    """`with LookalikeEndpoint() as fake:` answers at `fake.url`; `fake.asked` holds the bodies."""

    answer: Callable[[dict[str, Any]], str] = lambda body: "好的。"
    faults: list[Fault] = field(default_factory=list)
    key: str = ""
    usage: bool = True
    finish: str = "stop"
    seconds: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_a_time: int = 0

    def __enter__(self) -> LookalikeEndpoint:
        self.lock = threading.Lock()
        self.now = 0
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def contents(self) -> list[str]:
        """The last message of every request that arrived."""
        return [body["messages"][-1]["content"] for body in self.asked]


class _Handler(BaseHTTPRequestHandler):
    fake: LookalikeEndpoint
    protocol_version = "HTTP/1.1"
    _under_way = False

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake = self.fake
        with fake.lock:
            fake.asked.append(body)
            fake.headers.append(dict(self.headers.items()))
            fault = fake.faults.pop(0) if fake.faults else Fault()
            fake.now += 1
            fake.most_at_a_time = max(fake.most_at_a_time, fake.now)
        self._under_way = True
        try:
            self._reply(body, fault)
        except OSError:
            self.close_connection = True
        finally:
            self._answered()

    def _answered(self) -> None:
        """The request no longer counts, before its answer leaves: the next may follow at once."""
        with self.fake.lock:
            self.fake.now -= self._under_way
            self._under_way = False

    def _reply(self, body: dict[str, Any], fault: Fault) -> None:
        fake = self.fake
        time.sleep(fault.wait or fake.seconds)
        if fault.drop:
            self.close_connection = True
            return
        if fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}":
            said = f"Incorrect API key provided: {self.headers.get('Authorization')}"
            fault = Fault(401, message=said)
        if self.path != "/v1/chat/completions":
            fault = Fault(404, message="no such path")
        if fault.status != 200:
            self._send(json.dumps({"error": {"message": fault.message}}).encode(), fault)
            return
        text = fake.answer(body)
        value: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": fake.finish,
                }
            ],
        }
        if fake.usage:
            asked = sum(len(m["content"]) for m in body["messages"])
            value["usage"] = {"prompt_tokens": asked, "completion_tokens": len(text)}
        data = json.dumps(value).encode() if fault.body is None else fault.body
        self._send(data, fault)

    def _send(self, data: bytes, fault: Fault) -> None:
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        if fault.location:
            self.send_header("Location", fault.location)
        self._answered()
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault.cut else data)
        self.wfile.flush()
        if fault.cut:
            self.close_connection = True
