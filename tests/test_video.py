"""Decoding gives exactly the requested frames."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from conftest import frame_numbers, numbered_frames

from dsm.data import reading as cache_module
from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.reading import FrameCache
from dsm.data.settings import ClipConfig
from dsm.video.convert import fit_short_side
from dsm.video.decode import probe, read_clip, read_frames
from dsm.video.sampling import random_window, uniform_windows
from dsm.video.source import VideoError
from dsm.video.write import mp4_bytes, write_video


def decode_everything(path: Path) -> np.ndarray:
    """The slow, obvious reference: every frame, in order."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_frames_are_returned_in_the_requested_order_with_repeats(video: Path) -> None:
    assert frame_numbers(read_frames(video, [7, 0, 29, 7])) == [7, 0, 29, 7]


def test_frames_equal_a_full_decode(video: Path) -> None:
    everything = decode_everything(video)
    numbers = [3, 4, 11, 12, 28]
    difference = np.abs(read_frames(video, numbers).astype(int) - everything[numbers].astype(int))
    assert difference.max() <= 1  # bilinear and bicubic chroma differ by rounding


def test_frames_of_real_videos_equal_a_full_decode(shared: Path) -> None:
    for path in sorted((shared / "data" / "lipword_tiny" / "cat").glob("*.mp4"))[:3]:
        everything = decode_everything(path)
        numbers = [len(everything) - 1, 0, len(everything) // 2]
        found = read_frames(path, numbers)
        assert np.abs(found.astype(int) - everything[numbers].astype(int)).mean() < 1.5


def test_a_short_video_loops(video: Path) -> None:
    assert frame_numbers(read_frames(video, [28, 29, 30, 31, 61])) == [28, 29, 0, 1, 1]


def test_a_clip_has_its_stride_and_short_side(video: Path) -> None:
    clip = read_clip(video, frames=4, stride=5, start=2, size=24)
    assert clip.shape == (4, 24, 32, 3)
    assert clip.dtype == np.uint8
    assert frame_numbers(clip) == [2, 7, 12, 17]


def test_probe_counts_frames(video: Path) -> None:
    info = probe(video)
    assert (info.frames, info.width, info.height, info.fps) == (30, 64, 48, 24.0)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"no video", "cannot be decoded")])
def test_the_error_for_a_broken_file_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=rf"broken.mp4: {message}"):
        read_frames(path, [0])


def test_a_missing_file_is_never_called_corrupt(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        read_frames(tmp_path / "none.mp4", [0])
    with pytest.raises(VideoError, match="contains no numbered picture"):
        read_frames(tmp_path, [0])


def test_equal_frames_are_encoded_to_equal_bytes(tmp_path: Path) -> None:
    frames = numbered_frames(5)
    write_video(tmp_path / "a.mp4", frames)
    write_video(tmp_path / "b.mp4", frames)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert mp4_bytes(frames)[4:8] == b"ftyp"
    assert not list(tmp_path.glob(".*"))  # no temporary file is left


def test_the_short_side_is_resized_in_either_orientation() -> None:
    assert fit_short_side(1920, 1080, 128) == (228, 128)
    assert fit_short_side(240, 320, 120) == (120, 160)
    assert fit_short_side(64, 48, None) == (64, 48)


def test_windows_stay_inside_the_video_or_loop_if_it_is_short() -> None:
    rng = np.random.default_rng(0)
    starts = {int(random_window(30, 8, 3, rng)[0]) for _ in range(300)}
    assert starts == set(range(9))  # 30 frames minus a span of 22
    assert random_window(5, 4, 2, rng).tolist() == [0, 2, 4, 1]
    assert uniform_windows(30, 8, 3, 3)[:, 0].tolist() == [0, 4, 8]
    assert uniform_windows(30, 8, 3, 1)[:, 0].tolist() == [4]
    assert uniform_windows(1, 4, 2, 2).tolist() == [[0, 0, 0, 0]] * 2


def test_the_cache_returns_the_files_frames_within_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", numbered_frames(30, 96, 128))
    cache = FrameCache(2)  # room for one of the two, and for the other if it were a square
    numbers = np.array([3, 7, 8])
    for _ in range(2):
        for name in "ab":
            expected = read_frames(tmp_path / f"{name}.mp4", numbers, 96)
            assert np.array_equal(cache.read(tmp_path / f"{name}.mp4", numbers, 96, 30), expected)
    monkeypatch.setattr(
        cache_module, "read_frames", lambda _, some, *__: frames_read.append(len(some)) or wall
    )
    frames_read: list[int] = []
    wall = np.zeros((3, 96, 96, 3), np.uint8)
    cache.read(tmp_path / "b.mp4", numbers, 96, 30)
    assert frames_read == [3]  # not the whole video, which would not fit the cache
    monkeypatch.undo()
    (tmp_path / "a.mp4").unlink()
    assert frame_numbers(cache.read(tmp_path / "a.mp4", numbers, 96, 30)) == [3, 7, 8]
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(VideoError, match="no such file"):
        cache.read(tmp_path / "b.mp4", numbers, 96, 30)


def test_the_cache_keeps_a_video_that_is_listed_with_two_lengths(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered_frames(30, 96, 128))
    cache = FrameCache(4)
    assert frame_numbers(cache.read(tmp_path / "a.mp4", np.array([3, 7]), 96, 10)) == [3, 7]
    assert frame_numbers(cache.read(tmp_path / "a.mp4", np.array([3, 17]), 96, 20)) == [3, 17]


def test_clips_at_times_keep_to_the_file_if_its_list_claims_more_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered_frames(24), fps=24)
    videos = VideoList(["a.mp4"], np.zeros(1, np.int64), np.array([31]), tmp_path)
    clips = EvaluationClips(videos, ClipConfig(8, 1, resize=48, size=48), 1, every=0.25)
    windows, _ = clips.windows_of(0)
    assert windows[:, 0].tolist() == [0, 6, 12, 16]
    assert windows.max() == 23
