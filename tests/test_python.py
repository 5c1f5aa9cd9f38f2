"""The library as Python sees it: names, a light import, silence, results, and help."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from warm_dsm import HANG

import dsm
from dsm.errors import UserError
from dsm.models.checkpoint_file import list_checkpoints
from dsm.signals import Interrupted
from dsm.train import trainer
from dsm.verbs.extract import ExtractConfig
from dsm.verbs.result import Result

CLIP = {"frames": 4, "stride": 3, "resize": 40, "size": 32}
pytestmark = pytest.mark.usefixtures("blank_figures")

SHORT = {"backbone": "tiny", "steps": 2, "batch_size": 8, "workers": 0, **CLIP}


@pytest.fixture
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Progress is off, as after a plain import of the library."""
    dsm.show_progress(False)
    capfd.readouterr()
    try:
        yield capfd
    finally:
        dsm.show_progress()


def test_every_public_name_is_importable() -> None:
    for name in dsm.__all__:
        assert getattr(dsm, name) is not None, name
        assert name in dir(dsm)
    for name in dsm.data.__all__:
        assert callable(getattr(dsm.data, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dsm.nothing  # noqa: B018


def test_import_dsm_imports_nothing_heavy() -> None:
    code = (
        "import sys, dsm; print(*(name for name in ('torch', 'numpy', 'av', 'tyro') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=True
    )
    assert done.stdout.strip() == ""


def test_verbs_print_nothing_and_return_results(
    scenes: Path, tmp_path: Path, silent: pytest.CaptureFixture[str]
) -> None:
    run = dsm.pretrain(train=scenes / "train.txt", out=str(tmp_path / "run"), method="dsm", **SHORT)
    assert run.files[0] == tmp_path / "run"
    assert run.value("train/loss") > 0
    assert list_checkpoints(tmp_path / "run")
    tuned = dsm.finetune(
        train=scenes / "train.txt", test=scenes / "test_free.txt", weights=tmp_path / "run",
        out=tmp_path / "tuned", linear_probe=True, test_windows=1, **SHORT,
    )  # fmt: skip
    assert 0 <= tuned.value("monitor/top1") <= 1
    features = {}
    for name in ("train", "test_free"):
        features[name] = tmp_path / f"{name}.npz"
        extracted = dsm.extract(
            weights=tmp_path / "run", data=scenes / f"{name}.txt", out=features[name], workers=0, windows=1
        )
        assert extracted.files == [features[name]]
    near = dsm.retrieve(
        gallery=features["train"], queries=features["test_free"], out=tmp_path / "near", shown=0
    )
    assert [row.metric for row in near.rows][:2] == ["R@1", "R@5"]
    probed = dsm.probe(train=features["train"], test=features["test_free"], out=tmp_path / "probe")
    assert 0 <= probed.value("linear_probe") <= 1
    assert all(isinstance(one, Result) for one in (run, tuned, extracted, near, probed))
    printed = silent.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert "R@1" in str(near)
    assert "<pre>" in near._repr_html_()
    with pytest.raises(UserError, match="no 'R@2' in this result; did you mean"):
        near.value("R@2")


def test_fractions_are_a_setting_of_finetune(
    scenes: Path, tmp_path: Path, silent: pytest.CaptureFixture[str]
) -> None:
    result = dsm.finetune(
        train=scenes / "train.txt", test=scenes / "test_free.txt", out=tmp_path / "few",
        fractions=[0.5], test_windows=1, **SHORT,
    )  # fmt: skip
    assert {row.run for row in result.rows} == {"random@0.5"}
    assert (tmp_path / "few" / "fractions.png") in result.files
    printed = silent.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_setting_of_another_method_is_refused(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--moco\.queue is a setting of --method moco"):
        dsm.pretrain(
            train=scenes / "train.txt", out=tmp_path / "run", method="dsm", moco={"queue": 8}, **SHORT
        )
    assert not (tmp_path / "run").exists()


def test_an_interrupted_run_is_saved_and_resumes(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: pytest.CaptureFixture[str]
) -> None:
    step = trainer.Trainer.train_step

    def stopped(self: trainer.Trainer, *args: object) -> object:
        if self.step == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "train_step", stopped)
    settings = {"train": scenes / "train.txt", "out": tmp_path / "run", **SHORT}
    with pytest.raises(Interrupted, match="stopped at step 1 of 2 and saved"):
        dsm.pretrain(**settings)
    monkeypatch.undo()
    assert list_checkpoints(tmp_path / "run")[-1].name == "step_00000001.pt"
    dsm.pretrain(**settings, resume=True)
    assert list_checkpoints(tmp_path / "run")[-1].name == "step_00000002.pt"
    printed = silent.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_misspelt_and_ambiguous_recipe_settings_are_refused(scenes: Path) -> None:
    with pytest.raises(UserError, match="did you mean"):
        dsm.run(recipe="still-camra", train=scenes / "train.txt", out="run")
    with pytest.raises(UserError, match=r"size can mean 2 settings; write pretrain=.* or finetune="):
        dsm.run(recipe="still-camera", train=scenes / "train.txt", out="run", size=32)


def test_help_lists_every_setting() -> None:
    text = inspect.getdoc(dsm.extract) or ""
    names = inspect.signature(dsm.extract).parameters
    for one in fields(ExtractConfig):
        if one.name not in ("loading", "clip", "settings"):
            assert one.name in names
    for name in (
        "weights",
        "data",
        "root",
        "backbone",
        "frames",
        "windows",
        "per_clip",
        "devices",
        "overwrite",
    ):
        assert name in names
        assert f"\n    {name}: " in text


@pytest.mark.parametrize("name", sorted(set(dsm.__all__) - {"__version__", "data", "disturb"}))
def test_every_function_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(dsm, name))
