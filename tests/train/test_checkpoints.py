"""Checkpoints: whole or absent, restored exactly, and nobody else's things are ever removed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import folders
from hanllama.base import fs
from hanllama.base.errors import CorruptError, Interrupted, ResumeError, StorageError
from hanllama.model import checkpoint as model_folder
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import load_model
from hanllama.model.llama import Llama
from hanllama.train import checkpoints
from hanllama.train.checkpoints import State
from hanllama.train.pretrain import pretrain

ROWS = torch.arange(4, 20)[None]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.tokenizer(tmp_path_factory.mktemp("checkpoints") / "tokenizer")


class Trained:
    """A model, a further one and an optimizer that has made a step."""

    def __init__(self, seed: int, steps: int = 1) -> None:
        shape = folders.SHAPE.resolve(400, 32, bos_token_id=1, eos_token_id=2, pad_token_id=3)
        generator = torch.Generator().manual_seed(seed)
        self.model = Llama(shape, generator)
        self.further = {"value": torch.nn.Linear(3, 2)}
        modules = torch.nn.ModuleDict({"model": self.model, **self.further})
        self.optimizer = torch.optim.AdamW(modules.parameters(), lr=1e-3)
        for _ in range(steps):
            self.optimizer.zero_grad()
            further = self.further["value"](torch.ones(3)).sum()
            (self.model(ROWS).square().mean() + further).backward()
            self.optimizer.step()

    def save(self, folder: Path, tokenizer: Path, step: int, **state: Any) -> Path:
        return checkpoints.save(
            folder,
            State(step=step, tokens=10 * step, fingerprint={"data": "d"}, **state),
            self.model,
            self.further,
            self.optimizer,
            ModelCard("m"),
            tokenizer,
            "loop: {}\n",
        )


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained(0)


def saved(
    folder: Path, tokenizer: Path, trained: Trained, losses: dict[int, float | None]
) -> list[str]:
    """Checkpoints at these steps with these held-out losses; their names."""
    for step, loss in losses.items():
        trained.save(
            folder, tokenizer, step, figures={} if loss is None else {"heldout_loss": loss}
        )
    return names(folder)


def names(folder: Path) -> list[str]:
    return [c.name for c in checkpoints.all_in(folder)]


def test_a_checkpoint_is_a_model_folder_and_what_training_needs(
    tmp_path: Path, tokenizer: Path, trained: Trained
) -> None:
    state = {"figures": {"heldout_loss": 1.5}, "objective": {"kl": 0.2}, "scaler": {"scale": 8.0}}
    made = trained.save(tmp_path, tokenizer, 800, **state)
    assert made.name == "step-000800"
    checkpoints.verify(made)
    assert torch.equal(load_model(made)(ROWS), trained.model(ROWS))
    assert {f.name for f in (made / "trainer").iterdir()} == {
        "state.json",
        "config.yaml",
        "optimizer.safetensors",
        "value.safetensors",
    }
    assert checkpoints.read_state(made) == State(800, 8000, {"data": "d"}, **state)


def test_what_is_restored_trains_on_as_if_it_had_never_stopped(
    tmp_path: Path, tokenizer: Path
) -> None:
    before, fresh = Trained(0), Trained(1, steps=0)
    made = before.save(tmp_path, tokenizer, 1)
    state = checkpoints.restore(made, fresh.model, fresh.further, fresh.optimizer)
    assert state.step == 1
    for one in (before, fresh):
        one.optimizer.zero_grad()
        (one.model(ROWS).square().mean() + one.further["value"](torch.ones(3)).sum()).backward()
        one.optimizer.step()
    pairs = [(before.model, fresh.model), (before.further["value"], fresh.further["value"])]
    for ours, its in pairs:
        for a, b in zip(ours.parameters(), its.parameters(), strict=True):
            assert torch.equal(a, b)


def test_moments_of_another_objective_are_refused(
    tmp_path: Path, tokenizer: Path, trained: Trained
) -> None:
    made = checkpoints.save(
        tmp_path,
        State(1, 1, {}),
        trained.model,
        {},
        torch.optim.AdamW(trained.model.parameters()),
        ModelCard("m"),
        tokenizer,
        "",
    )
    with pytest.raises(ResumeError, match=r"exp_avg for model\.embed_tokens"):
        checkpoints.restore(made, trained.model, {}, trained.optimizer)


@pytest.mark.parametrize(
    ("found", "named"), [({"data": "e"}, "data"), ({}, "data"), ({"data": "d", "t": "1"}, "t")]
)
def test_a_field_that_changed_is_named(found: dict[str, str], named: str, tmp_path: Path) -> None:
    checkpoints.require_same({"data": "d"}, {"data": "d"}, tmp_path)
    with pytest.raises(ResumeError, match=f"{named} has changed"):
        checkpoints.require_same(found, {"data": "d"}, tmp_path)


def test_a_damaged_checkpoint_is_refused_with_the_way_out(
    tmp_path: Path, tokenizer: Path, trained: Trained
) -> None:
    made = trained.save(tmp_path, tokenizer, 3)
    (made / "trainer" / "state.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"state\.json.*remove .*step-000003"):
        checkpoints.verify(made)


def test_checkpoints_come_by_step_and_only_whole_ones(
    tmp_path: Path, tokenizer: Path, trained: Trained
) -> None:
    saved(tmp_path, tokenizer, trained, {1_000_000: None, 999_999: None, 12: None})
    shutil.copytree(tmp_path / "step-000012", tmp_path / "step-000012-copy")
    shutil.copytree(tmp_path / "step-000012", tmp_path / "step-12")
    shutil.copytree(tmp_path / "step-000012", tmp_path / "step-000013")
    (tmp_path / "step-000013" / fs.SUMS).unlink()
    (tmp_path / "step-000014").write_text("a file")
    assert names(tmp_path) == ["step-000012", "step-999999", "step-1000000"]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({1: 3.0, 2: 1.0, 3: 2.0}, 2),
        ({1: 2.0, 2: 2.0, 3: 2.5}, 2),
        ({1: None, 2: None}, None),
        ({1: None, 2: 9.0}, 2),
    ],
)
def test_the_best_has_the_lowest_held_out_loss_the_later_of_equals(
    tmp_path: Path,
    tokenizer: Path,
    trained: Trained,
    losses: dict[int, float | None],
    expected: int | None,
) -> None:
    saved(tmp_path, tokenizer, trained, losses)
    best = checkpoints.best(checkpoints.all_in(tmp_path))
    assert (best and checkpoints.step_of(best)) == expected


@pytest.mark.parametrize(
    ("keep", "expected"), [(1, [2, 5]), (2, [2, 4, 5]), (4, [2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])]
)
def test_retention_keeps_the_newest_and_the_best(
    tmp_path: Path, tokenizer: Path, trained: Trained, keep: int, expected: list[int]
) -> None:
    saved(tmp_path, tokenizer, trained, {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: None})
    for _ in range(2):  # once more removes nothing
        checkpoints.retain(tmp_path, keep)
        assert sorted(f.name for f in tmp_path.iterdir()) == [f"step-00000{n}" for n in expected]


def test_what_is_not_ours_stays_and_does_not_end_a_save(tmp_path: Path, tokenizer: Path) -> None:
    shards = folders.shards(tmp_path / "shards", tokenizer)
    folder = tmp_path / "run" / "checkpoints"
    config = folders.pretrain_config(shards, tmp_path / "run", max_steps=12, save_every=2, keep=1)
    with pytest.raises(Interrupted):
        pretrain(replace(config, loop=replace(config.loop, stop_at=6)))
    shutil.copytree(folder / "step-000006", folder / "step-000012-my-backup")
    shutil.copytree(folder / "step-000006", tmp_path / "elsewhere")
    (folder / "step-000001").symlink_to(tmp_path / "elsewhere")
    (folder / "step-000003").mkdir()
    (folder / "step-000003" / "mine.txt").write_text("no marker")
    (folder / "step-000005").symlink_to(tmp_path / "gone")
    (folder / "step-notes.txt").write_text("mine")
    (folder / "step-000007").write_text("a file")
    (folder / ".tmp-step-000012-mine").mkdir()
    foreign = {f.name for f in folder.iterdir()} - {c for c in names(folder) if c != "step-000001"}

    def content() -> dict[str, bytes]:
        places = [folder / name for name in sorted(foreign)] + [tmp_path / "elsewhere"]
        files = [f for place in places for f in (place, *sorted(place.rglob("*")))]
        return {str(f): f.read_bytes() for f in files if f.is_file()}

    before = content()
    pretrain(config)
    left = {f.name for f in folder.iterdir()}
    assert len(foreign) == 7 and foreign <= left and content() == before
    assert "step-000012" in left and len(left - foreign) <= 2, "the newest, and the best of ours"


def test_a_save_that_fails_leaves_the_checkpoint_before_it(
    tmp_path: Path, tokenizer: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained.save(tmp_path, tokenizer, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "save_file", full)
    with pytest.raises(StorageError, match=r"step-000002"):
        trained.save(tmp_path, tokenizer, 2)
    assert [f.name for f in tmp_path.iterdir()] == ["step-000001"]
    checkpoints.verify(made)


def test_halves_that_a_kill_left_count_for_nothing_and_go(
    tmp_path: Path, tokenizer: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, tokenizer, trained, {1: None, 2: None, 3: None})
    shutil.copytree(tmp_path / "step-000003", tmp_path / ".tmp-step-000004")  # inside a save
    plain = shutil.rmtree

    def killed(path: Path, **options: Any) -> None:
        if Path(path).exists():
            (Path(path) / "config.json").unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.retain(tmp_path, keep=1)
    monkeypatch.setattr(shutil, "rmtree", plain)
    for checkpoint in checkpoints.all_in(tmp_path):
        checkpoints.verify(checkpoint)
    assert names(tmp_path)[-1] == "step-000003"
    checkpoints.retain(tmp_path, keep=1)
    assert [f.name for f in tmp_path.iterdir()] == ["step-000003"]
