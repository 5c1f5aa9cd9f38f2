"""Resuming a run: how long it goes on, with which weights, and what is safely on the disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import equal, small_run, weights_of
from warm_dsm import dsm

from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.methods import MethodSettings
from dsm.methods.settings import DsmTripletConfig
from dsm.models.checkpoint_file import list_checkpoints, step_of
from dsm.runs.checkpoint import keep_best, save_checkpoint
from dsm.runs.logs import read_metrics
from dsm.train.config import DataConfig, MonitorConfig, OptimConfig
from dsm.train.pretrain import pretrain
from dsm.train.resuming import steps_of


def shortened(scenes: Path, folder: Path, count: int) -> Path:
    """A list of the first so many training videos."""
    lines = (scenes / "train.txt").read_text().splitlines()
    part = folder / "some.txt"
    part.write_text("\n".join(lines[:count]) + "\n")
    return part


def last_step(run: Path) -> int:
    return step_of(list_checkpoints(run)[-1])


def changed(run: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the newest checkpoint of a run; ``change`` gets it, and what it records of the run."""
    file = list_checkpoints(run)[-1]
    state = torch.load(file, weights_only=True)
    saved = json.loads(state["config"])
    change(state, saved)
    torch.save({**state, "config": json.dumps(saved)}, file)


@pytest.mark.parametrize(
    ("epochs", "videos", "batch", "steps"), [(10, 31, 16, 19), (10, 32, 16, 20), (1, 40, 16, 2), (1, 3, 8, 1)]
)
def test_epochs_show_as_many_clips_as_they_say(epochs: int, videos: int, batch: int, steps: int) -> None:
    assert steps_of(None, epochs, videos, batch) == steps
    assert steps_of(7, epochs, videos, batch) == 7


def test_a_run_with_a_short_last_batch_has_its_epochs_and_is_monitored_as_often(
    scenes: Path, tmp_path: Path
) -> None:
    """Four passes over 15 videos are 60 clips, or 7.5 batches of 8; every second pass is evaluated."""
    data = DataConfig(shortened(scenes, tmp_path, 15), root=scenes, batch_size=8, workers=0)
    monitor = MonitorConfig(scenes / "test_free.txt", root=scenes, every=2)
    run = pretrain(
        small_run(scenes, tmp_path / "run", steps=None, epochs=4, data=data, monitor=monitor, method="moco")
    )
    assert last_step(run) == 8
    assert [line["step"] for line in read_metrics(run) if "monitor/knn" in line] == [4, 8]


def test_a_run_that_an_older_version_planned_goes_on_as_planned(scenes: Path, tmp_path: Path) -> None:
    """It counted one batch of 8 in each pass over 15 videos."""
    data = DataConfig(shortened(scenes, tmp_path, 15), root=scenes, batch_size=8, workers=0)
    config = small_run(scenes, tmp_path / "run", steps=3, data=data, method="moco")
    run = pretrain(config)
    record = json.loads((run / "config.json").read_text())
    record["config"] |= {"steps": None, "epochs": 4}
    (run / "config.json").write_text(json.dumps(record))
    changed(run, lambda state, saved: state.update(total=4))
    pretrain(replace(config, steps=None, epochs=4, resume=True))
    assert last_step(run) == 4
    with pytest.raises(UserError, match=r"was planned for 4 steps, not 11"):
        pretrain(replace(config, steps=None, epochs=6, resume=True))


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_run_is_not_extended_to_fewer_steps_than_it_has(
    scenes: Path, tmp_path: Path, schedule: Any
) -> None:
    optim = OptimConfig(schedule=schedule, milestones=())
    config = small_run(scenes, tmp_path / "run", steps=4, method="simclr", optim=optim)
    run = pretrain(config)
    held = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=r"4 steps are done, more than 3; set --steps or --epochs to more"):
        pretrain(replace(config, steps=3, resume=True, extend=True))
    assert held == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_an_older_triplet_run_does_not_change_its_batches_unasked(scenes: Path, tmp_path: Path) -> None:
    apart = MethodSettings(dsm_triplet=DsmTripletConfig(joint=False))
    config = small_run(scenes, tmp_path / "run", steps=1, method="dsm-triplet", settings=apart)
    run = pretrain(config)
    changed(run, lambda state, saved: saved["settings"].pop("dsm-triplet.joint"))
    on = replace(config, steps=2, resume=True, extend=True)
    with pytest.raises(UserError, match=r"was trained with dsm-triplet\.joint False, not True"):
        pretrain(replace(on, settings=MethodSettings()))
    pretrain(on)
    assert last_step(run) == 2


def test_a_checkpoint_is_on_the_disk_before_older_ones_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 1, {}, keep=1)
    done: list[str] = []
    sync, unlink, rename = os.fsync, Path.unlink, os.replace

    def synced(opened: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{opened}').readlink().name}")
        sync(opened)

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if path.exists():
            done.append(f"remove {path.name}")
        unlink(path, missing_ok=missing_ok)

    def renamed(old: Path, new: Path) -> None:
        done.append(f"rename to {new.name}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(Path, "unlink", unlinked)
    path = save_checkpoint(tmp_path, 2, {}, keep=1)
    aside, *rest = done
    assert aside.startswith("sync .step_00000002.pt.")
    assert rest == ["rename to step_00000002.pt", "sync checkpoints", "remove step_00000001.pt"]
    done.clear()
    keep_best(path)
    assert done[0].startswith("sync .best.pt.")
    assert done[1:] == ["rename to best.pt", "sync checkpoints"]


@pytest.fixture(scope="module")
def begun_with(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose encoder others begin with."""
    return pretrain(small_run(scenes, tmp_path_factory.mktemp("first") / "run", steps=1, method="moco"))


@pytest.mark.parametrize("tune", [None, "head"])
def test_a_run_resumes_bit_for_bit_without_the_weights_that_it_began_with(
    scenes: Path, tmp_path: Path, begun_with: Path, tune: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = Path(shutil.copytree(begun_with, tmp_path / "weights"))
    config = small_run(
        scenes, tmp_path / "run", weights=str(weights), tune=tune, monitor=MonitorConfig(videos=0), steps=4,
        save_every=2, clip=ClipConfig(),
    )  # fmt: skip
    whole = pretrain(replace(config, out=tmp_path / "whole"))
    run = Path(shutil.copytree(whole, config.out))
    list_checkpoints(run)[-1].unlink()  # as if it had been killed after step 2
    weights.rename(tmp_path / "gone")
    # The command line refuses missing weights, but not here: it comes to other settings.
    words = ["--data.train", scenes / "train.txt", "--weights", weights, "--out", run, "--resume"]
    assert "--resume needs the same settings" in dsm("pretrain", *words).stderr
    capfd.readouterr()
    pretrain(replace(config, resume=True))
    assert "goes on from its own checkpoint, without the weights that it began with" in capfd.readouterr().err
    assert equal(weights_of(run), weights_of(whole))


def test_weights_that_moved_are_known_and_others_refused(
    scenes: Path, tmp_path: Path, begun_with: Path
) -> None:
    config = small_run(scenes, tmp_path / "run", weights=str(begun_with), steps=1)
    run = pretrain(config)
    on = replace(config, steps=2, resume=True, extend=True)
    other = pretrain(small_run(scenes, tmp_path / "other", steps=1, method="moco", seed=1))
    held = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for wrong in (str(other), "none"):
        with pytest.raises(UserError, match=r"was trained with weights .*first.*, not .*(other|none)"):
            pretrain(replace(on, weights=wrong))
    assert held == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    moved = shutil.copytree(begun_with, tmp_path / "moved")
    pretrain(replace(on, weights=str(moved)))
    assert last_step(run) == 2
