"""Fingerprints: what a stage stands on, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hanllama.base import fingerprint, fs
from hanllama.base.errors import InputError
from hanllama.base.fingerprint import Contents, code_files, of_code


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    return Contents(tmp_path / "cache" / "hashes.json")


def _tree(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "inner" / "b.txt").write_text("b")
    return folder


def test_equal_trees_are_equal_wherever_they_lie(contents: Contents, tmp_path: Path) -> None:
    one, two = _tree(tmp_path / "one"), _tree(tmp_path / "elsewhere" / "two")
    assert contents.of(one) == contents.of(two)


def test_a_byte_a_name_and_an_extra_file_each_count(contents: Contents, tmp_path: Path) -> None:
    seen = {contents.of(_tree(tmp_path / "same"))}
    for number, change in enumerate(
        (
            lambda f: (f / "a.txt").write_text("A"),
            lambda f: (f / "a.txt").rename(f / "c.txt"),
            lambda f: (f / "new.txt").write_text(""),
            lambda f: shutil.move(f / "a.txt", f / "inner" / "a.txt"),
        )
    ):
        folder = _tree(tmp_path / str(number))
        change(folder)
        seen.add(contents.of(folder))
    assert len(seen) == 5


def test_a_published_folder_is_known_by_its_sums(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        with fs.publish(tmp_path / "runs" / name) as folder:
            (folder / "big.bin").write_bytes(b"x" * 1000)
    real, hashed = fs.sha256, []
    monkeypatch.setattr(fs, "sha256", lambda path: hashed.append(path.name) or real(path))
    assert contents.of(tmp_path / "runs" / "one") == contents.of(tmp_path / "runs" / "two")
    contents.of(tmp_path / "runs")  # also when it lies deeper
    assert set(hashed) == {fs.SUMS}


def test_a_published_folder_that_lost_a_file_is_refused(contents: Contents, tmp_path: Path) -> None:
    with fs.publish(tmp_path / "one") as folder:
        (folder / "x").write_text("x")
    (tmp_path / "one" / "x").unlink()
    with pytest.raises(InputError, match="incomplete: x is missing"):
        contents.of(tmp_path / "one")


def test_hashes_are_remembered_across_processes_until_the_file_changes(tmp_path: Path) -> None:
    file, cache = tmp_path / "a.txt", tmp_path / "hashes.json"
    file.write_text("one")
    first = Contents(cache).of(file)
    reads: list[Path] = []
    real = fs.sha256
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fs, "sha256", lambda path: reads.append(path) or real(path))
        assert Contents(cache).of(file) == first and reads == []
        file.write_text("two")
        assert Contents(cache).of(file) != first and reads == [file]


def test_a_large_input_shows_progress(
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fingerprint, "_QUIET_BYTES", 1)
    contents.of(_tree(tmp_path / "t"))
    assert "fingerprint of the input" in capsys.readouterr().err


# --- code ----------------------------------------------------------------------------------------


def test_cleaning_stands_on_its_rules_and_presets_and_not_on_training() -> None:
    files = set(code_files("hanllama.corpus.clean"))
    assert {"corpus/clean.py", "reading/records.py", "corpus/rules/line_length.py"} <= files
    assert "corpus/presets/default.yaml" in files
    assert not [f for f in files if f.startswith(("train/", "model/"))]


def test_training_stands_on_the_model_and_not_on_charts_or_trackers() -> None:
    files = set(code_files("hanllama.train.config", "hanllama.train.pretrain"))
    assert {"train/loop.py", "model/llama.py", "model/losses.py", "batches/shards.py"} <= files
    for name in ("base/report.py", "base/progress.py", "cli.py", "base/config.py", "pipeline.py"):
        assert name not in files
    assert not [f for f in files if f.startswith(("train/trackers/", "corpus/"))]


def test_a_change_of_the_tokenizer_reaches_tokenizing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hanllama"
    shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    verbs = ("hanllama.batches.tokenize", "hanllama.corpus.clean")
    before = [of_code(v) for v in verbs]
    source = package / "tokenizer" / "load.py"
    source.write_text(source.read_text() + "\n# a comment\n")
    assert [of_code(v) for v in verbs] == before
    source.write_text(source.read_text() + "\nNEW = 1\n")
    after = [of_code(v) for v in verbs]
    assert after[0] != before[0] and after[1] == before[1]
    (package / "base" / "report.py").write_text("BROKEN = 1\n")
    assert [of_code(v) for v in verbs] == after


def test_the_quick_hash_also_sees_a_comment_and_only_of_its_own_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hanllama"
    shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    verb = "hanllama.corpus.dedup.dedup"
    files = code_files(verb)
    seen = {of_code(verb, quick=True)}
    for file in files.values():
        file.write_text(file.read_text() + "\n# changed\n")
        seen.add(of_code(verb, quick=True))
    assert len(seen) == len(files) + 1 > 30
    for elsewhere in ("train/loop.py", "corpus/fetch/fetch.py", "corpus/view.py"):
        (package / elsewhere).write_text("")
    assert of_code(verb, quick=True) in seen


def test_data_beside_the_code_counts_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hanllama"
    shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    before = of_code("hanllama.train.sft.sft")
    template = package / "tokenizer" / "chat_templates" / "chatml.jinja"
    template.write_text(template.read_text() + " ")
    assert of_code("hanllama.train.sft.sft") != before
    (package / "tokenizer" / "__pycache__").mkdir()
    (package / "tokenizer" / "__pycache__" / "load.pyc").write_text("x")
    template.write_text(template.read_text()[:-1])
    assert of_code("hanllama.train.sft.sft") == before


def test_one_way_of_training_does_not_reach_another() -> None:
    assert not [f for f in code_files("hanllama.train.pretrain") if f.startswith("train/rl/")]
    files = set(code_files("hanllama.train.rl.grpo"))
    assert {"train/rl/grpo.py", "train/loop.py", "stories/tasks.py"} <= files
    assert not [f for f in files if f.startswith(("train/sft/", "corpus/"))]
