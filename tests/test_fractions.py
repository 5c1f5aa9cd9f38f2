"""The low-shot sweep: one run per fraction of the labels, stopped and continued."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from runs import CLIP, equal, small_run, weights_of

from dsm.data.lists import read_list, write_list
from dsm.errors import UserError
from dsm.models.checkpoint_file import list_checkpoints
from dsm.pages.run_figures import fractions_figure
from dsm.runs.results import Row
from dsm.signals import Interrupted
from dsm.train import trainer
from dsm.train.finetune import FinetuneData
from dsm.train.optim import OptimConfig
from dsm.train.pretrain import pretrain
from dsm.verbs.train import FractionsConfig, finetune, plainly

pytestmark = pytest.mark.usefixtures("blank_figures")


def sweep_config(scenes: Path, out: Path, **changes: object) -> FractionsConfig:
    base = FractionsConfig(
        data=FinetuneData(scenes / "train.txt", batch_size=8, workers=0, test=scenes / "test_free.txt"),
        out=out, backbone="tiny", steps=4, clip=CLIP, test_windows=1, fractions=(1, 0.3),
        optim=OptimConfig("adamw", lr=1e-3, warmup=2), log_every=1, save_every=1,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def written_rows(out: Path) -> list[dict]:
    return json.loads((out / "results.json").read_text())["rows"]


def test_every_fraction_is_trained_and_tested_once(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pretrain(small_run(scenes, tmp_path / "first", steps=2))
    out = tmp_path / "few"
    config = sweep_config(scenes, out, weights=str(first), fractions=(1, 0.3))
    result = finetune(config)
    few, every = read_list(out / "0.3.txt"), read_list(out / "1.txt")
    whole = read_list(scenes / "train.txt")
    assert set(few.paths) < set(every.paths)
    assert [every.file(i) for i in range(len(every))] == [whole.file(i) for i in range(len(whole))]
    # In proportion, with at least one of every class.
    of_class = np.bincount(whole.labels)
    assert np.bincount(few.labels).tolist() == [max(round(0.3 * count), 1) for count in of_class]
    rows = written_rows(out)
    assert [(row["run"], row["metric"]) for row in rows] == [
        (run, metric) for run in ("dsm@0.3", "dsm@1") for metric in ("top1", "top5", "mean_class_top1")
    ]
    assert {row["test"] for row in rows} == {"test_free"}
    tested = json.loads((out / "1" / "test" / "results.json").read_text())["rows"]
    assert [row["value"] for row in rows[3:]] == [row["value"] for row in tested]
    assert [asdict(row) for row in result.rows] == rows
    assert result.files[-2:] == [out / "results.json", out / "fractions.png"]
    assert result.tables[-1].title == "dsm: top-1 on test_free"
    assert (out / "fractions.png").read_bytes()[:4] == b"\x89PNG"
    names = (scenes / "classes.txt").read_text().split()
    assert (out / "classes.txt").read_text().split() == names  # predictions name classes

    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("step_*.pt")}
    finetune(config)
    assert capsys.readouterr().err.count("is done (4 steps)") == 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("step_*.pt")} == before
    assert written_rows(out) == rows

    finetune(replace(config, fractions=(0.3, 0.5)))  # one more; the others are not repeated
    assert {row["run"] for row in written_rows(out)} == {"dsm@0.3", "dsm@0.5"}
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("step_*.pt")}.items()


def test_a_changed_test_list_is_tested_again(scenes: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.txt"
    config = sweep_config(scenes, tmp_path / "few", fractions=(1,))
    config = replace(config, data=replace(config.data, test=test, root=scenes))
    videos = read_list(scenes / "test_free.txt")
    for count in (len(videos), 10):
        write_list(test, videos.part(np.arange(count), scenes))
        finetune(config)
        assert {row["n"] for row in written_rows(config.out)} == {count}


@pytest.mark.slow
def test_a_stopped_sweep_continues(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second run; its final weights are those of a run that was never stopped."""
    out = tmp_path / "few"
    config = sweep_config(scenes, out)
    step = trainer.Trainer.train_step

    def stopped_in_the_second(self: trainer.Trainer, *args: object) -> object:
        if self.config.out.name == "1" and self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "train_step", stopped_in_the_second)
    with pytest.raises(Interrupted, match="stopped at step 2 of 4 and saved"):
        finetune(config)
    monkeypatch.undo()
    assert [row["run"] for row in written_rows(out)] == ["random@0.3"] * 3
    assert not (out / "1" / "done").exists()
    assert list_checkpoints(out / "1")[-1].name == "step_00000002.pt"
    finetune(replace(config, resume=True))  # the default behaviour, requested explicitly
    assert [row["run"] for row in written_rows(out)] == ["random@0.3"] * 3 + ["random@1"] * 3
    data = replace(config.data, train=out / "1.txt")
    finetune(replace(config, data=data, out=tmp_path / "whole", fractions=()))
    assert equal(weights_of(out / "1"), weights_of(tmp_path / "whole"))


def test_without_a_test_list_the_runs_are_trained(scenes: Path, tmp_path: Path) -> None:
    data = FinetuneData(scenes / "train.txt", batch_size=8, workers=0)
    result = finetune(sweep_config(scenes, tmp_path / "few", data=data, fractions=(0.3,), steps=1))
    assert "add --data.test to test them" in result.lines[0]
    assert list_checkpoints(tmp_path / "few" / "0.3")
    assert not (tmp_path / "few" / "results.json").exists()


def test_without_fractions_it_is_a_single_run(scenes: Path, tmp_path: Path) -> None:
    finetune(sweep_config(scenes, tmp_path / "run", fractions=(), steps=1))
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "fractions" not in record["config"]
    assert list_checkpoints(tmp_path / "run")


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.0,), "above 0 and at most 1"),
        ((0.1, 1.5), "not 1.5"),
        ((float("nan"),), "not nan"),
        ((0.1, 0.1), "give each once"),
    ],
)
def test_wrong_fractions_are_refused(scenes: Path, tmp_path: Path, fractions: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweep_config(scenes, tmp_path / "few", fractions=fractions)


def test_impossible_settings_are_refused_before_anything_is_written(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    data = FinetuneData(scenes / "train.txt", batch_size=20, workers=0)
    with pytest.raises(UserError, match=r"--fractions 0.3: leaves 10 videos .* --data.batch-size 10"):
        finetune(sweep_config(scenes, out, data=data, fractions=(0.3, 1)))
    with pytest.raises(UserError, match="no such checkpoint or run folder"):
        finetune(sweep_config(scenes, out, weights=str(tmp_path / "none")))
    assert not out.exists()


def test_two_sweeps_are_not_mixed(scenes: Path, tmp_path: Path) -> None:
    out, train = tmp_path / "few", tmp_path / "train.txt"
    whole = read_list(scenes / "train.txt")
    write_list(train, whole.part(np.arange(len(whole)), tmp_path))
    data = FinetuneData(train, batch_size=8, workers=0)
    config = sweep_config(scenes, out, data=data, fractions=(0.3,), steps=1)
    finetune(config)
    with pytest.raises(UserError, match="a sweep with other settings"):
        finetune(replace(config, seed=1))
    write_list(train, whole.part(np.arange(len(whole))[::-1].copy(), tmp_path))
    with pytest.raises(UserError, match="different videos than the training list now gives"):
        finetune(config)


def test_fraction_folders_are_named_as_typed() -> None:
    assert [plainly(one) for one in (1, 1.0, 0.1, 0.01, 1e-5, 1 / 3)] == [
        "1", "1", "0.1", "0.01", "0.00001", "0.3333333333333333",
    ]  # fmt: skip


def test_the_picture_shows_the_numbers() -> None:
    rows = [
        Row("dsm@0.1", 0, "test", "top1", 0.3, 0.2, 0.45, 50),
        Row("dsm@1", 0, "test", "top1", 0.6, 0.5, 0.7, 50),
    ]
    (axis,) = fractions_figure([40, 400], rows).axes
    (line, caps_low, caps_high) = axis.lines
    assert axis.get_xscale() == "log"
    assert line.get_xydata().tolist() == [[40, 30], [400, 60]]
    assert caps_low.get_ydata().tolist() == pytest.approx([20, 50])
    assert caps_high.get_ydata().tolist() == pytest.approx([45, 70])
