"""Times and cameras of footage, told by names, folders or the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from made_footage import made_features

from dsm.data.cameras import begin_times, cameras_of, clock, recording_times
from dsm.evaluate.footage import footage_of
from dsm.pages.explore import write_explore_page
from dsm.verbs.explore import ExploreConfig, examine


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
    features = made_features().part(np.arange(16))
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
