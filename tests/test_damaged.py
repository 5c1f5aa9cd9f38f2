"""Damaged files: everything decodable is read, frame numbers stay, and lost frames are reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from test_data_verbs import output_of
from test_decode import KINDS, damaged, encode, moving_frames
from warm_dsm import dsm

from dsm.data.clips import EpochBatches, TrainingClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.loading import Batches
from dsm.data.reading_state import ReadingState
from dsm.data.settings import ClipConfig
from dsm.runs.bad_videos import LEDGER, BadVideos
from dsm.video.convert import converter
from dsm.video.decode import read_frames
from dsm.video.in_order import every_frame, frames_in_order
from dsm.video.kept_open import close_kept
from dsm.video.ledger import judge, read_ledger
from dsm.video.pack import find_member
from dsm.video.source import VideoError, open_video, video_stream
from dsm.video.times import frame_times
from dsm.views import Augment, View

COUNT, LOST = 60, 30


def overwrite_packet(whole: Path, place: int = LOST) -> Path:
    """A copy in which one packet is overwritten with ones."""
    with av.open(str(whole)) as container:
        packet = next(p for n, p in enumerate(container.demux(video=0)) if n == place)
        content = bytearray(whole.read_bytes())
        at, size = content.find(bytes(packet)), packet.size
        at = packet.pos if at < 0 else at  # in a ts it is in pieces
    content[at : at + size] = b"\xff" * size
    path = whole.with_name(f"damaged{whole.suffix}")
    path.write_bytes(content)
    return path


def decode_past_errors(path: Path, short_side: int | None = None) -> dict[int | None, np.ndarray]:
    """The slow, obvious reference: PyAV continuing after errors; time -> picture."""
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
def test_frames_after_a_lost_one_keep_their_numbers(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    whole = encode(tmp_path / name, codec, moving_frames(COUNT), **options)
    path = overwrite_packet(whole)
    expected = list(decode_past_errors(path, 32).values())
    found = judge(path)
    assert found.verdict in ("damaged", "ok")  # some decoders hide a lost picture and show another
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
    if kind != "h264 ts":  # its packets are not counted
        assert found.numbers == COUNT
        clean = [number for number in range(COUNT) if number < 24 or number >= 36]
        assert np.array_equal(everything[clean], read_frames(whole, clean, 32))
    if found.verdict == "damaged":
        assert "pictures lost" in found.reason or "with faults" in found.reason


def test_frames_of_damaged_files_equal_a_sequential_decode(tmp_path: Path) -> None:
    """Fuzz test: PyAV continuing after errors gives the same pictures at the same times."""
    rng = np.random.default_rng(3)
    compared = 0
    for kind in ("h264 gop 12", "h264 mkv", "mpeg4 avi", "vp8"):
        name, codec, options = KINDS[kind]
        content = encode(tmp_path / name, codec, moving_frames(), **options).read_bytes()
        for number in range(12):
            path = tmp_path / f"{number}{name}"
            path.write_bytes(damaged(content, rng))
            try:
                expected = decode_past_errors(path, 32)
                found = judge(path)
            except (VideoError, OSError):
                continue
            if found.frames == 0:
                continue
            everything = read_frames(path, range(found.numbers), 32)
            assert found.frames >= len(expected)
            decoded = {one.tobytes() for one in everything}
            assert {one.tobytes() for one in expected.values()} <= decoded
            for one in rng.integers(0, found.numbers, 4):
                assert np.array_equal(read_frames(path, [one], 32)[0], everything[one]), (path, one)
            compared += 1
    assert compared > 15


def bits_flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bits of the pictures flipped: decoders then show something, and often without an error."""
    broken = bytearray(content)
    for place in rng.integers(len(broken) // 10, len(broken) * 9 // 10, 3):
        broken[place] ^= 1 << int(rng.integers(8))
    return bytes(broken)


def check_one_picture_each(path: Path, rng: np.random.Generator) -> None:
    """A number gives the picture of a decode in order, read alone and after other reads."""
    with open_video(path) as container:
        convert = converter(container, 32)
        in_order = [convert(frame) for frame in every_frame(container)]
    numbers = rng.integers(0, len(in_order), 6).tolist()
    for kept in (False, True):
        for number in numbers:
            if not kept:
                close_kept()
            others = rng.integers(0, len(in_order), 2).tolist() if kept else []
            found = read_frames(path, [*others, number], 32)
            for one, picture in zip([*others, number], found, strict=True):
                assert np.array_equal(picture, in_order[one]), (path, one, kept)


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "mpeg4 avi with B-frames", "mjpeg", "h264 ts"])
def test_a_number_is_one_picture_whatever_was_read_before(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    content = encode(tmp_path / name, codec, moving_frames(), **options).read_bytes()
    rng = np.random.default_rng(11)
    compared = 0
    for number in range(8):
        path = tmp_path / f"{number}{name}"
        path.write_bytes(bits_flipped(content, rng))
        try:
            check_one_picture_each(path, rng)
        except VideoError:
            continue
        compared += 1
    assert compared > 5


def test_real_damaged_files_give_one_picture_a_number_and_are_told(shared: Path) -> None:
    files = sorted((shared / "cases" / "damaged_h264").glob("*_*flip*"))
    if not files:
        pytest.skip("the damaged files are not here")
    for path in files:
        assert judge(path).verdict == "damaged"
        check_one_picture_each(path, np.random.default_rng(0))


def test_a_frame_whose_time_is_damaged_shifts_no_other(tmp_path: Path) -> None:
    """In a Matroska file a block begins with its time; one bit of it makes a frame appear two too late."""
    path = encode(tmp_path / "a.mkv", "libx264", moving_frames(), bf="2")
    with av.open(str(path)) as container:
        packet = next(p for n, p in enumerate(container.demux(video=0)) if n == 17)
        at = path.read_bytes().find(bytes(packet))
    content = bytearray(path.read_bytes())
    content[at - 2] ^= 0b100010
    path.write_bytes(content)
    with open_video(path) as container:
        frames = list(frames_in_order(container))
    assert [number for number, _ in frames][24:] == list(range(24, len(frames)))
    check_one_picture_each(path, np.random.default_rng(0))


def test_a_stream_that_lacks_packets_is_damaged_and_its_segments_stay_in_place(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", "libx264", moving_frames(COUNT), gop="12")
    content, packet = path.read_bytes(), 188
    middle = len(content) // packet // 3
    path.write_bytes(content[: middle * packet] + content[(middle + 20) * packet :])
    found = judge(path)
    assert found.verdict == "damaged", found
    assert found.numbers == len(frame_times(path)) > found.frames
    with open_video(path) as container:
        convert = converter(container, 32)
        base = float(video_stream(container).time_base or 0)
        begin = None
        pictures = {}
        for frame in container.decode(video_stream(container)):
            begin = frame.pts if begin is None else begin
            pictures[round((frame.pts - begin) * base, 2)] = convert(frame)
    late = read_frames(f"{path}#2-2.2", [0], 32)[0]
    assert np.array_equal(late, pictures[2.0])


def test_an_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    content = encode(tmp_path / "whole.mp4", "libx264", moving_frames(20)).read_bytes()
    at = content.index(b"moov") - 4
    assert content.index(b"mdat") < at  # as cameras write it: pictures first
    (tmp_path / "cut.mp4").write_bytes(content[:at])
    (tmp_path / "noise.mp4").write_bytes(b"\xff" * 1000)
    found = judge(tmp_path / "cut.mp4")
    assert (found.verdict, "moov box, is missing" in found.reason) == ("undecodable", True)
    assert "moov" not in judge(tmp_path / "noise.mp4").reason
    assert judge(tmp_path / "whole.mp4").verdict == "ok"


def test_a_matroska_file_that_was_cut_off_is_truncated(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "libx264", moving_frames(COUNT))
    assert judge(path).verdict == "ok"
    content = path.read_bytes()
    for share in (0.4, 0.7):
        path.write_bytes(content[: int(len(content) * share)])
        found = judge(path)
        assert found.verdict == "truncated", found
        assert "MB of it are missing" in found.reason or "cut off" in found.reason
    size = content.index(bytes.fromhex("18538067")) + 4
    live = content[:size] + b"\x01" + b"\xff" * 7 + content[size + 8 :]
    path.write_bytes(live[: int(len(live) * 0.7)])  # its length is unknown, as while it is recorded
    assert judge(path).verdict == "ok"


@pytest.mark.parametrize("kind", ["h264 gop 12", "mjpeg"])
def test_batches_of_damaged_videos_are_the_same_for_any_number_of_workers(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    content = encode(tmp_path / name, codec, moving_frames(), **options).read_bytes()
    rng = np.random.default_rng(5)
    names = [f"{number}{name}" for number in range(6)]
    for one in names:
        (tmp_path / one).write_bytes(bits_flipped(content, rng))
    videos = VideoList(names, np.full(6, -1), np.full(6, -1), tmp_path)
    clip = ClipConfig(frames=4, stride=2, resize=32, size=32)
    found = []
    for workers, start in ((0, 0), (1, 0), (2, 0), (0, 3)):  # the last as after resuming
        close_kept()
        clips = TrainingClips(videos, clip, Augment(), (View("anchor"),), seed=1, workers=workers)
        order = EpochBatches(6, 3, seed=1, start=start, stop=6)
        found.append([b["clips"]["anchor"] for b in Batches(clips, order, workers, 60.0, pin_memory=False)])
    for other, first in ((found[1], 0), (found[2], 0), (found[3], 3)):
        assert all(torch.equal(one, two) for one, two in zip(found[0][first:], other, strict=True))


def test_check_pack_and_frames_count_what_is_lost(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", "libx264", moving_frames(COUNT))
    overwrite_packet(whole)
    write_list(
        tmp_path / "list.txt",
        VideoList(["damaged.mp4", "whole.mp4"], np.array([-1, -1]), np.array([-1, -1]), tmp_path),
    )
    result = dsm(
        "data", "check", tmp_path / "list.txt", "--json", tmp_path / "l.json", "--clean", tmp_path / "c.txt"
    )
    assert result.returncode == 0, output_of(result)
    assert "damaged" in output_of(result)
    assert f"{COUNT - 1} frames usable" in output_of(result)
    one, two = read_ledger(tmp_path / "l.json")
    assert (one.verdict, one.frames, one.numbers, two.verdict) == ("damaged", COUNT - 1, COUNT, "ok")
    assert read_list(tmp_path / "c.txt").frames.tolist() == [COUNT, COUNT]  # no later frame is cut off
    for verb in ("pack", "frames"):
        words = ("--short-side", "32", "--workers", "1")
        result = dsm("data", verb, tmp_path / "list.txt", "--out", tmp_path / verb, *words)
        assert result.returncode == 0, output_of(result)
        assert f"damaged.mp4: 1 of {COUNT} pictures lost" in output_of(
            result
        ) or "damaged: 1 of" in output_of(result)
        assert read_list(tmp_path / verb / "list.txt").frames.tolist() == [COUNT - 1, COUNT]
    result = dsm("data", "check", tmp_path / "pack" / "list.txt", "--json", tmp_path / "p.json")
    assert result.returncode == 0, output_of(result)
    one, two = read_ledger(tmp_path / "p.json")
    assert (one.verdict, one.frames, two.verdict, two.reason) == ("damaged", COUNT - 1, "ok", "")
    assert f"1 of {COUNT} pictures lost" in one.reason
    times = frame_times(tmp_path / "pack" / "shard-00000.tar" / "damaged")
    steps = np.diff(times)
    assert np.sum(np.isclose(steps, 0.08)) == 1  # no other frame gets the lost one's time
    assert np.sum(np.isclose(steps, 0.04)) == COUNT - 3
    assert not find_member(tmp_path / "pack" / "shard-00000.tar", "whole").times


@pytest.mark.parametrize("workers", [0, 1])
def test_training_uses_a_damaged_video_and_reports_it_once(tmp_path: Path, workers: int) -> None:
    overwrite_packet(encode(tmp_path / "a.mp4", "libx264", moving_frames(COUNT)))
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
    bad.add(damaged_ones)  # does not count towards ending the run
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
    assert any(flagged), "the decoder notices the test's own damage"
    assert judge(path).verdict == "damaged"
    assert judge(whole).verdict == "ok"


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "h264 intra refresh", "h264 open gop", "hevc"])
def test_intact_files_are_not_called_damaged(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    if codec == "libx265":
        pytest.skip("x265 may crash on this file")
    found = judge(encode(tmp_path / name, codec, moving_frames(), **options))
    assert (found.verdict, found.frames, found.numbers) == ("ok", 50, 50)


def test_samples_hidden_by_an_edit_list_are_not_a_truncation(shared: Path) -> None:
    folder = shared / "data" / "awkward" / "fate"
    for name in ("h264_mov_neg_first_pts_discard.mp4", "h264_mov_stream_shorter_than_movie.mp4"):
        found = judge(folder / name)
        assert (found.verdict, found.frames) == ("ok", found.header_frames // 2), found
