"""Data set repositories on Hugging Face and ModelScope: list their files, download them safely.

Both hubs are read the same way: a listing (a commit, and the size and checksum of each file), and a
plain HTTP download of one file that resumes. huggingface_hub gives the listing, the login and the
HTTP session. The bytes are written here, because huggingface_hub 2 discards an unfinished file (its
pull request 4228); a connection that drops every half hour would never finish the 4 GB files of a
novel corpus.

`HF_ENDPOINT` names a mirror of Hugging Face, `MODELSCOPE_DOMAIN` another ModelScope (both are the
hubs' own variables). A file gets its name only when its size and its checksum are right; until then
it is `NAME.part`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from hanllama.base import fs
from hanllama.base.errors import ConfigError, CorruptError, InputError

CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 30.0
# Waits between attempts without any new byte; new bytes start the waits again.
RETRY_SECONDS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
PAGE_SIZE = 200  # files per page of ModelScope's listing


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository, with the hub's checksum (`git_sha1`: git's blob hash)."""

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one revision: a commit if the hub has commits."""

    repo: str
    revision: str
    files: tuple[RemoteFile, ...]


class HuggingFace:
    """huggingface.co, or the mirror that `HF_ENDPOINT` names.

    `listing` lists the files of a data set (an empty revision means the main branch), `url` is the
    address of a file's bytes, `headers` are those of a request, the user's login included.
    """

    name = "huggingface"

    def __init__(self) -> None:
        self.endpoint = _address("HF_ENDPOINT", "huggingface.co")

    def listing(self, repo: str, revision: str) -> Listing:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint)

        def ask() -> Any:
            return api.dataset_info(
                repo, revision=revision or None, files_metadata=True, timeout=TIMEOUT_SECONDS
            )

        info = _patiently(ask, repo, revision, self.endpoint)
        files = [
            RemoteFile(
                s.rfilename,
                int(s.size or 0),
                sha256=s.lfs.sha256 if s.lfs else "",
                git_sha1="" if s.lfs else (s.blob_id or ""),
            )
            for s in info.siblings or []
        ]
        return Listing(repo, info.sha, tuple(files))

    def url(self, repo: str, revision: str, path: str) -> str:
        return f"{self.endpoint}/datasets/{repo}/resolve/{quote(revision, safe='')}/{quote(path)}"

    def headers(self) -> dict[str, str]:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        return dict(build_hf_headers(library_name="hanllama"))


class ModelScope:
    """modelscope.cn by its HTTP interface: `repo/tree` lists, `repo?FilePath=` downloads.

    It names no commit for a branch; the files' checksums identify the state.
    """

    name = "modelscope"

    def __init__(self) -> None:
        self.endpoint = _address("MODELSCOPE_DOMAIN", "www.modelscope.cn")

    def listing(self, repo: str, revision: str) -> Listing:
        revision = revision or "master"
        files: list[RemoteFile] = []
        page = 1
        while True:
            ask = partial(self._page, repo, revision, page)
            entries = _patiently(ask, repo, revision, self.endpoint)
            files += [
                RemoteFile(e["Path"], int(e["Size"]), sha256=e.get("Sha256") or "")
                for e in entries
                if e.get("Type") != "tree"
            ]
            if len(entries) < PAGE_SIZE:
                return Listing(repo, revision, tuple(files))
            page += 1

    def _page(self, repo: str, revision: str, page: int) -> list[dict[str, Any]]:
        from huggingface_hub import get_session
        from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

        url = (
            f"{self._base(repo)}/tree?Recursive=True&Revision={quote_plus(revision)}&Root=/"
            f"&PageNumber={page}&PageSize={PAGE_SIZE}"
        )
        answer = get_session().get(url, headers=self.headers(), timeout=TIMEOUT_SECONDS)
        hf_raise_for_status(answer)
        body = answer.json()
        if not body.get("Success", True):
            raise InputError(f"{repo} on ModelScope: {body.get('Message', 'refused')}")
        return list((body.get("Data") or {}).get("Files") or [])

    def url(self, repo: str, revision: str, path: str) -> str:
        return f"{self._base(repo)}?Revision={quote_plus(revision)}&FilePath={quote_plus(path)}"

    def _base(self, repo: str) -> str:
        return f"{self.endpoint}/api/v1/datasets/{repo}/repo"

    def headers(self) -> dict[str, str]:
        return {"user-agent": "hanllama"}


Hub = HuggingFace | ModelScope


def open_hub(name: str) -> Hub:
    """`huggingface` or `modelscope`; ConfigError for another name or without huggingface_hub."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise ConfigError(
            "downloading needs the package huggingface_hub: pip install 'hanllama[data]'"
        ) from None
    for kind in (HuggingFace, ModelScope):
        if kind.name == name:
            return kind()
    raise ConfigError(f"hub {name!r} is not known; there are: huggingface, modelscope")


def _address(variable: str, usual: str) -> str:
    """A hub's address from the environment; a bare name (`hf-mirror.com`) gets https."""
    address = os.environ.get(variable, "").strip().rstrip("/") or usual
    return address if "://" in address else f"https://{address}"


def download(
    hub: Hub,
    listing: Listing,
    file: RemoteFile,
    target: Path,
    on_bytes: Callable[[int], None] = lambda n: None,
) -> None:
    """Download a file to `target`, resuming from `target.part` if it exists.

    Args:
        on_bytes: called with the number of new bytes; negative if bytes are discarded.

    Raises InputError if the hub is out of reach or refuses, CorruptError if two downloads do not
    match the listing, StorageError if the disk is full.
    """
    part = target.with_name(target.name + ".part")
    url = hub.url(listing.repo, listing.revision, file.path)
    for last in (False, True):
        _patiently(
            lambda: _go_on(url, hub.headers(), part, file.size, on_bytes),
            listing.repo,
            listing.revision,
            url,
            progress=lambda: part.stat().st_size if part.exists() else 0,
        )
        wrong = _wrong(part, file)
        if not wrong:
            break
        # The part may have begun with another state of the file: download once more from the start.
        on_bytes(-part.stat().st_size)
        part.unlink()
        if last:
            raise CorruptError(
                f"{file.path} of {listing.repo}: {wrong}, twice; the mirror {url.split('/')[2]} may"
                " hold an old copy: try another (HF_ENDPOINT) or --hub modelscope"
            )
    with fs.storage(target):
        with open(part, "rb") as done:
            os.fsync(done.fileno())
        os.replace(part, target)


def _go_on(
    url: str, headers: Mapping[str, str], part: Path, size: int, on_bytes: Callable[[int], None]
) -> None:
    """Request the missing bytes of `part` once; return when it has `size` bytes."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    have = part.stat().st_size if part.exists() else 0
    if have == size and part.exists():
        return
    if have > size:
        on_bytes(-have)
        part.unlink()
        have = 0
    # A compressed transfer would count other offsets and sizes.
    asked = {**headers, "accept-encoding": "identity"}
    if have:
        asked["range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=asked, timeout=TIMEOUT_SECONDS) as answer:
        if answer.status_code >= 400:
            answer.read()
        hf_raise_for_status(answer)
        if have and answer.status_code != 206:
            on_bytes(-have)  # the server sends everything again
            have = 0
        with fs.storage(part), open(part, "ab" if have else "wb") as out:
            # Written as they come: a cut connection would lose the last part of a larger chunk.
            for chunk in answer.iter_raw():
                out.write(chunk)
                have += len(chunk)
                on_bytes(len(chunk))
    if have < size:
        raise _CutShort(f"the connection ended at {have:,} of {size:,} bytes")


class _CutShort(Exception):
    """Fewer bytes than announced, and no error from the transport."""


def _patiently(
    ask: Callable[[], Any],
    repo: str,
    revision: str,
    where: str,
    *,
    progress: Callable[[], int] = lambda: 0,
) -> Any:
    """Ask until it works; retry passing errors (a cut connection, 5xx, 429) after a wait."""
    attempt, before = 0, progress()
    while True:
        with _explained(repo, revision, where):
            try:
                return ask()
            except Exception as error:
                now = progress()
                attempt, before = (0 if now > before else attempt), now
                if not _passing(error) or attempt >= len(RETRY_SECONDS):
                    raise
        time.sleep(RETRY_SECONDS[attempt])
        attempt += 1


def _passing(error: Exception) -> bool:
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, HTTPError | _CutShort)


@contextmanager
def _explained(repo: str, revision: str, where: str) -> Iterator[None]:
    """Turn errors of the hub and the network into messages that say what to do."""
    from huggingface_hub import errors

    told = (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled)
    try:
        yield
    except (*told, errors.HTTPError, _CutShort) as error:  # type: ignore[attr-defined]
        words = _words(error, repo, revision or "main", where.split("/")[2])
        raise InputError(words) from error


def _words(error: Exception, repo: str, revision: str, host: str) -> str:
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return (
                f"{repo} is gated: accept its terms at https://huggingface.co/datasets/{repo}, then"
                " log in with `hf auth login` (or set HF_TOKEN)"
            )
        case errors.RevisionNotFoundError():
            return (
                f"{repo} has no revision {revision!r}; leave --revision out, or give a commit of"
                " its history"
            )
        case errors.RepositoryNotFoundError():
            return (
                f"{repo} was not found at {host}: it was renamed or removed, or it is private and"
                " needs HF_TOKEN"
            )
        case errors.HFValidationError():
            return f"{repo!r} is no repository name: {error}"
        case errors.OfflineModeIsEnabled():
            return "the environment forbids downloads (HF_HUB_OFFLINE is set); unset it"
        case errors.HfHubHTTPError(response=response) if response.status_code == 404:
            return (
                f"{repo} at revision {revision!r} was not found at {host}; it was renamed or"
                " removed there: try the other hub"
            )
        case errors.HfHubHTTPError(response=response) if response.status_code in (401, 403):
            return (
                f"{repo}: {host} refuses access ({response.status_code}); log in with"
                " `hf auth login`, or set HF_TOKEN"
            )
        case errors.HfHubHTTPError(response=response):
            answer = f"{response.status_code} {response.reason_phrase}"
            return f"{repo}: {host} answers {answer}; {_ELSEWHERE}"
    return f"{repo}: {host} is out of reach ({error or type(error).__name__}); {_ELSEWHERE}"


_ELSEWHERE = (
    "try again later (the bytes so far are kept), use a mirror with"
    " HF_ENDPOINT=https://hf-mirror.com, or --hub modelscope"
)


def _wrong(part: Path, file: RemoteFile) -> str:
    """The difference of a downloaded file from its listing, in words; empty if none."""
    if file.sha256:
        found = fs.sha256(part)
        return "" if found == file.sha256 else f"sha256 is {found}, not {file.sha256}"
    if file.git_sha1:
        found = _git_sha1(part)
        return "" if found == file.git_sha1 else f"git hash is {found}, not {file.git_sha1}"
    return ""


def _git_sha1(path: Path) -> str:
    """The blob hash of git, which the hub gives for a file outside large-file storage."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
