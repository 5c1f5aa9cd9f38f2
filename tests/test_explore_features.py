"""`dsm explore` extracts the features of footage once, and never takes those of something else for them."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsm.cli.main import run
from dsm.data.folders import find_list
from dsm.data.lists import unlabelled
from dsm.errors import UserError
from dsm.evaluate.extract_to_file import replaced_since
from dsm.evaluate.feature_files import load_features, save_features

TINY = [
    "--weights", "none", "--backbone", "tiny", "--frames", "4", "--size", "32", "--resize", "40",
    "--workers", "0",
]  # fmt: skip
"""Extracts quickly, with random weights."""


def test_footage_is_extracted_once(scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["explore", str(scenes / "test.txt"), "--out", str(page), "--clips", "5", *TINY]
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
    words = ["explore", str(listed), "--root", str(scenes), "--out", str(page), *TINY]
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
    words = ["explore", str(videos), "--out", str(tmp_path / "page.html"), "--clips", "0", *TINY]
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
