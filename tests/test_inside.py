"""A features file or a pack leads to no file outside the folder that its owner points at."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate import features as features_module
from dsm.evaluate.features import BELOW, Features, label_names, places_of
from dsm.pages.gallery import clip_frames
from dsm.verbs.pack import PackConfig, pack
from dsm.video.decode import read_frames
from dsm.video.source import VideoError


def index(root: Path, *paths: str) -> Features:
    """Features that say their videos lie here."""
    rows = np.zeros((len(paths), 2), np.float32)
    return Features(rows, np.zeros(len(paths), np.int64), list(paths), {"root": str(root)})


@pytest.fixture
def own(video: Path, tmp_path: Path) -> Path:
    """A folder with a video in it; another video lies beside the folder."""
    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(video, folder / "a.mp4")
    shutil.copy(video, tmp_path / "secret.mp4")
    return folder


def test_videos_outside_are_not_shown(own: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    (own / "link.mp4").symlink_to(secret)
    (own / "up").symlink_to(tmp_path)
    assert len(clip_frames(index(own, "a.mp4"), 0))
    assert len(clip_frames(index(own, str(own / "a.mp4")), 0)), "an absolute path inside is fine"
    for path in (str(secret), "../secret.mp4", "link.mp4", "up/secret.mp4", "link.mp4#0-0.2", "up/x.tar/a"):
        with pytest.raises(VideoError, match="leads out"):
            clip_frames(index(own, path), 0)


def test_frames_outside_are_not_shown(own: Path, tmp_path: Path) -> None:
    (tmp_path / "img_0.png").write_bytes(b"")
    (own / "frames").mkdir()
    (own / "frames" / "img_0.png").symlink_to(tmp_path / "img_0.png")
    for path in ("frames", "frames/img_*.png"):
        with pytest.raises(VideoError, match="leads out"):
            clip_frames(index(own, path), 0)


def test_the_folder_that_a_file_names_must_be_one_of_videos(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in (Path("/"), tmp_path, tmp_path.parent):
        with pytest.raises(UserError, match="pass the folder of the videos with --root"):
            clip_frames(index(root, str(own / "a.mp4")), 0)
        assert len(clip_frames(replace(index(root, str(own / "a.mp4")), within=root), 0)), "as its owner says"
    for odd in (5, None, ["/"]):
        with pytest.raises(UserError, match="do not name the folder"):
            clip_frames(replace(index(own, "a.mp4"), meta={"root": odd}), 0)


def test_features_that_name_urls_are_not_fetched(own: Path, tmp_path: Path) -> None:
    """Their host would learn who looks, and a stranger could have servers of our own network asked."""
    for root, path in (
        (".", "http://127.0.0.1:9/a.mp4"), ("", "http://127.0.0.1:9/a.mp4"), ("http:", "127.0.0.1:9/a.mp4"),
    ):  # fmt: skip
        features = replace(index(own, path), meta={"root": root})
        with pytest.raises(VideoError, match="leads out"):
            clip_frames(features, 0)
    with pytest.raises(VideoError, match="if you trust it, pass it with --root"):
        clip_frames(replace(index(own, "a.mp4"), meta={"root": "http://127.0.0.1:9"}), 0)


def test_class_names_are_not_fetched_from_a_url_that_features_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(features_module, "class_names", lambda folder, count: asked.append(folder) or ["x"])
    features = Features(np.zeros((2, 2), np.float32), np.arange(2), ["a.mp4", "b.mp4"], {})
    for root in ("http://127.0.0.1:9/v", "http:/127.0.0.1:9/v", "http:"):
        label_names(replace(features, meta={"root": root}))
    assert asked == [None] * 3
    label_names(features.rooted(Path("http://127.0.0.1:9/v")))  # given by the user
    assert asked[3:] == [Path("http://127.0.0.1:9/v")]


def test_a_list_of_videos_elsewhere_says_where_they_are(own: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "secret.mp4", own / "b.mp4")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "link.mp4").symlink_to(own / "b.mp4")
    (lists / "list.txt").write_text(f"{own / 'a.mp4'}\nlink.mp4\n")
    places = places_of(read_list(lists / "list.txt"))
    assert places == {"root": str(lists), BELOW: str(own)}
    features = replace(index(lists, str(own / "a.mp4"), "link.mp4"), meta=places)
    assert all(len(clip_frames(features, row)) for row in range(2))
    (own / "list.txt").write_text("a.mp4\n")
    assert places_of(read_list(own / "list.txt")) == {"root": str(own)}


def test_a_shard_that_is_a_link_shows_no_other_file(small_list: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    pack(PackConfig(small_list, out, short_side=48, workers=1))
    name = next(iter(json.loads((out / "shard-00000.json").read_text())["members"]))
    inside = out / "shard-00000.tar" / name
    whole = read_frames(inside, [0])
    (out / "shard-00000.tar").rename(out / "kept")
    (out / "shard-00000.tar").symlink_to(out / "kept")
    assert (read_frames(inside, [0]) == whole).all(), "a link inside is fine"
    (out / "shard-00000.tar").unlink()
    (tmp_path / "private").write_bytes((out / "kept").read_bytes())
    (out / "shard-00000.tar").symlink_to(tmp_path / "private")
    with pytest.raises(VideoError, match="leads out of its pack"):
        read_frames(inside, [0])
