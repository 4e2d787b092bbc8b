"""Promise 11 (bad_lines): what cannot be read is counted exactly, named, and costs only itself."""

from __future__ import annotations

import gzip
import json
import os
import re
import zipfile
from pathlib import Path

import pytest

from builders.documents import SENTENCE, read
from hanllama import cli
from hanllama.base.errors import InputError
from hanllama.corpus.clean import CleanConfig, clean


def damaged_folder(folder: Path) -> dict[tuple[str, int], str]:
    """Every fault at once among good files; returns {(file, line): how its reason begins}."""
    folder.mkdir()
    lines = [json.dumps({"text": f"{n} {SENTENCE}"}).encode() for n in range(1, 101)]
    lines[9], lines[19], lines[29] = b'{"text": "\xff"}', b"{", b'{"title": "x"}'
    lines[39] = b'{"text": "' + b"x" * 50_000_000 + b'"}'
    (folder / "bad_lines.jsonl").write_bytes(b"\n".join(lines))
    (folder / "good.txt").write_bytes(SENTENCE.encode("gbk"))
    whole = gzip.compress(b"\n".join(os.urandom(500).hex().encode() for _ in range(200)))
    (folder / "torn.txt.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.txt.gz").write_bytes(gzip.compress(bytes(40 * 2**20)))
    with zipfile.ZipFile(folder / "mixed.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb.txt", bytes(40 * 2**20))
        zipped.writestr("good.txt", "zip " + SENTENCE)
        zipped.writestr("inner.zip", b"x")
    os.symlink(folder, folder / "loop")
    os.symlink("nowhere", folder / "dangling.txt")
    return {
        ("bad_lines.jsonl", 10): "line is not valid UTF-8",
        ("bad_lines.jsonl", 20): "invalid JSON",
        ("bad_lines.jsonl", 30): "no field 'text'",
        ("bad_lines.jsonl", 40): "longer than 32 MiB",
        ("bomb.txt.gz", 1): "a decompression bomb",
        ("dangling.txt", 1): "cannot be read: No such file",
        ("mixed.zip!bomb.txt", 1): "a decompression bomb",
        ("mixed.zip!inner.zip", 1): "an archive inside of an archive",
        ("torn.txt.gz", -1): "damaged or cut short",
    }


def test_every_fault_is_counted_and_named_and_nothing_else_is_lost(tmp_path: Path) -> None:
    expected = damaged_folder(tmp_path / "in")
    documents, rejects = read(tmp_path / "in")
    found = {}
    for reject in rejects:
        name = Path(reject.file).relative_to(tmp_path / "in").as_posix()
        line = -1 if name == "torn.txt.gz" else reject.line
        found[name, line] = reject.reason
    assert found.keys() == expected.keys() and len(rejects) == len(expected)
    for place, reason in expected.items():
        assert found[place].startswith(reason), place
    assert len(documents) == 96 + 3
    texts = [document.text for document in documents]
    assert SENTENCE in texts and "zip " + SENTENCE in texts


def test_bad_lines_above_the_share_end_the_run_with_every_one_kept(tmp_path: Path) -> None:
    expected = damaged_folder(tmp_path / "in")
    out = tmp_path / "out"

    def run(share: float) -> None:
        config = CleanConfig(
            inputs=(str(tmp_path / "in"),),
            output=str(out),
            rules=("none",),
            max_quarantine_share=share,
            workers=1,
        )
        clean(config)

    with pytest.raises(InputError, match=f"{len(expected)} of {len(expected) + 99} records"):
        run(0.01)
    kept = (tmp_path / "out.quarantine.jsonl").read_text().split("\n")[:-1]
    assert len(kept) == len(expected) and not out.exists()
    run(0.1)
    entries = [json.loads(x) for x in (out / "quarantine.jsonl").read_text().split("\n")[:-1]]
    assert len(entries) == len(expected)
    assert all(e["file"] and e["line"] and e["reason"] for e in entries)


@pytest.mark.parametrize("command", ["clean", "dedup", "decontaminate"])
def test_every_command_names_what_cannot_be_read_and_goes_on(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = damaged_folder(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe.txt")
    exam = tmp_path / "exam.csv"
    exam.write_text(f"question\n{SENTENCE * 2}\n", encoding="utf-8")
    words = [command, str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "1"]
    more = {"dedup": ["--no-exact-documents", "--method", "none", "--containment", "0"]}
    share = ["--max-quarantine-share", "0.2"]
    words += ["--eval", str(exam)] if command == "decontaminate" else share
    assert cli.main([*words, *more.get(command, [])]) == 0
    kept = (tmp_path / "out" / "quarantine.jsonl").read_text().split("\n")[:-1]
    assert len(kept) == len(expected) + 1
    assert any("dangling.txt" in line for line in kept)
    if command != "decontaminate":  # it lists them all
        said = capsys.readouterr().out.partition("quarantined:")[2].partition("not read:")[0]
        numbers = re.findall(r"(\d+) x |(\d+) more", " ".join(said.split()))
        assert sum(int(named or more) for named, more in numbers) == len(kept)


def test_where_nothing_can_be_used_the_message_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text("{oops\nnull\n")
    words = ["clean", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out")]
    assert cli.main([*words, "--max-quarantine-share", "1"]) == 2
    said = capsys.readouterr().err
    assert "no document" in said and "1 x invalid JSON, 1 x null" in said
