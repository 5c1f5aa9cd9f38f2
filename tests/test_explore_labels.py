"""Clips of footage get labels: named in a browser, read again, and suggested to be named next."""

from __future__ import annotations

import csv
import html
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import opened
from made_footage import EACH, made_features, page_data

from dsm.cli.main import run
from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, read_list, unlabelled
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.evaluate.footage import footage_of, names_in
from dsm.evaluate.suggest import labels_of, least_sure
from dsm.pages.explore_tables import labels_csv
from dsm.video.write import write_video


def list_after(script: str, page: Path, *, width: int = 1200) -> tuple[str, str]:
    """The list that a page writes after a script ran in it, and the page's document."""
    script += """
    const out = document.createElement("pre"); out.id = "written"; out.textContent = dsm.list();
    document.body.append(out);"""
    changed = page.with_name("changed.html")
    changed.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    document, errors = opened(changed, width=width)
    assert errors == []
    written = re.search(r'<pre id="written">(.*?)</pre>', document, re.DOTALL)
    assert written
    return html.unescape(written[1]), document


@pytest.mark.parametrize("width", [390, 1200])
def test_clips_are_named_in_the_page_and_the_list_is_read(footage: Path, tmp_path: Path, width: int) -> None:
    page, index = tmp_path / "explore.html", load_features(footage / "made.npz")
    index.paths[9] = "#cam0/9.mp4"  # would be a comment in a list
    save_features(tmp_path / "made.npz", index)
    run(["explore", str(tmp_path / "made.npz"), "--out", str(page), "--root", str(footage / "videos")])
    script = """
    dsm.choose(7); dsm.choose(9); dsm.choose(121); document.getElementById("name").value = 'odd, "one"';
    document.getElementById("give").click();
    const input = document.querySelector(".line[data-cluster] input");
    input.value = "walks"; input.onchange();
    const map = document.querySelector("canvas"); map.dispatchEvent(new Event("focus"));
    map.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
    const how = document.getElementById("how");
    for (const one of how.options) { how.value = one.value; how.onchange(); }
    """
    labels = tmp_path / "labels.csv"
    labels.write_text(list_after(script, page, width=width)[0])
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
    script = """
    const inputs = [...document.querySelectorAll(".line[data-cluster] h3 input")];
    const name = (at, given) => { inputs[at].value = given; inputs[at].onchange(); };
    name(0, "walks"); name(3, 'runs, "fast"');
    dsm.choose(0); document.getElementById("name").value = "odd"; document.getElementById("give").click();
    """
    written, document = list_after(script, page)
    clusters = list(csv.DictReader((tmp_path / "explore" / "clusters.csv").open()))
    named = {line["path"]: {"1": "walks", "4": 'runs, "fast"'}.get(line["cluster"], "") for line in clusters}
    data = page_data(page)
    named[data["paths"][0]] = "odd"
    told = re.search(r'id="sum"[^>]*>(\d+) clips are named \(3 names\); (\d+) of them are not', document)
    assert told
    assert int(told[1]) == sum(map(bool, named.values()))
    assert int(told[2]) == sum(bool(name) and path not in data["paths"] for path, name in named.items())
    names = tmp_path / "names.csv"
    names.write_text(written)
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


def test_the_least_sure_clips_lie_between_two_labels(footage: Path, tmp_path: Path) -> None:
    features = made_features()
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
