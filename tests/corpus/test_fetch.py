"""Promises of `data fetch`: it goes on where it stopped, and never calls half a file whole."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.hub import COMMIT, Fault, Hub
from hanllama import cli
from hanllama.base import hub
from hanllama.base.errors import (
    ConfigError,
    CorruptError,
    HanllamaError,
    InputError,
    ResumeError,
    StorageError,
)
from hanllama.corpus.fetch import unpack
from hanllama.reading import records
from hanllama.reading.formats import _source

REPO, MODELSCOPE_REPO = "Skywork/SkyPile-150B", "AI-ModelScope/SkyPile-150B"
PATHS = [f"data/part_{n}.jsonl" for n in (2, 10, 1)]  # in natural order: 1, 2, 10


def part(seed: int, rows: int = 400) -> bytes:
    """JSON lines that do not compress to nothing."""
    draw = random.Random(seed)
    texts = ("".join(chr(draw.randint(0x4E00, 0x9FA5)) for _ in range(60)) for _ in range(rows))
    return b"".join(json.dumps({"text": t}, ensure_ascii=False).encode() + b"\n" for t in texts)


DATA = {path: part(seed) for seed, path in enumerate(PATHS)}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as made:
        made.repos[REPO] = made.repos[MODELSCOPE_REPO] = dict(DATA)
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", made.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HANLLAMA_HUB", raising=False)
        monkeypatch.setattr(hub, "RETRY_SECONDS", (0.01,) * 4)
        yield made


def fetch(out: Path, *more: str, name: str = "skypile") -> int:
    return cli.main(["--debug", "data", "fetch", name, "--output", str(out), *more])


def texts(folder: Path) -> list[str]:
    with records.Quarantine() as quarantine:
        found = [d.text for d in records.read([str(folder)], quarantine)]
    assert quarantine.count == 0
    return found


def wanted(*paths: str) -> list[str]:
    lines = [line for path in paths for line in DATA[path].splitlines()]
    return [json.loads(line)["text"] for line in lines]


EVERYTHING = wanted(PATHS[2], PATHS[0], PATHS[1])


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def manifest(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


# --- going on --------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["huggingface", "modelscope"])
def test_a_connection_cut_in_the_middle_goes_on_from_its_byte(
    served: Hub, tmp_path: Path, service: str
) -> None:
    served.faults[PATHS[0]] = [Fault(cut=30_000), Fault(status=503), Fault(cut=1), Fault(cut=0)]
    assert fetch(tmp_path / "out", "--hub", service) == 0
    assert texts(tmp_path / "out") == EVERYTHING
    assert served.ranges(PATHS[0]) == ["", *["bytes=30000-"] * 2, *["bytes=30001-"] * 2]


def test_a_server_that_ignores_ranges_sends_everything_again(served: Hub, tmp_path: Path) -> None:
    served.faults[PATHS[0]] = [Fault(cut=30_000), Fault(ignore_range=True)]
    assert fetch(tmp_path / "out") == 0
    assert texts(tmp_path / "out") == EVERYTHING


def test_many_cuts_that_each_bring_something_are_no_reason_to_give_up(
    served: Hub, tmp_path: Path
) -> None:
    served.faults[PATHS[0]] = [Fault(cut=2_000) for _ in range(30)]
    assert fetch(tmp_path / "out") == 0
    assert texts(tmp_path / "out") == EVERYTHING


def test_a_hub_that_stays_away_is_an_error_and_what_came_is_kept(
    served: Hub, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    served.faults[PATHS[0]] = [Fault(cut=30_000), *[Fault(status=502)] * 4]
    with pytest.raises(InputError, match=r"502.*HF_ENDPOINT=https://hf-mirror.com.*modelscope"):
        fetch(out)
    assert not out.exists()
    served.log.clear()
    assert fetch(out) == 0
    assert served.ranges(PATHS[0]) == ["bytes=30000-"]
    assert served.ranges(PATHS[2]) == [], "the first file was complete"
    assert texts(out) == EVERYTHING
    assert not list(tmp_path.glob("*.partial")), "the work folder is swept"


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_leaves_no_output_and_the_next_goes_on(
    served: Hub, tmp_path: Path, stop: signal.Signals
) -> None:
    out, reference = tmp_path / "out", tmp_path / "reference"
    release = threading.Event()
    served.faults[PATHS[0]] = [Fault(cut=40_000, wait=release)]
    words = [sys.executable, "-m", "hanllama", "data", "fetch", "skypile", "--output", str(out)]
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    process = subprocess.Popen(
        words,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    raw = tmp_path / "out.partial" / "raw"
    end = time.monotonic() + 60
    # Another file may have come as far before this one was asked for.
    while served.faults[PATHS[0]] or all(p.stat().st_size != 40_000 for p in raw.glob("*.part")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(stop)
    code = process.wait(30)
    release.set()
    assert code == (-stop if stop == signal.SIGKILL else 128 + stop)
    assert not out.exists()
    served.log.clear()
    assert fetch(out) == 0
    assert served.ranges(PATHS[0]) == ["bytes=40000-"] and served.ranges(PATHS[2]) == []
    assert fetch(reference) == 0
    assert content(out) == content(reference), "interrupted or not: the same bytes"


def test_the_same_command_again_downloads_nothing(
    served: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert fetch(out) == 0
    served.log.clear()
    capsys.readouterr()
    assert fetch(out) == 0
    assert served.log == [] and f"{out} is complete" in capsys.readouterr().out
    (out / "part-00000.jsonl.zst").write_bytes(b"damaged")
    with pytest.raises(CorruptError, match=r"part-00000"):
        fetch(out)


def test_a_set_that_changes_between_two_tries_is_not_mixed(served: Hub, tmp_path: Path) -> None:
    """The commit that was found first is the one that is finished."""
    out = tmp_path / "out"
    served.faults[PATHS[0]] = [*[Fault(status=500)] * 5]
    with pytest.raises(InputError):
        fetch(out)
    served.faults["listing"] = [Fault(status=500)] * 99  # asking again would fail
    assert fetch(out) == 0
    assert manifest(out)["revision"] == COMMIT


# --- right bytes -----------------------------------------------------------------------------


def test_a_part_of_another_file_is_noticed_and_fetched_anew(served: Hub, tmp_path: Path) -> None:
    out = tmp_path / "out"
    served.faults[PATHS[0]] = [Fault(cut=30_000), *[Fault(status=500)] * 5]
    with pytest.raises(InputError):
        fetch(out)
    (begun,) = (tmp_path / "out.partial" / "raw").glob("*.part")
    begun.write_bytes(b"x" * 30_000)
    assert fetch(out) == 0
    assert texts(out) == EVERYTHING


def test_bytes_that_are_twice_not_what_the_hub_lists_are_refused(
    served: Hub, tmp_path: Path
) -> None:
    served.lie_about_sums = True
    with pytest.raises(CorruptError, match=r"sha256 is .* not .*twice"):
        fetch(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_small_files_are_checked_by_gits_hash(served: Hub, tmp_path: Path) -> None:
    file = hub.RemoteFile("README.md", 6, git_sha1="0" * 40)
    served.repos[REPO]["README.md"] = b"hello\n"
    listing = hub.Listing(REPO, COMMIT, (file,))
    with pytest.raises(CorruptError, match="git hash is ce013625030ba8dba906f756967f9e9ca394464a"):
        hub.download(hub.open_hub("huggingface"), listing, file, tmp_path / "README.md")
    assert not (tmp_path / "README.md").exists()


def test_the_manifest_says_where_everything_came_from(served: Hub, tmp_path: Path) -> None:
    assert fetch(tmp_path / "out", "--max-files", "2") == 0
    held = manifest(tmp_path / "out")
    assert (held["repo"], held["revision"], held["hub"]) == (REPO, COMMIT, "huggingface")
    assert held["licence"] == "Skywork Community License"
    assert [f["path"] for f in held["files"]] == [PATHS[2], PATHS[0]]
    assert all(f["records"] == 400 and len(f["sha256"]) == 64 for f in held["files"])


# --- how much ---------------------------------------------------------------------------------


def test_limits_take_the_first_files(served: Hub, tmp_path: Path) -> None:
    assert fetch(tmp_path / "one", "--max-files", "1") == 0
    assert texts(tmp_path / "one") == wanted(PATHS[2])
    size = len(DATA[PATHS[2]]) + len(DATA[PATHS[0]])
    assert fetch(tmp_path / "two", "--max-bytes", str(size)) == 0
    assert texts(tmp_path / "two") == wanted(PATHS[2], PATHS[0])
    with pytest.raises(InputError, match="less than the first file"):
        fetch(tmp_path / "none", "--max-bytes", "10")


def test_an_unfinished_try_with_other_options_is_not_thrown_away(
    served: Hub, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    served.faults[PATHS[0]] = [*[Fault(status=500)] * 5]
    with pytest.raises(InputError):
        fetch(out)
    with pytest.raises(ResumeError, match=r"max_\w+ was .* and is .*--force"):
        fetch(out, "--max-files", "1")
    assert fetch(out, "--max-files", "1", "--force") == 0
    assert texts(out) == wanted(PATHS[2])


def test_a_folder_of_something_else_is_not_overwritten(served: Hub, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        fetch(out)
    assert (out / "thesis.txt").read_text(encoding="utf-8") == "mine"


# --- errors that say what to do ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=403, code="GatedRepo"), r"gated.*accept its terms.*HF_TOKEN"),
        (Fault(status=404, code="RepoNotFound"), "was not found"),
        (Fault(status=404, code="RevisionNotFound"), "no revision"),
        (Fault(status=403), "refuses access"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    served: Hub, tmp_path: Path, fault: Fault, message: str
) -> None:
    served.faults["listing"] = [fault]
    with pytest.raises(InputError, match=message):
        fetch(tmp_path / "out")
    assert not list(tmp_path.glob("*out*")), "nothing is left of a refusal"


def test_no_network_names_the_mirror_and_modelscope(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127.0.0.1:9 is out of reach.*hf-mirror.*modelscope"):
        fetch(tmp_path / "out")


def test_the_hub_may_be_chosen_by_the_environment(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANLLAMA_HUB", "modelscope")
    assert fetch(tmp_path / "out") == 0
    assert manifest(tmp_path / "out")["repo"] == MODELSCOPE_REPO
    monkeypatch.setenv("HANLLAMA_HUB", "moonscope")
    with pytest.raises(ConfigError, match="'moonscope' is not known"):
        fetch(tmp_path / "other")


def test_a_mirror_named_without_https_is_meant_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, kind in (("HF_ENDPOINT", hub.HuggingFace), ("MODELSCOPE_DOMAIN", hub.ModelScope)):
        monkeypatch.setenv(variable, "mirror.example/")
        assert kind().endpoint == "https://mirror.example"
        monkeypatch.setenv(variable, "http://mirror.example")
        assert kind().endpoint == "http://mirror.example"
        monkeypatch.delenv(variable)
        assert kind().endpoint.startswith("https://")


def test_a_set_that_modelscope_does_not_have_says_so(served: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not known on modelscope; use --hub huggingface"):
        fetch(tmp_path / "out", "--hub", "modelscope", name="baike")


def test_many_pages_of_a_listing_are_read(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "PAGE_SIZE", 2)
    assert fetch(tmp_path / "out", "--hub", "modelscope") == 0
    assert texts(tmp_path / "out") == EVERYTHING


def test_a_repository_without_the_files_of_the_set(served: Hub, tmp_path: Path) -> None:
    served.repos[REPO] = {"README.md": b"moved\n"}
    with pytest.raises(InputError, match=r"no file data/\*.jsonl \(it holds README.md\).*revision"):
        fetch(tmp_path / "out")


def test_a_set_whose_form_has_changed_is_an_error_and_not_an_empty_result(
    served: Hub, tmp_path: Path
) -> None:
    rows = [{"content": "新的字段名"}] * 5
    served.repos[REPO] = {PATHS[0]: b"".join(json.dumps(r).encode() + b"\n" for r in rows)}
    with pytest.raises(InputError, match=r"not of the form.*5 of 5.*field 'text' is missing"):
        fetch(tmp_path / "out")


def test_unusable_records_are_counted_and_kept_with_line_and_reason(
    served: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = part(7, 20) + b'{"text": ""}\n' + b"no json\n" + b"[1]\n"
    served.repos[REPO] = {PATHS[0]: broken}
    assert fetch(tmp_path / "out") == 0
    assert "3 unusable records" in capsys.readouterr().out
    path = tmp_path / "out" / "part-00000.quarantine.jsonl"
    rejects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(r["file"], r["line"]) for r in rejects] == [(PATHS[0], n) for n in (21, 22, 23)]
    assert "empty" in rejects[0]["reason"] and "invalid JSON" in rejects[1]["reason"]
    assert len(texts(tmp_path / "out")) == 20


def test_room_is_checked_before_the_download(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match="room for 1,000"):
        fetch(tmp_path / "out")
    assert served.log == []


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'hanllama\[data\]'"):
        fetch(tmp_path / "out")


def test_the_list_needs_no_library_and_no_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.main(["data", "fetch"]) == 0
    shown = capsys.readouterr().out
    assert "webnovel-chinese" in shown and "cc-by-4.0" in shown and "39 GB" in shown


def test_a_name_without_an_output_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "fetch", "skypile"]) == 2
    assert "--output is required" in capsys.readouterr().err


# --- archives -----------------------------------------------------------------------------------


def packed(members: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
    return path


def convert(path: Path, name: str = "tinystories-zh") -> unpack.Facts:
    from hanllama.corpus.fetch import sets

    out, rejects = path.with_name("out.jsonl.zst"), path.with_name("q.jsonl")
    return unpack.convert(path, path.name, sets.load(name), "here", out, rejects)


STORY = json.dumps([{"story_zh": "猫睡着了。"}]).encode()


def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    for name in ("../escaped.json", "/etc/escaped.json", "a/../../escaped.json"):
        with pytest.raises(CorruptError, match="leads out of its folder"):
            convert(packed({name: STORY}, tmp_path / "a.tar.gz"))
        with pytest.raises(CorruptError, match="leads out of its folder"):
            unpack.extract(packed({name: STORY}, tmp_path / "a.tar.gz"), tmp_path)
    assert not list(tmp_path.parent.glob("**/escaped.json"))


def test_an_archive_that_unpacks_to_far_more_than_it_is_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_source, "RATIO_FROM_BYTES", 0)
    bomb = packed({"a.json": b"[" + b" " * 5_000_000 + b"]"}, tmp_path / "bomb.tar.gz")
    with pytest.raises(CorruptError, match="decompression bomb"):
        convert(bomb)


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    whole = packed({"a.json": STORY, "b.json": os.urandom(50_000)}, tmp_path / "a.tar.gz")
    whole.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(HanllamaError, match=r"a.tar.gz"):
        convert(whole)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """40 MB of records in a process that may hold little more than its libraries."""
    path = tmp_path / "big.jsonl"
    with open(path, "wb") as out:
        for seed in range(20):
            out.write(part(seed, 500) * 20)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from hanllama.corpus.fetch import sets, unpack\n"
        "import orjson, pyarrow, pyarrow.parquet\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "facts = unpack.convert(folder / 'big.jsonl', 'big.jsonl', sets.load('skypile'), 'here',\n"
        "                       folder / 'out.jsonl.zst', folder / 'q.jsonl')\n"
        "print(facts.records, (peak() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    count, grown_mib = map(int, done.stdout.split())
    assert count == 200_000 and path.stat().st_size > 38e6
    assert grown_mib < 30
