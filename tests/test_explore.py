"""What is in footage without labels: by function, by command, and its page."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from browser import fits
from made_footage import EACH, KINDS, made_features, page_data

from dsm.cli.main import run
from dsm.errors import UserError
from dsm.evaluate.explore import centred, duplicate_groups, evened, explore, rarest, same_camera
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.footage import best_first, footage_of
from dsm.pages.explore import write_explore_page
from dsm.pages.gallery import end_of
from dsm.pages.template import PAGE_BYTES
from dsm.runs.results import read_results
from dsm.verbs.explore import ExploreConfig, examine


def test_kinds_oddities_and_copies_are_found() -> None:
    features = made_features()
    found = explore(features.features, features.paths)
    kinds = np.repeat(np.arange(KINDS), EACH)
    for kind in range(KINDS):
        own = found.clusters[: KINDS * EACH][kinds == kind]
        counts = np.bincount(own[own >= 0], minlength=KINDS)
        assert counts.max() > 0.9 * EACH
        assert np.count_nonzero(counts) == 1
    assert set(rarest(found.oddness, features.paths, 3)) == {120, 121, 122}
    assert duplicate_groups(found.across, 0.999) == [[5, 123]]
    assert [len(own) for own in found.typical] == sorted((len(own) for own in found.typical), reverse=True)


def test_oddness_equals_a_slow_reference_and_skips_clips_of_the_same_video() -> None:
    features = made_features()
    videos = [str(row // 2) for row in range(len(features))]
    found = explore(features.features, videos, k=4)
    unit = features.features / np.linalg.norm(features.features, axis=1, keepdims=True)
    rows = unit - unit.mean(0)
    np.testing.assert_allclose(centred(features.features), rows, atol=1e-6)
    # The distances in components of evened variance equal those in the original axes, rotated back.
    variances, axes = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))
    rows = rows @ axes @ np.diag(variances**-0.25)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for row in range(0, len(rows), 7):
        distances = [
            1 - float(rows[row] @ rows[other]) for other in range(len(rows)) if videos[other] != videos[row]
        ]
        assert found.oddness[row] == pytest.approx(np.mean(sorted(distances)[:4]), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_places_and_light_do_not_hide_a_rare_motion(seed: int) -> None:
    """Places and light differ far more than the four motions; three of 1,200 clips move otherwise."""
    rng = np.random.default_rng(seed)
    places, motions, odd = np.repeat(np.arange(20), 60), np.tile(np.arange(4), 300), [5, 6, 7]
    motions[odd] = 4
    light = 2 * rng.standard_normal((len(places), 4))
    rows = np.concatenate([6 * np.eye(20)[places], np.eye(5)[motions], light], axis=1)
    rows = (rows + 0.1 * rng.standard_normal(rows.shape)).astype(np.float32)
    videos = [str(row) for row in range(len(rows))]
    assert set(odd) <= set(rarest(explore(rows, videos).oddness, videos, 60))


def test_features_without_variance_in_some_directions_stay_finite() -> None:
    rng = np.random.default_rng(0)
    rows = centred(np.repeat(rng.standard_normal((20, 3)), 2, axis=1).astype(np.float32))
    assert np.linalg.matrix_rank(evened(rows), tol=0.05) <= 3
    assert np.isfinite(evened(np.zeros((20, 6), np.float32))).all()


def test_the_clips_of_a_single_long_video_are_compared_with_each_other() -> None:
    features = made_features()
    found = explore(features.features, ["day.mp4"] * len(features))
    order = np.argsort(-found.oddness)[:3]
    assert set(order.tolist()) == {120, 121, 122}
    assert duplicate_groups(found.across, 0.999) == []


def test_of_two_long_videos_copies_and_cameras_are_compared_across() -> None:
    features = made_features()
    rows = np.concatenate([features.features, features.features + 1e-4]).astype(np.float32)
    videos = ["one.mp4"] * len(features) + ["two.mp4"] * len(features)
    found = explore(rows, videos)
    groups = duplicate_groups(found.across, 0.99999)
    assert {row for group in groups for row in group} == set(range(len(rows)))
    same = same_camera(found.across, videos, videos)
    assert same is not None
    assert (same.share.value, same.chance) == (0, 0)


def test_the_same_camera_counts_as_by_hand_and_is_chance_for_shuffled_cameras() -> None:
    features = made_features()
    found = explore(features.features, features.paths, k=5)
    by_kind = [str(row // EACH) for row in range(len(features))]
    same = same_camera(found.across, by_kind, features.paths)
    assert same is not None
    by_hand = [
        np.mean([by_kind[near] == by_kind[row] for near in found.near.places[row]])
        for row in range(len(features))
    ]
    assert same.share.value == pytest.approx(np.mean(by_hand))
    assert same.share.value > 0.95
    shuffled = np.random.default_rng(0).permutation(by_kind).tolist()
    dealt = same_camera(found.across, shuffled, features.paths)
    assert dealt is not None
    assert dealt.share.value == pytest.approx(dealt.chance, abs=0.06)
    assert same_camera(found.across, ["one"] * len(features), features.paths) is None


def test_the_command_writes_the_page_and_its_tables(footage: Path, tmp_path: Path) -> None:
    page = tmp_path / "explore.html"
    run(["explore", str(footage / "made.npz"), "--out", str(page), "--duplicates", "0.999"])
    text = page.read_text()
    assert "<img src=x" not in text
    fits(page, tmp_path)
    assert "outside.mp4#" not in text
    data = page_data(page)
    assert data["links"][8] is None, "it lies outside of the folder of the videos"
    assert set(data["clips"]) == {"0", "5", "120", "123"}
    tables = page.with_suffix("")
    lines = list(csv.DictReader((tables / "duplicates.csv").open()))
    assert [(line["keep"], line["width"]) for line in lines] == [("yes", "64"), ("no", "32")]
    rare = list(csv.DictReader((tables / "rarest.csv").open()))
    assert {line["path"] for line in rare[:3]} == {data["paths"][row] for row in (120, 121, 122)}
    assert rare[0]["time"].startswith("2024-03-0")
    assert len({line["among"] for line in rare}) == 4, "overall and of each camera"
    clusters = list(csv.DictReader((tables / "clusters.csv").open()))
    assert len(clusters) == 124
    numbers = {row.metric: row.value for row in read_results(tables / "results.json")}
    assert numbers["clusters"] == KINDS
    assert numbers["near_duplicates"] == pytest.approx(1 / 124)
    with pytest.raises(UserError, match="already exists"):
        run(["explore", str(footage / "made.npz"), "--out", str(page)])


def test_the_largest_picture_of_a_group_is_kept(footage: Path) -> None:
    looked = footage_of(load_features(footage / "made.npz"))
    assert best_first([5, 123], looked) == [123, 5]
    assert best_first([5, 0], looked) == [0, 5]
    assert looked.files[8] is None


def test_the_page_stays_below_its_limit_whatever_the_clips(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "explore.html"
    looked = footage_of(load_features(footage / "made.npz"))
    found = examine(ExploreConfig(footage / "made.npz", page), looked)
    monkeypatch.setattr("dsm.pages.gallery.clip_uri", lambda *_, **__: "data:" + "x" * (PAGE_BYTES // 3))
    assert write_explore_page(page, found, clips=9) == 2
    assert page.stat().st_size < PAGE_BYTES


def test_files_in_several_folders_are_linked(footage: Path, tmp_path: Path) -> None:
    page = tmp_path / "explore.html"
    looked = footage_of(load_features(footage / "made.npz"))
    write_explore_page(page, examine(ExploreConfig(footage / "made.npz", page), looked), clips=0)
    data = page_data(page)
    linked = {
        path: page.parent / unquote(data["base"] + link)
        for path, link in zip(data["paths"], data["links"], strict=True) if link
    }  # fmt: skip
    assert len({Path(path).parent for path in linked}) > 1
    for path, file in linked.items():
        assert file.resolve() == (footage / "videos" / path).resolve()


def test_of_very_many_clips_or_very_long_paths_some_are_dots(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "explore.html"
    looked = footage_of(load_features(footage / "made.npz"))
    found = examine(ExploreConfig(footage / "made.npz", page), looked)
    monkeypatch.setattr("dsm.pages.explore.DOTS", 30)
    write_explore_page(page, found, clips=0)
    data = page_data(page)
    assert 30 < len(data["paths"]) < 124, "those shown elsewhere in the page are dots too"
    places = {path: place for place, path in enumerate(looked.features.paths)}
    for place, path in enumerate(data["paths"]):
        assert data["cluster"][place] == found.explored.clusters[places[path]]
        for near in (one for one in data["near"][place] if one >= 0):
            assert places[data["paths"][near]] in found.explored.near.places[places[path]]
    monkeypatch.setattr("dsm.pages.explore.DATA_BYTES", 1)
    monkeypatch.setattr("dsm.pages.explore.DOTS", 4000)
    write_explore_page(page, found, clips=0)
    data = page_data(page)
    assert len(data["paths"]) < 124


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "page.txt"], r"must end in \.html"),
        (["--out", "page.html", "--least", "1"], "single clip is no cluster"),
        (["--out", "page.html", "--camera-regex", "zzz"], "finds no group"),
    ],
)
def test_wrong_settings_are_refused(footage: Path, tmp_path: Path, words: list[str], message: str) -> None:
    words = [str(tmp_path / word) if word.startswith("page") else word for word in words]
    with pytest.raises(UserError, match=message):
        run(["explore", str(footage / "made.npz"), *words])


def test_the_tables_never_go_into_the_footage(tmp_path: Path) -> None:
    (tmp_path / "today").mkdir()
    with pytest.raises(UserError, match="today is the footage"):
        run(["explore", str(tmp_path / "today"), "--weights", "none", "--out", str(tmp_path / "today.html")])
    assert not list((tmp_path / "today").iterdir())
    (tmp_path / "today" / "a.mp4").touch()
    for root, message in ((tmp_path / "today", "today is the footage"), (None, "today: holds other files")):
        if root is None:
            (tmp_path / "today" / "results.json").unlink()
        else:  # as if earlier tables lay there
            (tmp_path / "today" / "results.json").touch()
        meta = {"root": str(root)} if root else {}
        save_features(tmp_path / "today.npz", replace(made_features(), meta=meta))
        with pytest.raises(UserError, match=message):
            run(
                ["explore", str(tmp_path / "today.npz"), "--out", str(tmp_path / "today.html"), "--overwrite"]
            )
    assert [file.name for file in (tmp_path / "today").iterdir()] == ["a.mp4"]
    (tmp_path / "today" / "a.mp4").unlink()
    run(["explore", str(tmp_path / "today.npz"), "--out", str(tmp_path / "today.html"), "--clips", "0"])


def test_captions_show_the_end_of_a_long_path() -> None:
    assert end_of("shard-00000.tar/home/videos/calm/a") == "…/calm/a"
    assert [end_of(path) for path in ("a.mp4", "calm/a.mp4")] == ["a.mp4", "calm/a.mp4"]
