"""`hanllama data fetch NAME`: download a named public data set, check it, convert it to our form.

Each file is downloaded (resuming an earlier try), checked by size and checksum, converted to lines
of ours and removed. So no later stage needs a set's form, and the disk needs room for the result
and one published file. Finished files lie in `OUTPUT.partial` (`base/making.py`) until the output
folder is complete.

The hub's first answer (commit, files, checksums) is saved before the first download: a set that is
updated in between does not become half old and half new.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from hanllama.base import fs, hub
from hanllama.base.card import aligned
from hanllama.base.config import Natural, checked, option
from hanllama.base.errors import ConfigError, InputError, StorageError
from hanllama.base.hub import Listing, RemoteFile
from hanllama.base.making import Making, making
from hanllama.base.progress import Progress
from hanllama.corpus.fetch import sets, unpack

MANIFEST = "manifest.json"  # readers of corpora skip this name
# Files beside the data that a glob for JSON would match.
_NOT_DATA = ("dataset_infos.json", "configuration.json", "*/.*", ".*")


@checked
class FetchConfig:
    """Options of `hanllama data fetch`."""

    name: str = option(
        "",
        positional=True,
        help="a set's name, or your own set file (.py); without it the sets are listed",
    )
    output: str = option("", help="the folder to write")
    hub: Literal["huggingface", "modelscope"] | None = option(
        None, help="where to download from; default: HANLLAMA_HUB, else huggingface"
    )
    revision: str = option("", help="a branch, tag or commit; without it the main branch")
    max_files: Natural = option(0, help="take only the first files; 0 means all")
    max_bytes: Natural = option(0, help="take the first files up to this size; 0 means all")
    force: bool = option(
        False, help="replace the output folder, and discard an unfinished download"
    )

    def __post_init__(self) -> None:
        if self.name and not self.output:
            raise ConfigError("--output is required (the folder to write)")


def fetch(config: FetchConfig) -> None:
    """Download a set, or list the sets."""
    if not config.name:
        print(overview())
        return
    with making(
        config.output,
        force=config.force,
        made_from=lambda: _request(config),
        published=lambda output: _published(output, _request(config)),
        changed="refuse",
    ) as made:
        if not made.complete:
            _fetch(config, made)


def _fetch(config: FetchConfig, made: Making) -> None:
    found, service = sets.load(config.name), hub.open_hub(made.made_from["hub"])
    listing = _begin(made, found, service, config)
    parts = _download_all(made.folder, found, service, listing)
    facts = _publish(made, found, listing, parts)
    print(_summary(made.output, found, facts))


def overview() -> str:
    """A table of the sets that come with hanllama."""
    rows = [(n, f.stage, f.size, f.licence) for n, f in _all()]
    lines = []
    for line, (_, found) in zip(aligned(rows), _all(), strict=True):
        lines += [line, f"    {found.zh}", f"    {found.en}"]
    return "\n".join([*lines, "", "hanllama data fetch NAME --output FOLDER downloads one."])


def _all() -> list[tuple[str, sets.DataSet]]:
    return [(name, sets.load(name)) for name in sets.names()]


# --- the request -------------------------------------------------------------------------------


def _request(config: FetchConfig) -> dict[str, Any]:
    """The options that identify a download: resuming with others would mix two."""
    service = config.hub or os.environ.get("HANLLAMA_HUB") or "huggingface"
    return {
        "set": config.name,
        "hub": service,
        "asked_revision": config.revision,
        "max_files": config.max_files,
        "max_bytes": config.max_bytes,
    }


def _published(output: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request of a finished download; None when the folder is something else."""
    if not (output / MANIFEST).is_file() or not (output / fs.SUMS).is_file():
        return None
    held = fs.read_json(output / MANIFEST)
    found = {name: held.get(name) for name in request} if isinstance(held, dict) else None
    if found == request:
        fs.verify_sums(output)
    return found


def _begin(made: Making, found: sets.DataSet, service: hub.Hub, config: FetchConfig) -> Listing:
    """The files to download: as saved by an earlier try, else from the hub."""
    if made.state is not None:
        files = tuple(RemoteFile(**f) for f in made.state["files"])
        return Listing(made.state["repo"], made.state["revision"], files)
    repo = found.repo if service.name == "huggingface" else found.modelscope
    if not repo:
        other = "modelscope" if service.name == "huggingface" else "huggingface"
        raise InputError(f"{config.name} is not known on {service.name}; use --hub {other}")
    listing = service.listing(repo, config.revision)
    globs = found.files
    if service.name == "modelscope" and found.modelscope_files:
        globs = found.modelscope_files
    wanted = _chosen(listing, globs, config)
    made.save(repo=repo, revision=listing.revision, files=[asdict(f) for f in wanted])
    return Listing(repo, listing.revision, wanted)


def _chosen(
    listing: Listing, globs: tuple[str, ...], config: FetchConfig
) -> tuple[RemoteFile, ...]:
    """The data files in natural order, cut at the limits; InputError when there are none."""
    files = sorted(
        (
            f
            for f in listing.files
            if any(fnmatchcase(f.path, g) for g in globs)
            and not any(fnmatchcase(f.path, g) for g in _NOT_DATA)
        ),
        key=lambda f: _natural(f.path),
    )
    if not files:
        held = ", ".join(f.path for f in listing.files[:8]) or "nothing"
        raise InputError(
            f"{listing.repo} at {listing.revision} has no file {' or '.join(globs)} (it holds"
            f" {held}); the set has changed: give an earlier commit with --revision"
        )
    if config.max_files:
        files = files[: config.max_files]
    if config.max_bytes:
        total, kept = 0, 0
        for file in files:
            total += file.size
            kept += total <= config.max_bytes
        if not kept:
            raise InputError(
                f"--max-bytes {config.max_bytes:,} is less than the first file, {files[0].path}:"
                f" {files[0].size:,} bytes; raise it"
            )
        files = files[:kept]
    return tuple(files)


def _natural(path: str) -> list[tuple[int, str]]:
    """A sort key that puts `part_2` before `part_10`."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", path)]


# --- the work ----------------------------------------------------------------------------------


def _download_all(
    work: Path, found: sets.DataSet, service: hub.Hub, listing: Listing
) -> list[dict[str, Any]]:
    """Download and convert every file into `work/done`; returns the facts of each, in order."""
    done, raw = work / "done", work / "raw"
    with fs.storage(work):
        done.mkdir(parents=True, exist_ok=True)
        raw.mkdir(exist_ok=True)
    total = sum(f.size for f in listing.files)
    ready = [_facts_path(done, i).is_file() for i in range(len(listing.files))]
    before = sum(f.size for f, is_ready in zip(listing.files, ready, strict=True) if is_ready)
    before += sum(p.stat().st_size for p in raw.iterdir() if p.is_file())
    parts = []
    with Progress("fetch", total / 1e6, "MB", done=before / 1e6) as progress:
        for number, file in enumerate(listing.files):
            if not ready[number]:
                _one(number, file, done, raw, found, service, listing, progress)
            parts.append(fs.read_json(_facts_path(done, number)))
    return parts


def _one(
    number: int,
    file: RemoteFile,
    done: Path,
    raw: Path,
    found: sets.DataSet,
    service: hub.Hub,
    listing: Listing,
    progress: Progress,
) -> None:
    """Download a file, convert it, and write its facts (last: they mark it as done)."""
    # The name on disk keeps the suffix, which decides the format, without the hub's folders.
    target = raw / f"{number:05d}-{file.path.rsplit('/', 1)[-1]}"
    if not target.is_file():
        _check_room(raw, file)
        hub.download(
            service, listing, file, target, lambda n: progress.advance(n / 1e6, file=file.path)
        )
    source = f"{service.name}:{listing.repo}"
    if found.layout is None:
        folder = done / f"files-{number:05d}"
        shutil.rmtree(folder, ignore_errors=True)
        with fs.storage(folder):
            folder.mkdir()
        facts: dict[str, Any] = {"files": unpack.extract(target, folder)}
    else:
        part = done / f"part-{number:05d}.jsonl.zst"
        rejects = done / f"part-{number:05d}.quarantine.jsonl"
        facts = unpack.convert(target, file.path, found, source, part, rejects).to_dict()
    facts |= {"path": file.path, "size": file.size, "sha256": fs.sha256(target)}
    fs.write_json(_facts_path(done, number), facts)
    target.unlink()


def _facts_path(done: Path, number: int) -> Path:
    return done / f"facts-{number:05d}.json"


def _check_room(folder: Path, file: RemoteFile) -> None:
    """Refuse a download without room for the file and its conversion (about half its size)."""
    free = shutil.disk_usage(folder).free
    if free < 1.5 * file.size:
        raise StorageError(
            f"{file.path} has {file.size:,} bytes and {folder} has room for {free:,}; free some"
            " space, or choose another --output"
        )


def _publish(
    made: Making, found: sets.DataSet, listing: Listing, parts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Put the finished parts and the manifest into the output folder, in one step."""
    manifest = {
        **made.made_from,
        "repo": listing.repo,
        "revision": listing.revision,
        "licence": found.licence,
        "stage": found.stage,
        "languages": list(found.languages),
        "notes": found.notes,
        "files": parts,
    }
    with made.publish() as folder:
        done = made.folder / "done"
        for number in range(len(parts)):
            _move_in(done / f"files-{number:05d}", folder)
            for suffix in (".jsonl.zst", ".quarantine.jsonl"):
                name = f"part-{number:05d}{suffix}"
                if (done / name).is_file():
                    _link(done / name, folder / name)
        fs.write_json(folder / MANIFEST, manifest)
    return manifest


def _move_in(source: Path, folder: Path) -> None:
    """Link the files below `source` to the same places below `folder`."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(path, target)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name: a kill before the folder is published then loses nothing."""
    try:
        os.link(source, target)
    except OSError:  # no hard links here (another file system, Windows without rights)
        shutil.copyfile(source, target)


def _summary(output: Path, found: sets.DataSet, manifest: Mapping[str, Any]) -> str:
    files = manifest["files"]
    if found.layout is None:
        held = f"{sum(f['files'] for f in files):,} files as published"
    else:
        total = {k: sum(f[k] for f in files) for k in ("records", "characters", "unusable")}
        held = f"{total['records']:,} records, {total['characters']:,} characters"
        if total["unusable"]:
            held += f"; {total['unusable']:,} unusable records are in *.quarantine.jsonl"
    lines = [
        f"{output}: {held}",
        f"from {manifest['hub']}:{manifest['repo']} at {manifest['revision']}",
        f"licence as stated there: {found.licence}",
        *([f"note: {found.notes}"] if found.notes else []),
    ]
    return "\n".join(lines)
