"""Segments of files that are damaged, truncated or have gaps in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_damaged import COUNT, LOST, overwrite_packet
from test_decode import KINDS, encode, moving_frames

from dsm.cli import main
from dsm.data.clips import TrainingClips
from dsm.data.folders import find_videos
from dsm.data.lists import VideoList, read_list
from dsm.data.reading import Reader
from dsm.data.settings import ClipConfig
from dsm.video.damage import noted
from dsm.video.decode import probe, read_frames
from dsm.video.ledger import judge
from dsm.video.source import VideoError
from dsm.video.times import continuous_parts, frame_times
from dsm.video.write import folders_for
from dsm.views import Augment, View

BEFORE, AROUND, AFTER = "#0-1", "#1-1.6", "#1.6-9"
NUMBERS = {BEFORE: range(25), AROUND: range(25, 40), AFTER: range(40, COUNT)}
PAUSE = 7200_000
TIMES = [*range(0, 1200, 40), *range(PAUSE, PAUSE + 2400, 40)]


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "mpeg4 avi", "mjpeg"])
def test_a_segment_of_a_damaged_file_has_its_own_frames_and_damage(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    path = overwrite_packet(encode(tmp_path / name, codec, moving_frames(COUNT), **options))
    whole = judge(path)
    everything = read_frames(path, range(whole.numbers), 32)
    lost = 0
    for segment, numbers in NUMBERS.items():
        found = judge(f"{path}{segment}")
        assert (found.numbers, found.header_frames) == (len(numbers), len(numbers))
        assert found.verdict == (whole.verdict if segment == AROUND else "ok")
        lost += found.numbers - found.frames
        read = read_frames(f"{path}{segment}", range(len(numbers)), 32)
        assert np.array_equal(read, everything[numbers.start : numbers.stop])
        assert bool(noted(f"{path}{segment}")) == (found.verdict == "damaged")
    assert lost == whole.numbers - whole.frames
    assert whole.verdict == "damaged" or kind == "mpeg4 avi"  # a decoder may hide what is lost


def test_a_segment_of_a_damaged_file_is_written_and_its_lost_frames_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = overwrite_packet(encode(tmp_path / "a.mp4", "libx264", moving_frames(COUNT), bf="0"))
    whole = read_frames(path, range(COUNT), 32)
    found = judge(f"{path}{AROUND}")
    assert (found.verdict, found.frames) == ("damaged", 14)
    (tmp_path / "l.txt").write_text("".join(f"{path.name}{segment} 0\n" for segment in NUMBERS))
    for verb in ("pack", "frames"):
        main.run(["data", verb, str(tmp_path / "l.txt"), "--short-side", "32", "--out", str(tmp_path / verb)])
        made = read_list(tmp_path / verb / "list.txt")
        assert made.frames.tolist() == [25, 14, 20]
        output = capsys.readouterr().err
        assert output.count("damaged: ") == 1
        assert "1 of 15 pictures lost" in output
        kept = [number for number in NUMBERS[AROUND] if number != LOST]
        read = read_frames(made.file(1), range(14), 32).astype(int)
        # JPEG and 4:2:0 change colours, but not which of the frames is nearest.
        off = np.abs(read[:, None] - whole[None]).mean((2, 3, 4))
        assert off.argmin(1).tolist() == kept
    packed = read_list(tmp_path / "pack" / "list.txt")
    expected = np.delete(np.arange(15) / 25, LOST - 25)
    assert frame_times(packed.file(1)) == pytest.approx(expected, abs=2e-3)


def test_a_segment_cut_off_by_its_files_end_loops(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "libx264", moving_frames(COUNT), bf="0")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    count = judge(path).frames
    assert 30 < count < 55
    crossing = f"{path}#{count / 25 - 0.2}-{COUNT / 25}"
    length = probe(crossing).frames
    read = read_frames(crossing, range(2 * length), 32)
    own = read_frames(path, range(count - length, count), 32)
    assert np.array_equal(read, np.concatenate([own, own]))
    with pytest.raises(VideoError, match="cannot start at second"):
        read_frames(f"{path}#{(count + 5) / 25}-9", [0])


def test_frames_only_promised_by_the_header_are_not_in_a_segment(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", moving_frames(COUNT), bf="0", movflags="faststart")
    for packet in range(50, COUNT):
        path = overwrite_packet(path, packet).replace(tmp_path / "a.mp4")
    assert judge(path).verdict == "truncated"
    crossing = judge(f"{path}#1.8-9")
    assert (crossing.verdict, crossing.frames) == ("truncated", 5)
    assert "breaks off after frame 50" in crossing.reason
    assert np.array_equal(
        read_frames(f"{path}#1.8-9", range(15), 32),
        np.tile(read_frames(path, range(45, 50), 32), (3, 1, 1, 1)),
    )
    assert judge(f"{path}#1-1.8").verdict == "ok"
    assert judge(f"{path}#2.1-9").verdict == "undecodable"
    with pytest.raises(VideoError, match="can be decoded only up to frame 50"):
        read_frames(f"{path}#2.1-9", [0])


@pytest.fixture(params=["a.mkv", "a.mp4", "a.ts"])
def video_with_gap(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """30 frames and, two hours later, 60."""
    return encode(tmp_path / request.param, "libx264", moving_frames(90), TIMES, gop="10")


def test_a_segment_over_a_gap_has_parts_and_one_inside_a_gap_is_reported(
    video_with_gap: Path, tmp_path: Path
) -> None:
    name = f"{video_with_gap}#0.8-7200.4"
    assert probe(name).frames == 20
    expected = np.array(TIMES[20:40]) / 1000 - TIMES[20] / 1000
    assert frame_times(name) == pytest.approx(expected, abs=2e-3)
    assert continuous_parts(name) == [(0, 10), (10, 20)]
    assert continuous_parts(f"{video_with_gap}#0-1") is None
    with pytest.raises(
        VideoError, match=r"cannot start at second 100: there is a gap in time from 1\.16 to 7200\.00"
    ):
        probe(f"{video_with_gap}#100-200")
    with pytest.raises(VideoError, match=r"cannot start at second 7300.* the file ends at 7202"):
        probe(f"{video_with_gap}#7300-7301")
    # With so few frames, gaps cannot be recognised.
    few = f"{video_with_gap}#1.15-7200.06"
    assert continuous_parts(few) == [(0, 1), (1, 3)]
    reader = Reader(
        VideoList([few], np.array([-1]), np.array([-1]), Path()), ClipConfig(frames=2, stride=1, fps=25)
    )
    assert reader.video(0) == [(0, 1), (1, 3)]
    (tmp_path / "l.txt").write_text(f"{video_with_gap.name}#0.8-7200.4\n")
    main.run(["data", "pack", str(tmp_path / "l.txt"), "--short-side", "32", "--out", str(tmp_path / "p")])
    packed = read_list(tmp_path / "p" / "list.txt").file(0)
    assert frame_times(packed) == pytest.approx(expected, abs=2e-3)
    assert continuous_parts(packed) == [(0, 10), (10, 20)]


@pytest.mark.parametrize("fps", [0.0, 20.0])
def test_no_clip_of_a_segment_spans_a_gap(
    video_with_gap: Path, fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = VideoList([f"{video_with_gap}#0.8-7200.4"], np.array([-1]), np.array([-1]), Path())
    clip = ClipConfig(frames=4, stride=2, fps=fps, resize=32, size=32)
    clips = TrainingClips(videos, clip, Augment(), (View("anchor"),), seed=0)
    read, numbers_read = Reader.read, []
    monkeypatch.setattr(
        Reader, "read", lambda self, index, some: numbers_read.extend(some) or read(self, index, some)
    )
    for epoch in range(30):
        assert isinstance(clips[epoch, 0], dict)
    cut = clips.reader.video(0)[0][1]
    sides = [{int(number >= cut) for number in one} for one in numbers_read]
    assert all(len(one) == 1 for one in sides)
    assert {side for one in sides for side in one} == {0, 1}


def test_clips_segments_and_duplicates_get_separate_places() -> None:
    names = [
        "d/a_*.png",
        "d/b*.png",
        "d/*.jpg",
        "d/a.mp4#1-2",
        "x.mp4",
        "x.avi",
        "x.mp4#1-2",
        "d/c_*.png",
        "d/c*.png",
    ]
    assert [str(place) for place in folders_for(names)] == [
        "d/a", "d/b", "d/frames", "d/a_1-2", "x.mp4", "x.avi", "x_1-2", "d/c_frames.png", "d/cframes.png",
    ]  # fmt: skip


def test_stray_pictures_are_counted_and_flow_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "walk"
    folder.mkdir(parents=True)
    for prefix in ("img_", "depth_", "flow_x_", "flow_y_"):
        for number in range(3):
            (folder / f"{prefix}{number:05}.jpg").touch()
    (folder / "._img_00001.jpg").touch()
    assert find_videos(tmp_path / "data") == [folder]
    output = capsys.readouterr().err
    assert "files that are not videos: 3 .jpg" in output
    assert "left out 1 hidden or system file or folder: walk/._img_00001.jpg" in output
