"""The classifier learns what it is shown, the same each time, and says how sure it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hanllama import cli
from hanllama.base import fs
from hanllama.corpus.quality import classifier
from hanllama.corpus.quality.symbols import passages


def test_auc_accuracy_and_calibration_by_hand() -> None:
    verdict = classifier.judge([0.9, 0.8, 0.4], [0.1, 0.8, 0.2])
    assert verdict.auc == pytest.approx((3 + 2.5 + 2) / 9)
    assert verdict.accuracy == pytest.approx(2 / 3)
    # Bins 0.1, 0.2, 0.4, 0.8 and 0.9; that of 0.8 is half good and half bad.
    expected = (0.1 + 0.2 + 0.6 + 2 * 0.3 + 0.1) / 6
    assert verdict.calibration_error == pytest.approx(expected)


def test_passages_lose_nothing_and_are_never_blank() -> None:
    text = "第一行\n\n" + "长" * 45 + "\n   \n短"
    cut = list(passages(text, 10))
    assert "".join("".join(cut).split()) == "".join(text.split())
    assert all(p.strip() and len(p) <= 10 for p in cut)


def corpus(path: Path, sentence: str, count: int) -> Path:
    lines = [json.dumps({"text": f"{sentence}{n % 37}。{sentence}"}) for n in range(count)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def fit(folder: Path, name: str, *words: str) -> Path:
    good = corpus(folder / "good.jsonl", "他们在山里走了一天", 300)
    bad = corpus(folder / "bad.jsonl", "加微信领红包秒到账", 120)
    command = ["quality", "classifier", "--good", str(good), "--bad", str(bad)]
    assert cli.main([*command, "--output", str(folder / name), "--bits", "12", *words]) == 0
    fs.verify_sums(folder / name)
    return folder / name


def test_it_learns_and_two_fits_are_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = fit(tmp_path, "one"), fit(tmp_path, "two")
    assert (one / fs.SUMS).read_bytes() == (two / fs.SUMS).read_bytes()
    model = classifier.load(str(one))
    assert model.score("我们在山里走了两天") > 0.8 > 0.2 > model.score("加微信秒到账")
    assert model.score(" \n") == 0.5
    shown = capsys.readouterr().out
    assert re.search("accuracy +100.0%\nAUC +1.0000\n", shown)


def test_a_book_is_the_mean_of_its_passages(tmp_path: Path) -> None:
    model = classifier.load(str(fit(tmp_path, "model")))
    good, bad = "他们在山里走了一天。" * 190, "加微信领红包秒到账！" * 190
    both = model.score(good + "\n" + bad)
    assert both == pytest.approx((model.score(good) + model.score(bad)) / 2, abs=0.01)


def test_scores_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = fit(tmp_path, "model")
    out = tmp_path / "scores.jsonl"
    words = ["quality", "score", str(model), str(tmp_path / "bad.jsonl"), "--output", str(out)]
    assert cli.main([*words, "--examples", "2"]) == 0
    entries = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(entries) == 120 and max(e["quality"] for e in entries) < 0.5
    assert np.isfinite([e["percentile"] for e in entries]).all()
    shown = capsys.readouterr().out
    assert "lowest quality" in shown and "加微信" in shown and "50 %" in shown


def test_errors_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.txt").write_text("只有一句话。")
    one = str(tmp_path / "one.txt")
    command = ["quality", "classifier", "--good", one, "--bad", one]
    assert cli.main([*command, "--output", str(tmp_path / "m")]) == 2
    assert "passages are too few" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
    assert cli.main(["quality", "score", str(tmp_path), one]) == 2
    assert "is no quality model" in capsys.readouterr().err
