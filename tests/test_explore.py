"""What is in footage without labels: by function, by command, and in a browser."""

from __future__ import annotations

import contextlib
import csv
import html
import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import av
import numpy as np
import pytest
from browser import fits, opened

from dsm.cli.main import run
from dsm.data.cameras import begin_times, cameras_of, clock, recording_times
from dsm.data.clips import EvaluationClips
from dsm.data.folders import find_list
from dsm.data.lists import VideoList, read_list, unlabelled
from dsm.data.settings import ClipChanges, ClipConfig
from dsm.errors import UserError
from dsm.evaluate.explore import centred, duplicate_groups, evened, explore, rarest, same_camera
from dsm.evaluate.extract_to_file import replaced_since
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.evaluate.footage import best_first, footage_of, names_in
from dsm.evaluate.settings import ExtractSettings
from dsm.evaluate.suggest import labels_of, least_sure
from dsm.models.settings import LoadSettings
from dsm.pages.explore import write_explore_page
from dsm.pages.explore_tables import labels_csv
from dsm.pages.gallery import end_of
from dsm.pages.template import PAGE_BYTES
from dsm.runs.results import read_results
from dsm.verbs.explore import ExploreConfig, examine
from dsm.verbs.extract import ExtractConfig, extract
from dsm.video.write import write_video

KINDS, EACH, DIM = 4, 30, 24


def made(seed: int = 0) -> Features:
    """Four kinds of clips of three cameras, three oddities, and a copy of the clip 5."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(KINDS), EACH)
    rows = 3 * np.eye(DIM)[kinds] + 0.2 * rng.standard_normal((len(kinds), DIM))
    odd = 3 * np.eye(DIM)[[10, 10, 11]] + 0.2 * rng.standard_normal((3, DIM))
    rows = np.concatenate([rows, odd, rows[5:6] + 1e-3]).astype(np.float32)
    paths = [
        f"cam{row % 3}/2024-03-0{1 + row % 2}_{row // 60:02d}-{row % 60:02d}-00.mp4"
        for row in range(len(rows))
    ]
    return Features(rows, np.full(len(rows), -1), paths, {"run": "made", "seed": 0, "list": "made"})


def test_kinds_oddities_and_copies_are_found() -> None:
    features = made()
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
    features = made()
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
    features = made()
    found = explore(features.features, ["day.mp4"] * len(features))
    order = np.argsort(-found.oddness)[:3]
    assert set(order.tolist()) == {120, 121, 122}
    assert duplicate_groups(found.across, 0.999) == []


def test_of_two_long_videos_copies_and_cameras_are_compared_across() -> None:
    features = made()
    rows = np.concatenate([features.features, features.features + 1e-4]).astype(np.float32)
    videos = ["one.mp4"] * len(features) + ["two.mp4"] * len(features)
    found = explore(rows, videos)
    groups = duplicate_groups(found.across, 0.99999)
    assert {row for group in groups for row in group} == set(range(len(rows)))
    same = same_camera(found.across, videos, videos)
    assert same is not None
    assert (same.share.value, same.chance) == (0, 0)


def test_the_same_camera_counts_as_by_hand_and_is_chance_for_shuffled_cameras() -> None:
    features = made()
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


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("a/20240131_235959.mp4", "2024-01-31 23:59:59"),
        ("cam1/2024-01-31T23-59-59.mp4", "2024-01-31 23:59:59"),
        ("2024-01-31/cam_23.59.58.mp4", ""),
        ("2024.01.31 07.08.09.mkv", "2024-01-31 07:08:09"),
        ("NVR_ch3_main_20231105060708_20231105070708.dav", "2023-11-05 07:07:08"),
        ("20240131_235950.mp4#10-12", "2024-02-01 00:00:00"),
        ("20240231_235959.mp4", ""),
        ("v_120240131_2359591.mp4", ""),
        ("fi001.mp4", ""),
    ],
)
def test_file_names_tell_the_time(path: str, told: str) -> None:
    assert clock(float(begin_times([path])[0])) == told


def at(text: str) -> float:
    return float(begin_times([text])[0])


def test_creation_times_count_unless_the_recording_cannot_have_begun_then() -> None:
    now, length = at("20240601_000000"), np.full(4, 60.0)
    real = np.array([at(f"20240131_1{hour}0000") for hour in range(4)])
    unset = [-2082844800.0, 0.0, at("20000101_000007"), at("20260101_000000")]

    def kept(created: list[float] | np.ndarray, seconds: np.ndarray = length) -> tuple[list[float], bool]:
        times, converted = recording_times(np.asarray(created), seconds, 1, now=now)
        return times[np.isfinite(times)].tolist(), converted

    assert kept(real) == (real.tolist(), False)
    assert kept(unset) == ([], False)
    assert kept([*unset[:1], *real[:3]]) == (real[:3].tolist(), False)
    assert kept([*unset[:2], *real[:2]]) == ([], True), "a few were edited"
    assert kept([real[0]] * 4) == ([], True)
    assert kept([*[real[0]] * 3, real[1]]) == ([], True)
    apart = real[0] + 2.0 * np.arange(4)  # two seconds each, for videos of ten hours
    assert kept(apart, np.full(4, 36000.0)) == (apart.tolist(), False), "four cameras may do this"
    many_files = real[0] + 2.0 * np.arange(400)
    assert kept(many_files, np.full(400, 60.0)) == ([], True)


def test_without_times_in_names_the_files_tell_them(tmp_path: Path) -> None:
    features = made().part(np.arange(16))
    rng = np.random.default_rng(0)
    names = [f"clip{row:03d}.mp4" for row in range(len(features))]
    features = replace(features, paths=names, meta=features.meta | {"root": str(tmp_path)})

    def write(row: int, created: str) -> None:
        with av.open(str(tmp_path / names[row]), "w") as container:
            container.metadata["creation_time"] = created
            stream = container.add_stream("libx264", rate=8)
            stream.width = stream.height = 32
            image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))

    for row in range(9):
        write(row, f"2024-01-31T1{row}:15:00.000000Z")
    looked = footage_of(features)
    assert [clock(one) for one in looked.times[:2]] == ["2024-01-31 10:15:00", "2024-01-31 11:15:00"]
    assert not np.isfinite(looked.times[9:]).any()
    page = tmp_path / "page.html"
    write_explore_page(page, examine(ExploreConfig(tmp_path, page), looked), clips=0)
    assert "by the creation times, in UTC, in the files of 9 of them" in page.read_text()
    for row in range(9):
        write(row, "2024-01-31T20:15:00.000000Z")
    looked = footage_of(features)
    assert not np.isfinite(looked.times).any()
    found = examine(ExploreConfig(tmp_path, page), looked)
    assert any("as after a conversion" in note for note in found.notes)


def test_names_or_folders_tell_the_camera() -> None:
    assert cameras_of(["x/Cam3_a.mp4", "x/cam12-b.mp4"], file=None, regex="") == (["cam3", "cam12"], "name")
    assert cameras_of(["hall/a.mp4", "yard/b.mp4"], file=None, regex="") == (["hall", "yard"], "folder")
    assert cameras_of(["webcamera/a1.mp4", "b/scam3.mp4"], file=None, regex="")[1] == "folder"
    for paths, names in (
        (["/x/v/hall/1/a.mp4", "/x/v/yard/a.mp4", "/x/v/a.mp4"], ["hall/1", "yard", "v"]),
        (["/x/v/a.mp4", "/x/v/b.mp4"], ["v", "v"]),
        (["/x/a.mp4", "v/a.mp4"], ["/x", "v"]),
        (["a.mp4", "v/a.mp4"], [".", "v"]),
    ):
        assert cameras_of(paths, file=None, regex="") == (names, "folder")
    assert cameras_of(["hall/a7.mp4"], file=None, regex=r"a(\d)") == (["7"], "expression")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of which some videos exist, one name is hostile, one leads out, one is a larger copy."""
    folder = tmp_path_factory.mktemp("explore")
    features = made()
    features.paths[7] = "cam1/<img src=x onerror=alert(1)>.mp4"
    features.paths[8] = "../outside.mp4"
    rng = np.random.default_rng(0)
    write_video(folder / "outside.mp4", rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8))
    for row in (0, 5, 120, 123):
        side = 64 if row == 123 else 32
        frames = rng.integers(0, 255, (8, side, side, 3), dtype=np.uint8)
        write_video(folder / "videos" / features.paths[row], frames)
    meta = features.meta | {"root": str(folder / "videos"), "weights": "none"}
    save_features(folder / "made.npz", replace(features, meta=meta))
    return folder


def test_the_command_writes_the_page_and_its_tables(footage: Path, tmp_path: Path) -> None:
    page = tmp_path / "explore.html"
    run(["explore", str(footage / "made.npz"), "--out", str(page), "--duplicates", "0.999"])
    text = page.read_text()
    assert "<img src=x" not in text
    fits(page, tmp_path)
    assert "outside.mp4#" not in text
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
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


@pytest.mark.parametrize("width", [390, 1200])
def test_clips_are_named_in_the_page_and_the_list_is_read(footage: Path, tmp_path: Path, width: int) -> None:
    page, index = tmp_path / "explore.html", load_features(footage / "made.npz")
    index.paths[9] = "#cam0/9.mp4"  # would be a comment in a list
    save_features(tmp_path / "made.npz", index)
    run(["explore", str(tmp_path / "made.npz"), "--out", str(page), "--root", str(footage / "videos")])
    script = """<script>
    dsm.choose(7); dsm.choose(9); dsm.choose(121); document.getElementById("name").value = 'odd, "one"';
    document.getElementById("give").click();
    const input = document.querySelector(".line[data-cluster] input");
    input.value = "walks"; input.onchange();
    const map = document.querySelector("canvas"); map.dispatchEvent(new Event("focus"));
    map.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
    const how = document.getElementById("how");
    for (const one of how.options) { how.value = one.value; how.onchange(); }
    const out = document.createElement("pre"); out.id = "written"; out.textContent = dsm.list();
    document.body.append(out);
    </script>"""
    walked = tmp_path / "walked.html"
    walked.write_text(page.read_text().replace("</body>", script + "</body>"))
    document, errors = opened(walked, width=width)
    assert errors == []
    written = re.search(r'<pre id="written">(.*?)</pre>', document, re.DOTALL)
    assert written
    labels = tmp_path / "labels.csv"
    labels.write_text(written[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    videos = read_list(labels, footage / "videos")
    assert set(videos.classes) == {'odd, "one"', "walks"}
    odd = videos.classes.index('odd, "one"')
    assert {p for p, label in zip(videos.paths, videos.labels, strict=True) if label == odd} == {
        index.paths[7], "./#cam0/9.mp4", index.paths[121]
    }  # fmt: skip
    assert (videos.labels != odd).sum() >= EACH - 4


def test_a_path_that_begins_with_a_mark_of_comments_stays_in_the_list(tmp_path: Path) -> None:
    labels = VideoList(["#1.mp4", "b.mp4"], np.arange(2), np.full(2, -1), Path(), classes=("runs", "walks"))
    (tmp_path / "labels.csv").write_text(labels_csv(labels))
    assert list(read_list(tmp_path / "labels.csv").paths) == ["./#1.mp4", "b.mp4"]


def test_a_named_cluster_keeps_its_clips_that_are_not_on_the_page(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a cluster that is not among those shown at once."""
    monkeypatch.setattr("dsm.pages.explore.DOTS", 30)
    monkeypatch.setattr("dsm.pages.explore.CLUSTERS", 2)
    page, index = tmp_path / "explore.html", footage / "made.npz"
    run(["explore", str(index), "--out", str(page), "--clips", "0"])
    script = """<script>
    const inputs = [...document.querySelectorAll(".line[data-cluster] h3 input")];
    const name = (at, given) => { inputs[at].value = given; inputs[at].onchange(); };
    name(0, "walks"); name(3, 'runs, "fast"');
    dsm.choose(0); document.getElementById("name").value = "odd"; document.getElementById("give").click();
    const out = document.createElement("pre"); out.id = "written"; out.textContent = dsm.list();
    document.body.append(out);
    </script>"""
    walked = tmp_path / "walked.html"
    walked.write_text(page.read_text().replace("</body>", script + "</body>"))
    document, errors = opened(walked)
    assert errors == []
    clusters = list(csv.DictReader((tmp_path / "explore" / "clusters.csv").open()))
    named = {line["path"]: {"1": "walks", "4": 'runs, "fast"'}.get(line["cluster"], "") for line in clusters}
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    named[data["paths"][0]] = "odd"
    told = re.search(r'id="sum"[^>]*>(\d+) clips are named \(3 names\); (\d+) of them are not', document)
    assert told
    assert int(told[1]) == sum(map(bool, named.values()))
    assert int(told[2]) == sum(bool(name) and path not in data["paths"] for path, name in named.items())
    written = re.search(r'<pre id="written">(.*?)</pre>', document, re.DOTALL)
    assert written
    names = tmp_path / "names.csv"
    names.write_text(html.unescape(written[1]))
    words = ["explore", str(index), "--labels", str(names), "--out", str(tmp_path / "next.html")]
    with pytest.raises(UserError, match=r"put it beside the clusters\.csv"):
        run(words)
    shutil.copy(tmp_path / "explore" / "clusters.csv", tmp_path)
    names.write_text("\ufeff" + names.read_text())  # as Excel saves it
    run([*words, "--clips", "0"])
    listed = list(csv.DictReader((tmp_path / "next" / "labels.csv").open()))
    assert {line["path"]: line["label"] for line in listed} == {p: n for p, n in named.items() if n}
    names.write_text(re.sub(r"(?m)^,1,\d+", ",1,7", names.read_text()))
    with pytest.raises(UserError, match="name the clusters again"):
        run([*words, "--overwrite"])


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
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
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
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    assert 30 < len(data["paths"]) < 124, "those shown elsewhere in the page are dots too"
    places = {path: place for place, path in enumerate(looked.features.paths)}
    for place, path in enumerate(data["paths"]):
        assert data["cluster"][place] == found.explored.clusters[places[path]]
        for near in (one for one in data["near"][place] if one >= 0):
            assert places[data["paths"][near]] in found.explored.near.places[places[path]]
    monkeypatch.setattr("dsm.pages.explore.DATA_BYTES", 1)
    monkeypatch.setattr("dsm.pages.explore.DOTS", 4000)
    write_explore_page(page, found, clips=0)
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
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
        save_features(tmp_path / "today.npz", replace(made(), meta=meta))
        with pytest.raises(UserError, match=message):
            run(
                ["explore", str(tmp_path / "today.npz"), "--out", str(tmp_path / "today.html"), "--overwrite"]
            )
    assert [file.name for file in (tmp_path / "today").iterdir()] == ["a.mp4"]
    (tmp_path / "today" / "a.mp4").unlink()
    run(["explore", str(tmp_path / "today.npz"), "--out", str(tmp_path / "today.html"), "--clips", "0"])


def test_footage_is_extracted_once(scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = [
        "explore", str(scenes / "test.txt"), "--out", str(page), "--weights", "none", "--backbone", "tiny",
    ]  # fmt: skip
    words += ["--frames", "4", "--size", "32", "--resize", "40", "--workers", "0", "--clips", "5"]
    run(words)
    kept = tmp_path / "page" / "features.npz"
    written = kept.stat().st_mtime_ns
    page.unlink()
    for table in ("results.json", "clusters.csv", "rarest.csv", "duplicates.csv"):
        (tmp_path / "page" / table).unlink()
    run(words)
    assert kept.stat().st_mtime_ns == written
    assert "The weights are random" in page.read_text()
    run([*words, "--batch-size", "3", "--overwrite"])
    assert kept.stat().st_mtime_ns == written, "--overwrite keeps the same features"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--seed", "1"], "other weights;"),
        (["--per-clip", "--every", "1"], "other --per-clip, --every;"),
        (["--frames", "2"], "other clips;"),
        ([], "other videos;"),
    ],
)
def test_features_of_other_weights_videos_or_settings_are_never_reused(
    scenes: Path, tmp_path: Path, change: list[str], named: str
) -> None:
    """As after a first call that ended before it wrote the page, because there were too few clips."""
    page, kept, listed = tmp_path / "page.html", tmp_path / "page" / "features.npz", tmp_path / "few.txt"
    lines = (scenes / "test.txt").read_text().splitlines()
    listed.write_text("\n".join(lines[:3]))
    words = ["explore", str(listed), "--root", str(scenes), "--out", str(page), "--weights", "none"]
    words += ["--backbone", "tiny", "--frames", "4", "--size", "32", "--resize", "40", "--workers", "0"]
    with pytest.raises(UserError, match="too few to explore"):
        run(words)
    before = load_features(kept)
    listed.write_text("\n".join(lines if not change else lines[:3]))
    change = ["--clips", "0", *change]
    with pytest.raises(UserError, match=rf"features\.npz: its features were extracted with {named}"):
        run([*words, *change])
    with contextlib.suppress(UserError):  # still too few
        run([*words, *change, "--overwrite"])
    after = load_features(kept)
    assert after.features.shape != before.features.shape or not np.allclose(after.features, before.features)


def test_features_of_replaced_videos_are_never_reused(scenes: Path, tmp_path: Path) -> None:
    videos, kept = tmp_path / "videos", tmp_path / "page" / "features.npz"
    videos.mkdir()
    for place, name in enumerate((scenes / "test.txt").read_text().splitlines()[:6]):
        shutil.copy(scenes / name.split()[0], videos / f"{place}.mp4")
    words = ["explore", str(videos), "--out", str(tmp_path / "page.html"), "--clips", "0"]
    words += [
        "--weights",
        "none",
        "--backbone",
        "tiny",
        "--frames",
        "4",
        "--size",
        "32",
        "--resize",
        "40",
        "--workers",
        "0",
    ]
    run(words)
    before = load_features(kept).features.copy()
    shutil.copy(videos / "1.mp4", videos / "3.mp4")
    with pytest.raises(UserError, match=r"page\.html already exists"):
        run(words)
    for file in (tmp_path / "page.html", *(tmp_path / "page").glob("*.[cj]s*")):
        file.unlink()
    with pytest.raises(UserError, match=r"with other versions of 3\.mp4; use --overwrite"):
        run(words)
    run([*words, "--overwrite"])
    after = load_features(kept)
    np.testing.assert_array_equal(after.features[[0, 1, 2, 4, 5]], before[[0, 1, 2, 4, 5]])
    np.testing.assert_array_equal(after.features[3], before[1])
    # Videos that are not there, as on a disk that is not mounted, are not taken for replaced ones.
    (videos / "5.mp4").rename(tmp_path / "5.mp4")
    assert replaced_since(after.meta, find_list(videos)) is None, "it is another list"
    listed = unlabelled([f"{place}.mp4" for place in range(6)], "", videos)
    assert replaced_since(after.meta, listed) == []
    (tmp_path / "5.mp4").rename(videos / "5.mp4")
    assert replaced_since(after.meta, listed) == []
    # Features that do not tell are extracted again with --overwrite.
    untold = {name: value for name, value in after.meta.items() if name != "files"}
    save_features(kept, replace(after, features=np.zeros_like(after.features), meta=untold))
    run([*words, "--overwrite"])
    np.testing.assert_array_equal(load_features(kept).features, after.features)


def test_the_least_sure_clips_lie_between_two_labels(footage: Path, tmp_path: Path) -> None:
    features = made()
    features.features[40] = (features.features[10] + features.features[45]) / 2
    save_features(tmp_path / "made.npz", features)
    labels = tmp_path / "labels.csv"
    lines = [f"./{features.paths[row]},{'walks' if row < EACH else 'runs'}" for row in (0, 1, 2, 31, 32, 33)]
    labels.write_text("\n".join(["path,label", *lines]) + "\n")
    words = ["explore", str(tmp_path / "made.npz"), "--out", str(tmp_path / "next.html")]
    words += ["--labels", str(labels), "--suggestions", "4"]
    run(words)
    with (tmp_path / "next" / "suggestions.csv").open() as opened_file:
        rows = list(csv.DictReader(opened_file))
    assert len(rows) == 4
    assert not {row["path"] for row in rows} & {features.paths[row] for row in (0, 1, 2, 31, 32, 33)}
    margins = dict(least_sure(features, np.repeat([0, -1, 1, -1], [3, 28, 3, 90]), features.paths, 200))
    assert margins[40] < 0.7 * np.median([margins[row] for row in range(5, 30)])
    labels.write_text(f"path,label\n{features.paths[0]},walks\n")
    with pytest.raises(UserError, match="labels only one class"):
        run([*words, "--overwrite"])


def test_a_label_of_a_video_or_of_a_segment_names_its_clips() -> None:
    times = np.array([[0, 2], [2.0004, 4], [0, 2]], np.float32)
    features = Features(np.eye(3, dtype=np.float32), np.full(3, -1), ["a.mp4", "a.mp4", "b.mp4"], times=times)
    looked = names_in(features)
    assert [looked.name(row) for row in range(3)] == ["a.mp4#0-2", "a.mp4#2-4", "b.mp4"]

    def given(*paths: str) -> list[int]:
        labels = np.arange(len(paths))
        return labels_of(looked, VideoList(paths, labels, labels, Path())).tolist()

    assert given("a.mp4#2.0-4", "a.mp4#0-2") == [1, 0, -1]
    assert given("a.mp4", "b.mp4") == [0, 0, 1]


@pytest.mark.parametrize(
    ("rate", "fps", "whole"), [(25, 0, ""), (30, 0, ""), (30, 12, ""), (24, 0, "#1.01-8")]
)
def test_a_clip_that_is_read_by_its_name_has_all_its_frames(
    tmp_path: Path, rate: int, fps: float, whole: str
) -> None:
    """As one is that is exported from the page and trained on."""
    file, clip = tmp_path / "long.mp4", ClipConfig(16, 4, fps, 32, 32)
    write_video(file, np.zeros((9 * rate, 32, 32, 3), np.uint8), fps=rate)

    def places(name: str, **more: Any) -> tuple[Any, Any]:
        clips = EvaluationClips(unlabelled([name], "", tmp_path), clip, 1, workers=0, **more)
        return clips.places_in_file(0), clips.sample(0)["seconds"]

    frames, seconds = places(f"long.mp4{whole}", every=1.3, timed=True)
    assert len(frames) > 3
    rows, meta = np.zeros((len(frames), 2), np.float32), {"root": str(tmp_path), "clip": asdict(clip)}
    paths = [f"long.mp4{whole}"] * len(frames)
    looked = footage_of(Features(rows, np.full(len(rows), -1), paths, meta, seconds))
    names = [looked.name(row) for row in range(len(rows))]
    assert len(set(names)) == len(names)
    for row, name in enumerate(names):
        read = places(name)[0][0]
        if fps:  # resampled from another frame on
            assert np.abs(read - frames[row]).max() <= rate / fps + 1
            assert (np.diff(read) > 0).all(), "it does not begin again"
        else:
            assert read.tolist() == frames[row].tolist()


def test_clips_of_segments_have_names_of_their_own() -> None:
    """In seconds of the file: a label of one is not that of another."""
    times = np.array([[0, 1], [2, 3], [0, 1], [2, 3]], np.float32)
    paths = ["a.mp4#0-5", "a.mp4#0-5", "a.mp4#5-8", "a.mp4#5-8"]
    looked = names_in(Features(np.zeros((4, 3), np.float32), np.full(4, -1), paths, times=times))
    names = [looked.name(row) for row in range(4)]
    assert names == ["a.mp4#0-1", "a.mp4#2-3", "a.mp4#5-6", "a.mp4#7-8"]
    labels = np.array([0, 1, 0, 0])
    assert labels_of(looked, VideoList(names, labels, labels, Path())).tolist() == [0, 1, 0, 0]


def test_what_the_archive_never_showed_is_an_alert(footage: Path, tmp_path: Path) -> None:
    archive, new = made(1), made(2)
    meta = {"encoder": "one", "root": str(footage)}
    known = np.arange(KINDS * EACH)
    save_features(tmp_path / "archive.npz", replace(archive.part(known), meta=meta))
    save_features(tmp_path / "new.npz", replace(new, meta=meta))
    page = tmp_path / "new.html"
    words = [
        "explore", str(tmp_path / "new.npz"), "--against", str(tmp_path / "archive.npz"), "--out", str(page),
    ]  # fmt: skip
    run([*words, "--false-alarms", "0.05"])
    with (tmp_path / "new" / "alerts.csv").open() as opened_file:
        alerts = list(csv.DictReader(opened_file))
    assert {one["path"] for one in alerts[:3]} == set(new.paths[120:123])
    assert len(alerts) < 3 + 0.15 * len(new)
    assert alerts[0]["time"].startswith("2024-03-0")
    assert "how many new events are missed" in page.read_text()
    save_features(tmp_path / "new.npz", replace(new, meta=meta | {"encoder": "two"}))
    with pytest.raises(UserError, match="extracted with other weights"):
        run([*words, "--overwrite"])


@pytest.mark.parametrize(
    ("archive", "new", "message"),
    [
        ({"clip": {"frames": 8, "size": 32}}, {"clip": {"frames": 16, "size": 32}}, "with frames 8 and 16"),
        ({"clip": {"modality": "rgb"}}, {"clip": {"modality": "flow"}}, "with modality rgb and flow"),
        ({"crops": 1}, {"crops": 3}, "with crops 1 and 3"),
        ({"every": 1.0, "windows": 1}, {"every": 2.0, "windows": 3}, r"with every 1\.0 and 2\.0"),
        ({"every": 0, "windows": 1}, {"every": 0, "windows": 3}, "with windows 1 and 3"),
        ({}, {"times": True}, r"features of clips \(--per-clip\), the other of videos"),
    ],
)
def test_new_footage_is_not_compared_with_an_archive_of_other_clips(
    tmp_path: Path, archive: dict[str, Any], new: dict[str, Any], message: str
) -> None:
    times = np.zeros((len(made()), 2), np.float32) if new.pop("times", False) else None
    save_features(tmp_path / "archive.npz", replace(made(1), meta=archive))
    save_features(tmp_path / "new.npz", replace(made(2), meta=new, times=times))
    words = ["explore", str(tmp_path / "new.npz"), "--against", str(tmp_path / "archive.npz")]
    with pytest.raises(UserError, match=message):
        run([*words, "--out", str(tmp_path / "new.html"), "--false-alarms", "0.1"])


@pytest.mark.parametrize(("segments", "more"), [(True, []), (False, ["--group-regex", r"rec\d+"])])
def test_an_archive_is_set_aside_by_files_or_groups(tmp_path: Path, segments: bool, more: list[str]) -> None:
    """Ten segments, or days, of each of 12 recordings are no 120 independent videos."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(12, DIM)), 10, 0) + 0.3 * rng.normal(size=(120, DIM))
    paths = [
        f"rec{row // 10}.mp4#{row % 10}-{row % 10 + 1}" if segments else f"rec{row // 10}/{row}.mp4"
        for row in range(120)
    ]
    meta = {"root": str(tmp_path)}
    save_features(tmp_path / "old.npz", Features(rows.astype(np.float32), np.full(120, -1), paths, meta))
    save_features(tmp_path / "new.npz", replace(made(2), meta=meta))
    words = ["explore", str(tmp_path / "new.npz"), "--against", str(tmp_path / "old.npz"), "--clips", "0"]
    words += ["--out", str(tmp_path / "new.html"), *more]
    with pytest.raises(UserError, match="the archive has 12 videos"):
        run([*words, "--false-alarms", "0.05"])
    run([*words, "--false-alarms", "0.3", "--overwrite"])


def test_footage_is_read_as_the_archive_was(scenes: Path, tmp_path: Path) -> None:
    clip = ClipChanges(frames=4, stride=2, resize=40, size=32)
    extract(
        ExtractConfig(
            "none", scenes / "train.txt", tmp_path / "archive.npz",
            loading=LoadSettings("tiny", "avgmax", seed=3), clip=clip,
            settings=ExtractSettings(windows=2, workers=0),
        )
    )  # fmt: skip
    words = ["--against", str(tmp_path / "archive.npz"), "--false-alarms", "0.2", "--workers", "0"]
    run(["explore", str(scenes / "test.txt"), *words, "--out", str(tmp_path / "new.html"), "--clips", "2"])
    one, two = (load_features(tmp_path / name).meta for name in ("archive.npz", "new/features.npz"))
    assert [one[name] for name in ("encoder", "clip", "windows")] == [
        two[name] for name in ("encoder", "clip", "windows")
    ]


@pytest.mark.parametrize(
    "said", [{"seed": -1}, {"windows": 0}, {"every": -1.0}, {"crops": 7}, {"pooling": "median"}]
)
def test_an_archive_with_impossible_settings_is_refused(
    said: dict[str, Any], footage: Path, tmp_path: Path
) -> None:
    clip = {"frames": 4, "stride": 2, "resize": 40, "size": 32}
    meta = {"weights": "none", "backbone": "tiny", "clip": clip, **said}
    save_features(tmp_path / "archive.npz", replace(made(1), meta=meta))
    words = ["--against", str(tmp_path / "archive.npz"), "--out", str(tmp_path / "new.html")]
    with pytest.raises(UserError, match="does not support"):
        run(["explore", str(footage), *words])


def test_captions_show_the_end_of_a_long_path() -> None:
    assert end_of("shard-00000.tar/home/videos/calm/a") == "…/calm/a"
    assert [end_of(path) for path in ("a.mp4", "calm/a.mp4")] == ["a.mp4", "calm/a.mp4"]
