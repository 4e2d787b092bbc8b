"""A hub on this machine: as much of Hugging Face's and ModelScope's protocol as a download needs.

It serves files from memory, speaks ranges, redirects as the real ones do to their storage, and can
be told to fail: an error status, a connection cut after some bytes, a server without ranges.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fault:
    """What goes wrong with the next answer: `status` instead of it, or a `cut` after some bytes."""

    status: int = 0
    code: str = ""
    cut: int = -1
    ignore_range: bool = False
    wait: threading.Event | None = None


@dataclass
class Hub:
    """`with Hub() as hub:` serves `hub.repos` at `hub.url`; `hub.log` holds what was asked."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    log: list[tuple[str, str]] = field(default_factory=list)
    commit: str = COMMIT
    lie_about_sums: bool = False

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def ranges(self, path: str) -> list[str]:
        """The ranges asked of a file, in order; empty text for a request of all of it."""
        return [wanted for asked, wanted in self.log if asked == path]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(split.query).items()}
        parts = unquote(split.path).strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            self._hf_listing("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif parts[:1] == ["datasets"]:
            repo, path = "/".join(parts[1:3]), "/".join(parts[5:])
            assert parts[3] == "resolve" and parts[4] == self.hub.commit
            if not self._fails(f"resolve {path}"):
                self._redirect(f"/storage/{repo}/{path}")
        elif parts[:3] == ["api", "v1", "datasets"]:
            repo = "/".join(parts[3:5])
            if parts[-1] == "tree":
                self._ms_listing(repo, query)
            else:
                self._redirect(f"/storage/{repo}/{query['FilePath']}")
        elif parts[0] == "storage":
            self._file("/".join(parts[1:3]), "/".join(parts[3:]))
        else:
            self._answer(404, b"{}", {})  # what else huggingface_hub likes to ask

    def _hf_listing(self, repo: str, revision: str) -> None:
        if self._fails("listing"):
            return
        if repo not in self.hub.repos:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        if revision not in ("main", self.hub.commit):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = []
        for path, data in self.hub.repos[repo].items():
            entry: dict[str, object] = {"rfilename": path, "size": len(data)}
            git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            entry["blobId"] = git
            if not path.endswith((".md", ".csv")):
                sha = hashlib.sha256(b"another file" if self.hub.lie_about_sums else data)
                entry["lfs"] = {"sha256": sha.hexdigest(), "size": len(data), "pointerSize": 133}
            siblings.append(entry)
        body = {"id": repo, "sha": self.hub.commit, "siblings": siblings, "tags": []}
        self._answer(200, json.dumps(body).encode(), {})

    def _ms_listing(self, repo: str, query: dict[str, str]) -> None:
        if self._fails("listing"):
            return
        if repo not in self.hub.repos:
            self._answer(404, b'{"Success": false}', {})
            return
        files = [
            {
                "Path": path,
                "Name": path.rsplit("/", 1)[-1],
                "Type": "blob",
                "Size": len(data),
                "Sha256": hashlib.sha256(data).hexdigest(),
            }
            for path, data in self.hub.repos[repo].items()
        ]
        files.insert(0, {"Path": "data", "Name": "data", "Type": "tree", "Size": 0})
        size, page = int(query["PageSize"]), int(query["PageNumber"])
        page_files = files[(page - 1) * size : page * size]
        body = {"Code": 200, "Success": True, "Data": {"Files": page_files}}
        self._answer(200, json.dumps(body).encode(), {})

    def _file(self, repo: str, path: str) -> None:
        data = self.hub.repos[repo][path]
        wanted = self.headers.get("Range", "")
        self.hub.log.append((path, wanted))
        fault = self.hub.faults[path].pop(0) if self.hub.faults[path] else Fault()
        if fault.status:
            self._answer(fault.status, b"", {"X-Error-Code": fault.code} if fault.code else {})
            return
        start = 0
        if wanted and not fault.ignore_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        body = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(body if fault.cut < 0 else body[: fault.cut])
        self.wfile.flush()
        if fault.wait is not None:
            fault.wait.wait(60)
        if fault.cut >= 0:
            self.close_connection = True

    def _fails(self, what: str) -> bool:
        if not self.hub.faults[what]:
            return False
        fault = self.hub.faults[what].pop(0)
        self._answer(fault.status, b"{}", {"X-Error-Code": fault.code} if fault.code else {})
        return True

    def _redirect(self, to: str) -> None:
        self._answer(302, b"", {"Location": to})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
