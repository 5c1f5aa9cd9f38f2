"""A damaged picture ends nothing: what can be decoded is read, numbers stay, and what is lost is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from test_cli import dsm
from test_data_verbs import told
from test_decode import KINDS, damaged, encode, moving_frames

from dsm.data.clip_settings import ClipConfig
from dsm.data.clips import EpochBatches, TrainingClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.loading import Batches
from dsm.data.reading_state import ReadingState
from dsm.runs.bad_videos import LEDGER, BadVideos
from dsm.video.convert import converter
from dsm.video.decode import read_frames
from dsm.video.kept_open import close_kept
from dsm.video.ledger import judge, read_ledger
from dsm.video.pack import find_member
from dsm.video.source import VideoError, open_video, video_stream
from dsm.video.times import frame_times
from dsm.views import Augment, View

COUNT, LOST = 60, 30


def wreck(whole: Path, place: int = LOST) -> Path:
    """A copy in which one packet is nothing but ones."""
    with av.open(str(whole)) as container:
        packet = next(p for n, p in enumerate(container.demux(video=0)) if n == place)
        content = bytearray(whole.read_bytes())
        at, size = content.find(bytes(packet)), packet.size
        at = packet.pos if at < 0 else at  # in a ts it lies in pieces
    content[at : at + size] = b"\xff" * size
    path = whole.with_name(f"damaged{whole.suffix}")
    path.write_bytes(content)
    return path


def past_errors(path: Path, short_side: int | None = None) -> dict[int | None, np.ndarray]:
    """The slow, obvious reference: PyAV reading on past errors: time -> picture."""
    found = {}
    with open_video(path) as container:
        convert = converter(container, short_side)
        for packet in packets(container):
            try:
                frames = video_stream(container).codec_context.decode(packet)
            except (av.FFmpegError, EOFError):
                continue
            found |= {frame.pts: convert(frame) for frame in frames}
    return found


def packets(container: av.container.InputContainer) -> Iterator[av.Packet | None]:
    with suppress(av.FFmpegError):
        yield from (packet for packet in container.demux(video_stream(container)) if packet.size)
    yield None


WRECKS = ["h264 gop 12", "h264 mkv", "mpeg4 avi", "mjpeg", "h264 ts"]


@pytest.mark.parametrize("kind", WRECKS)
def test_all_but_the_lost_picture_is_read_and_keeps_its_number(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    whole = encode(tmp_path / name, codec, moving_frames(COUNT), **options)
    path = wreck(whole)
    expected = list(past_errors(path, 32).values())
    found = judge(path)
    assert found.verdict in ("damaged", "ok")  # some decoders hide what is lost, and show another picture
    assert COUNT - 3 <= found.frames == len(expected)
    numbers = range(found.numbers)
    everything = read_frames(path, numbers, 32)
    assert all(any(np.array_equal(one, two) for two in everything) for one in expected)
    for number in (0, 12, 29, 30, 31, 45, 59):
        number = min(number, found.numbers - 1)
        close_kept()
        alone = read_frames(path, [number], 32)[0]
        assert np.array_equal(alone, everything[number])
        assert np.array_equal(read_frames(path, [3, number, 31], 32)[1], alone)
    if kind != "h264 ts":  # whose packets are not counted
        assert found.numbers == COUNT
        clean = [number for number in range(COUNT) if number < 24 or number >= 36]
        assert np.array_equal(everything[clean], read_frames(whole, clean, 32))
    if found.verdict == "damaged":
        assert "pictures lost" in found.reason or "with faults" in found.reason


def test_frames_of_damaged_files_are_those_of_reading_on(tmp_path: Path) -> None:
    """The fuzz: by times, PyAV reading on past errors gives the same pictures, and no more."""
    rng = np.random.default_rng(3)
    compared = 0
    for kind in ("h264 gop 12", "h264 mkv", "mpeg4 avi", "vp8"):
        name, codec, options = KINDS[kind]
        content = encode(tmp_path / name, codec, moving_frames(), **options).read_bytes()
        for number in range(12):
            path = tmp_path / f"{number}{name}"
            path.write_bytes(damaged(content, rng))
            try:
                expected = past_errors(path, 32)
                found = judge(path)
            except (VideoError, OSError):
                continue
            if found.frames == 0:
                continue
            everything = read_frames(path, range(found.numbers), 32)
            assert found.frames >= len(expected)
            seen = {one.tobytes() for one in everything}
            assert {one.tobytes() for one in expected.values()} <= seen
            for one in rng.integers(0, found.numbers, 4):
                assert np.array_equal(read_frames(path, [one], 32)[0], everything[one]), (path, one)
            compared += 1
    assert compared > 15


def test_check_pack_and_frames_count_what_is_lost(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", "libx264", moving_frames(COUNT))
    wreck(whole)
    write_list(
        tmp_path / "list.txt",
        VideoList(["damaged.mp4", "whole.mp4"], np.array([-1, -1]), np.array([-1, -1]), tmp_path),
    )
    result = dsm(
        "data", "check", tmp_path / "list.txt", "--json", tmp_path / "l.json", "--clean", tmp_path / "c.txt"
    )
    assert result.returncode == 0, told(result)
    assert "damaged" in told(result)
    assert f"{COUNT - 1} frames usable" in told(result)
    one, two = read_ledger(tmp_path / "l.json")
    assert (one.verdict, one.frames, one.numbers, two.verdict) == ("damaged", COUNT - 1, COUNT, "ok")
    assert read_list(tmp_path / "c.txt").frames.tolist() == [COUNT, COUNT]  # none after it is cut off
    for verb in ("pack", "frames"):
        words = ("--short-side", "32", "--workers", "1")
        result = dsm("data", verb, tmp_path / "list.txt", "--out", tmp_path / verb, *words)
        assert result.returncode == 0, told(result)
        assert f"damaged.mp4: 1 of {COUNT} pictures lost" in told(result) or "damaged: 1 of" in told(result)
        assert read_list(tmp_path / verb / "list.txt").frames.tolist() == [COUNT - 1, COUNT]
    result = dsm("data", "check", tmp_path / "pack" / "list.txt", "--json", tmp_path / "p.json")
    assert result.returncode == 0, told(result)
    one, two = read_ledger(tmp_path / "p.json")
    assert (one.verdict, one.frames, two.verdict, two.reason) == ("damaged", COUNT - 1, "ok", "")
    assert f"1 of {COUNT} pictures lost" in one.reason
    times = frame_times(tmp_path / "pack" / "shard-00000.tar" / "damaged")
    steps = np.diff(times)
    assert np.sum(np.isclose(steps, 0.08)) == 1  # the lost one's time is not given to another
    assert np.sum(np.isclose(steps, 0.04)) == COUNT - 3
    assert not find_member(tmp_path / "pack" / "shard-00000.tar", "whole").times


@pytest.mark.parametrize("workers", [0, 1])
def test_training_goes_on_with_a_damaged_video_and_tells_it_once(tmp_path: Path, workers: int) -> None:
    wreck(encode(tmp_path / "a.mp4", "libx264", moving_frames(COUNT)))
    names = ["damaged.mp4"] * 2
    videos = VideoList(names, np.array([-1, -1]), np.array([-1, -1]), tmp_path)
    clip = ClipConfig(frames=16, stride=3, resize=32, size=32)
    clips = TrainingClips(videos, clip, Augment(), (View("anchor"),), seed=1, workers=workers)
    order = EpochBatches(2, 2, seed=1, start=0, stop=4)
    found = list(Batches(clips, order, workers, 60.0, pin_memory=False))
    assert not [video for batch in found for video in batch["bad"]]
    damaged_ones = [video for batch in found for video in batch["damaged"]]
    assert {video.verdict for video in damaged_ones} == {"damaged"}
    assert len(damaged_ones) == 2
    bad = BadVideos(tmp_path, videos, 0.0, ReadingState(0, 2))
    bad.add(damaged_ones)  # is none of those that end a run
    (entry,) = read_ledger(tmp_path / LEDGER)
    assert (entry.path, entry.verdict) == ("damaged.mp4", "damaged")
    assert "1 damaged" in bad.note()
    assert all(torch.isfinite(batch["clips"]["anchor"].float()).all() for batch in found)


def test_corrupt_frames_are_noticed(tmp_path: Path) -> None:
    whole = encode(
        tmp_path / "a.mp4", "libx264", moving_frames(COUNT), gop="30", **{"x264-params": "slices=4"}
    )
    content = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packet = next(p for n, p in enumerate(container.demux(video=0)) if n == LOST)
        middle = content.index(bytes(packet)) + packet.size // 2
    content[middle : middle + 200] = b"\xff" * 200
    path = tmp_path / "faults.mp4"
    path.write_bytes(content)
    with av.open(str(path)) as container:
        flagged = []
        for one in packets(container):
            try:
                flagged += [f.is_corrupt for f in container.streams.video[0].codec_context.decode(one)]
            except (av.FFmpegError, EOFError):
                flagged.append(True)
    assert any(flagged), "the test's own damage is seen by the decoder"
    assert judge(path).verdict == "damaged"
    assert judge(whole).verdict == "ok"


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "h264 intra refresh", "h264 open gop", "hevc"])
def test_nothing_is_called_damaged_that_is_whole(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    if codec == "libx265":
        pytest.skip("x265 may crash here")
    found = judge(encode(tmp_path / name, codec, moving_frames(), **options))
    assert (found.verdict, found.frames, found.numbers) == ("ok", 50, 50)


def test_samples_that_an_edit_list_hides_are_no_truncation(shared: Path) -> None:
    folder = shared / "data" / "awkward" / "fate"
    for name in ("h264_mov_neg_first_pts_discard.mp4", "h264_mov_stream_shorter_than_movie.mp4"):
        found = judge(folder / name)
        assert (found.verdict, found.frames) == ("ok", found.header_frames // 2), found
