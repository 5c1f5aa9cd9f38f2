"""Gaps in a video's time stay gaps: no clip spans one or is sampled in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_data_verbs import output_of
from test_decode import encode, moving_frames
from warm_dsm import dsm

from dsm.data.clips import EvaluationClips, TrainingClips
from dsm.data.lists import VideoList
from dsm.data.reading import Reader
from dsm.data.settings import ClipConfig
from dsm.disturb.temporal import TemporalMix
from dsm.video.clock import parts_of, seconds_of
from dsm.video.sampling import at_rate, random_window, timed_windows, uniform_windows
from dsm.video.times import continuous_parts, frame_times
from dsm.views import Augment, View

PAUSE = 7200_000
TIMES = [*range(0, 1200, 40), *range(PAUSE, PAUSE + 2400, 40)]
PARTS = [(0, 30), (30, 90)]


@pytest.fixture(params=["a.mkv", "a.mp4", "a.ts"])
def video_with_gap(request: pytest.FixtureRequest, tmp_path: Path) -> VideoList:
    """A list of one video of 30 frames and, two hours later, 60."""
    path = encode(tmp_path / request.param, "libx264", moving_frames(90), TIMES, gop="10")
    return VideoList([path.name], np.array([-1]), np.array([90]), tmp_path)


def part_of(frames: np.ndarray) -> set[int]:
    return {int(frame >= 30) for frame in np.ravel(frames)}


def test_the_parts_between_gaps_are_found(video_with_gap: VideoList) -> None:
    path = video_with_gap.file(0)
    assert np.allclose(frame_times(path), np.array(TIMES) / 1000, atol=0.002)
    assert continuous_parts(path) == PARTS
    steady = encode(path.with_name(f"steady{path.suffix}"), "libx264", moving_frames(30))
    assert continuous_parts(steady) is None


@pytest.mark.parametrize("fps", [0.0, 20.0])
def test_no_clip_of_training_spans_a_gap(
    video_with_gap: VideoList, fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = ClipConfig(frames=8, stride=2, fps=fps, resize=32, size=32)
    views = (View("anchor"), View("broken", temporal=TemporalMix()))
    clips = TrainingClips(video_with_gap, clip, Augment(), views, seed=0)
    read, numbers_read = Reader.read, []
    in_file = np.arange(90) if not fps else at_rate(frame_times(video_with_gap.file(0)), fps).numbers
    monkeypatch.setattr(
        Reader, "read", lambda self, index, some: numbers_read.extend(some) or read(self, index, some)
    )
    for epoch in range(40):
        sample = clips[epoch, 0]
        assert isinstance(sample, dict), sample
    numbers = [in_file[one] for one in numbers_read]
    assert len(numbers) == 80
    assert all(len(part_of(one)) == 1 for one in numbers)
    assert {part for one in numbers for part in part_of(one)} == {0, 1}
    assert np.mean([len(set(one.tolist())) for one in numbers]) > 6  # no stills


@pytest.mark.parametrize("every", [0.0, 1.0])
def test_no_clip_of_extraction_spans_a_gap(video_with_gap: VideoList, every: float) -> None:
    clip = ClipConfig(frames=8, stride=2, resize=32, size=32)
    clips = EvaluationClips(video_with_gap, clip, 5, every=every, timed=True)
    found = clips[0]["seconds"]  # type: ignore[index]
    assert len(found) == 5
    assert np.allclose(found[:, 1] - found[:, 0], 0.56, atol=0.003)
    assert found[0, 0] == 0
    assert found[-1, 1] == pytest.approx(PAUSE / 1000 + 2.36, abs=0.003)
    around = clips.around(0, 3000.0)  # in the gap: the clip that ended before it
    assert np.array_equal(around, clips.around(0, 1.16))


def test_a_rate_is_sampled_inside_the_parts(video_with_gap: VideoList) -> None:
    clip = ClipConfig(frames=4, stride=1, fps=10, resize=32, size=32)
    reader = Reader(video_with_gap, clip)
    assert reader.total(0) == 12 + 24
    assert reader.video(0) == [(0, 12), (12, 36)]
    times = reader.times(0)
    assert times is not None
    assert times[11] == pytest.approx(1.1)
    assert times[12] == pytest.approx(PAUSE / 1000, abs=0.003)


def test_extract_and_pack_keep_the_times(video_with_gap: VideoList, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{video_with_gap.paths[0]}\n")
    result = dsm("data", "pack", tmp_path / "list.txt", "--out", tmp_path / "pack", "--short-side", "32")
    assert result.returncode == 0, output_of(result)
    packed = tmp_path / "pack" / "shard-00000.tar" / "a"
    assert np.allclose(frame_times(packed), np.array(TIMES) / 1000, atol=0.002)
    assert continuous_parts(packed) == PARTS


def test_windows_stay_inside_parts() -> None:
    rng = np.random.default_rng(0)
    starts = {int(random_window(PARTS, 8, 2, rng)[0]) for _ in range(600)}
    assert starts == {*range(16), *range(30, 76)}
    assert uniform_windows(PARTS, 8, 2, 3)[:, 0].tolist() == [0, 44, 75]
    assert uniform_windows([(0, 90)], 8, 2, 3).tolist() == uniform_windows(90, 8, 2, 3).tolist()
    short = uniform_windows([(0, 3), (3, 5)], 4, 1, 2)  # too short parts loop within themselves
    assert short.tolist() == [[0, 1, 2, 0], [3, 4, 3, 4]]
    times = np.array(TIMES) / 1000
    found = timed_windows(PARTS, 8, 2, times, 1.0)
    assert found[:, 0].tolist() == [0, 15, 30, 55, 75]


def test_a_clock_that_jumps_back_starts_a_new_part() -> None:
    # B-frames: decoded before they are shown.
    piece = [120 * third + step for third in range(20) for step in (0, 80, 40)]
    found = seconds_of([*piece, *piece], 0.001, 25)
    assert found is not None
    assert (np.diff(found) > 0).all()
    assert parts_of(found) == [(0, 60), (60, 120)]
    assert np.allclose(np.diff(found)[:59], 0.04)


def test_slow_and_uneven_clocks_have_no_gaps() -> None:
    assert parts_of(np.arange(50) * 10.0) == [(0, 50)]  # a picture every ten seconds
    assert parts_of(np.cumsum([0.04, 0.2, 0.5, 0.04, 0.9])) == [(0, 5)]
    assert parts_of(np.zeros(1)) == [(0, 1)]
    assert seconds_of([None] * 4, 0.001, 2.0).tolist() == [0, 0.5, 1, 1.5]  # type: ignore[union-attr]
    assert seconds_of([0] * 4, 0.001, 0.0) is None
