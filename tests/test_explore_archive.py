"""New footage against an archive: what the archive never showed, and which archives are refused."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_footage import DIM, EACH, KINDS, made_features

from dsm.cli.main import run
from dsm.data.settings import ClipChanges
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.evaluate.settings import ExtractSettings
from dsm.models.settings import LoadSettings
from dsm.verbs.extract import ExtractConfig, extract


def test_what_the_archive_never_showed_is_an_alert(footage: Path, tmp_path: Path) -> None:
    archive, new = made_features(1), made_features(2)
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
    times = np.zeros((len(made_features()), 2), np.float32) if new.pop("times", False) else None
    save_features(tmp_path / "archive.npz", replace(made_features(1), meta=archive))
    save_features(tmp_path / "new.npz", replace(made_features(2), meta=new, times=times))
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
    save_features(tmp_path / "new.npz", replace(made_features(2), meta=meta))
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
    save_features(tmp_path / "archive.npz", replace(made_features(1), meta=meta))
    words = ["--against", str(tmp_path / "archive.npz"), "--out", str(tmp_path / "new.html")]
    with pytest.raises(UserError, match="does not support"):
        run(["explore", str(footage), *words])
