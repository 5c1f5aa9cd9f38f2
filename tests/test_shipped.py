"""The weights that come with the package: ``--weights motion``."""

from __future__ import annotations

from pathlib import Path

import pytest

import dsm
from dsm.cli.main import run
from dsm.data.groups import read_groups
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.retrieval import kept_apart, retrieve
from dsm.models.weights import load_weights
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.weights_names import SHIPPED, absolute_name

BYTES = 2_000_000


def test_the_shipped_weights_are_small_and_have_a_card() -> None:
    for file in SHIPPED.values():
        assert file.stat().st_size < BYTES
        card = file.with_name(f"{file.name}.md").read_text(encoding="utf-8")
        assert "studies/transfer.py" in card, "it names the command that trained them"


def test_the_shipped_weights_find_motion_in_new_scenes(tmp_path: Path) -> None:
    """On videos that they were not trained on: twice as often as random weights, among other scenes."""
    write_motionscenes(MotionScenesConfig(train=10, test=150, seed=977), tmp_path / "scenes")
    listed, table = tmp_path / "scenes" / "test_free.txt", tmp_path / "scenes" / "scenes.tsv"
    found = {}
    same = {"backbone": "tiny3d", "frames": 8, "stride": 3, "resize": 62, "size": 48}
    for weights, settings in (("motion", {}), ("none", same)):
        out = tmp_path / f"{weights}.npz"
        dsm.extract(weights=weights, data=listed, out=out, **settings)
        features = load_features(out)
        groups = read_groups(table, features.paths)
        apart = kept_apart(features, features, (groups, groups))
        found[weights] = retrieve(features, features, 1, apart=apart).recall(1).mean()
    assert found["motion"] > 2 * found["none"], found


def test_features_of_the_shipped_weights_are_searched_from_any_folder(
    small_list: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsm.extract(weights="motion", data=small_list, out=tmp_path / "x.npz")
    assert load_features(tmp_path / "x.npz").meta["weights"] == "motion" == absolute_name("motion")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(dsm.search(index=tmp_path / "x.npz", query=video, k=2).hits) == 2


def test_a_folder_called_motion_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "motion").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_weights("motion").config["backbone"] == "tiny3d"
    for own in ("./motion", Path("motion")):
        with pytest.raises(UserError, match="has no checkpoint"):
            load_weights(own)


def test_footage_is_explored_without_weights_of_ones_own(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dsm.explore(source=scenes / "videos" / "test", out=tmp_path / "page.html", clips=2)
    assert load_features(tmp_path / "page" / "features.npz").meta["weights"] == "motion"
    said = " ".join(capsys.readouterr().err.split())
    assert "weights that come with dsm, trained on synthetic videos: for a first look" in said


def test_a_folder_of_the_same_name_is_told_from_the_shipped_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("motion").mkdir()
    with pytest.raises(UserError, match="motion: has no checkpoint"):
        run(["weights", "inspect", "./motion"])
    run(["weights", "inspect", "motion"])
