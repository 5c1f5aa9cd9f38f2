"""Frames by number equal a sequential decode of the whole file, for any kind of file."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.video import decode
from dsm.video.convert import converter
from dsm.video.decode import probe, read_frames
from dsm.video.in_order import every_frame
from dsm.video.ledger import judge_all
from dsm.video.sampling import at_rate
from dsm.video.source import EXTENSIONS, MissingVideoError, SlowVideoError, VideoError, open_video
from dsm.video.times import frame_times

COUNT = 50


def moving_frames(count: int = COUNT, height: int = 64, width: int = 96) -> np.ndarray:
    """Moving texture: all frames differ, with enough detail for B-frames to be used."""
    texture = np.random.default_rng(0).integers(0, 255, (height // 4 + 20, width // 4 + count + 20, 3))
    large = texture.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    return np.stack([large[2 * i % 40 : 2 * i % 40 + height, 3 * i : 3 * i + width] for i in range(count)])


def encode(
    path: Path, codec: str, frames: np.ndarray, times: list[int] | None = None, **options: str
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = options.pop("pix_fmt", "yuv420p")
        stream.gop_size = int(options.pop("gop", "12"))
        stream.options = options
        stream.codec_context.time_base = Fraction(1, 1000 if times else 25)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encode_apart(path: Path, codec: str, frames: np.ndarray, **options: str) -> Path:
    """:func:`encode` in a process of its own: x265 4.2, which reads memory that it never wrote, may crash."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(encode, path, codec, frames, **options).result()
        except BrokenProcessPool:
            pytest.skip(f"{codec} crashed while it wrote the video that is to be read")


KINDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264 gop 12": ("a.mp4", "libx264", {}),
    "h264 gop 250": ("a.mp4", "libx264", {"gop": "250"}),
    "h264 open gop": ("a.mp4", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
    "h264 intra refresh": ("a.mp4", "libx264", {"x264-params": "intra-refresh=1"}),
    "h264 only keyframes": ("a.mov", "libx264", {"gop": "1"}),
    "h264 mkv": ("a.mkv", "libx264", {"bf": "2"}),
    "h264 avi": ("a.avi", "libx264", {"bf": "2"}),
    "h264 ts": ("a.ts", "libx264", {}),
    "hevc": ("a.mp4", "libx265", {"x265-params": "log-level=none:open-gop=1"}),
    "mpeg4 avi": ("a.avi", "mpeg4", {}),
    "mpeg4 avi with B-frames": ("a.avi", "mpeg4", {"bf": "2"}),
    "xvid avi": ("a.avi", "mpeg4", {"bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"}),
    "mpeg4 mp4 with B-frames": ("a.mp4", "mpeg4", {"bf": "2"}),
    "mpeg2 with B-frames": ("a.mkv", "mpeg2video", {"bf": "2"}),
    "vp8": ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9": ("a.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "mjpeg": ("a.mov", "mjpeg", {"pix_fmt": "yuvj420p"}),
    "gif": ("a.gif", "gif", {"pix_fmt": "rgb8"}),
    "10 bit 4:4:4": ("a.mkv", "libx264", {"pix_fmt": "yuv444p10le"}),
}


def everything(path: Path, short_side: int | None = None) -> np.ndarray:
    with open_video(path) as container:
        convert = converter(container, short_side)
        return np.stack([convert(frame) for frame in every_frame(container)])


def check_against_everything(path: Path, trials: int = 30) -> int:
    """Compare clips and unusual sets of frames; return the number of frames."""
    all_frames = everything(path, 32)
    rng = np.random.default_rng(1)
    total = len(all_frames)
    for trial in range(trials):
        if trial % 2:
            numbers = (rng.integers(total) + rng.integers(1, 6) * np.arange(6)) % total
        else:
            numbers = rng.integers(0, total, rng.integers(1, 6))
        asked = numbers + total * (trial % 3 == 2)  # past the end it plays from the start
        assert np.array_equal(read_frames(path, asked, 32), all_frames[numbers]), asked
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_frames_equal_a_decode_of_everything(kind: str, tmp_path: Path) -> None:
    name, codec, options = KINDS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    write = encode_apart if codec == "libx265" else encode
    path = write(tmp_path / name, codec, moving_frames(), **options)
    assert check_against_everything(path) == COUNT
    assert probe(path).frames >= COUNT  # VP8 counts packets that are not shown


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "mpeg4 avi", "xvid avi", "vp9"])
def test_common_files_are_decoded_from_keyframes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, codec, options = KINDS[kind]
    path = encode(tmp_path / name, codec, moving_frames(), **options)
    read_frames(path, [3, COUNT + 17])  # finds out where it ends
    monkeypatch.setattr(decode, "_decode_in_order", lambda *_: pytest.fail("decoded in order"))
    read_frames(path, [3, 17, 45])
    read_frames(path, [3, 2 * COUNT + 16])


@pytest.mark.parametrize("kind", ["h264 gop 12", "h264 mkv", "vp9"])
def test_an_intact_file_is_not_decoded_whole_to_find_its_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, codec, options = KINDS[kind]
    path = encode(tmp_path / name, codec, moving_frames(), **options)
    expected = everything(path, 32)
    monkeypatch.setattr(decode, "_decode_in_order", lambda *_: pytest.fail("decoded in order"))
    for _ in range(2):  # then it is remembered
        found = read_frames(path, [3, COUNT + 17, COUNT - 1, 2 * COUNT], 32)
        assert np.array_equal(found, expected[[3, 17, COUNT - 1, 0]])


def test_real_and_awkward_files_equal_a_decode_of_everything(shared: Path) -> None:
    files = [
        *(shared / "data" / "awkward").glob("*/*"),
        *(shared / "data" / "clips" / "standard").glob("*.*"),
    ]
    compared = 0
    for path in sorted(files):
        try:
            probe(path)
            read_frames(path, [0])
        except VideoError:
            continue
        check_against_everything(path, trials=3)  # one of each kind
        compared += 1
    assert compared >= 55


def test_content_in_memory_is_read_like_a_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", moving_frames())
    assert np.array_equal(read_frames(path.read_bytes(), [3, 40, 17]), read_frames(path, [3, 40, 17]))
    assert probe(path.read_bytes()) == probe(path)


def test_the_second_backend_gives_the_same_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", moving_frames())
    numbers = [40, 3, 3, 17, 55]
    ours = read_frames(path, numbers)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="needs CUDA"):
            read_frames(path, numbers, decoder="torchcodec-cuda")
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        with pytest.raises(UserError, match=r"use --data\.decoder pyav"):
            read_frames(path, numbers, decoder="torchcodec")
        pytest.skip("torchcodec cannot be imported here")
    theirs = read_frames(path, numbers, decoder="torchcodec")
    assert theirs.shape == ours.shape
    assert np.abs(theirs.astype(int) - ours).mean() < 4  # rounding and chroma interpolation differ
    with pytest.raises(MissingVideoError):
        read_frames(tmp_path / "none.mp4", [0], decoder="torchcodec")


def test_rotation_is_applied(tmp_path: Path) -> None:
    frames = moving_frames(12)
    upright = encode(tmp_path / "a.mp4", "libx264", frames)
    turned = tmp_path / "turned.mp4"
    with av.open(str(upright)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    plain, rotated = read_frames(upright, [3])[0], read_frames(turned, [3])[0]
    assert rotated.shape == (96, 64, 3)
    # A player rotates the picture anticlockwise by the angle in the file.
    assert np.array_equal(rotated, np.rot90(plain))


def test_frames_have_one_size_when_a_file_changes_its_size(tmp_path: Path) -> None:
    small = encode(tmp_path / "small.ts", "mpeg2video", moving_frames(10, 48, 64))
    large = encode(tmp_path / "large.ts", "mpeg2video", moving_frames(10, 96, 128))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    frames = read_frames(both, [0, 5, 15])
    assert frames.shape == (3, 48, 64, 3)


def test_a_variable_rate_is_resampled_by_time(tmp_path: Path) -> None:
    # 20 frames of 50 ms, then 5 of 200 ms.
    times = [*range(0, 1000, 50), *range(1000, 2000, 200)]
    path = encode(tmp_path / "a.mkv", "libx264", moving_frames(25), times)
    found = frame_times(path)
    assert np.allclose(found, np.array(times) / 1000, atol=0.002)
    # The last frame lasts as long as the average one, so there are 1.875 s.
    assert at_rate(found, 10).numbers.tolist() == [*range(0, 20, 2), 20, 20, 21, 21, 22, 22, 23, 23]
    videos = VideoList([path.name], np.array([-1]), np.array([25]), tmp_path)
    clips = EvaluationClips(videos, ClipConfig(frames=3, stride=8, resize=64, size=64, fps=10), windows=1)
    clip = clips[0]
    assert not isinstance(clip, Exception)
    expected = read_frames(path, [0, 16, 23], 64)[:, :, 16:80]
    assert np.array_equal(clip["clips"][0].numpy(), expected)


def test_resampling_a_steady_rate_keeps_or_drops_evenly() -> None:
    assert at_rate(np.arange(10) / 10, 10).numbers.tolist() == list(range(10))
    assert at_rate(np.arange(10) / 10, 5).numbers.tolist() == [0, 2, 4, 6, 8]
    assert at_rate(np.arange(4) / 10, 20).numbers.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert at_rate(np.zeros(1), 25).numbers.tolist() == [0]


def test_reading_stops_at_its_time_limit(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", moving_frames())
    with pytest.raises(SlowVideoError, match="not read within 0 s"):
        read_frames(path, [40], seconds=0)


PATTERNS = ["img_{:05}.jpg", "frame{:06}.jpg", "image_{:05}.jpg", "{:05}.jpg", "{}.png", "shot-{:03}.JPEG"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_frame_folders_are_found_with_any_usual_file_names(pattern: str, tmp_path: Path) -> None:
    from PIL import Image

    frames = moving_frames(12)
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(tmp_path / pattern.format(number))
    (tmp_path / "notes.txt").touch()
    for axis in "xy":  # flow beside the frames does not count as frames
        for number in range(1, 20):
            Image.fromarray(frames[0][..., 0]).save(tmp_path / f"flow_{axis}_{number:05}.jpg")
    assert probe(tmp_path).frames == 12
    found = read_frames(tmp_path, [11, 0, 5, 12])
    differences = np.abs(found[:, None].astype(int) - frames[None].astype(int)).mean(axis=(2, 3, 4))
    assert differences.argmin(axis=1).tolist() == [11, 0, 5, 0]
    if pattern.endswith("png"):
        assert differences.min(axis=1).max() == 0
    assert read_frames(tmp_path, [3], 32).shape == (1, 32, 48, 3)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file cut short, or with some bytes changed, or both."""
    broken = bytearray(content)
    if rng.random() < 0.5:
        broken = broken[: int(rng.integers(0, len(broken)))]
    if broken and rng.random() < 0.7:
        for place in rng.integers(0, len(broken), int(rng.integers(1, 20))):
            broken[place] = int(rng.integers(256))
    return bytes(broken)


def damage(folder: Path, sources: list[Path], count: int) -> list[Path]:
    rng = np.random.default_rng(0)
    made = []
    for number, source in zip(range(count), itertools.cycle(sources), strict=False):
        path = folder / f"{number:04}{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), rng))
        made.append(path)
    return made


def read_or_refuse(path: Path, numbers: list[int]) -> np.ndarray | None:
    try:
        return read_frames(path, numbers, 32)
    except VideoError:
        return None


def test_damaged_files_are_read_or_refused(tmp_path: Path, small_sources: list[Path]) -> None:
    readable = 0
    for path in damage(tmp_path, small_sources, 60):
        frames = read_or_refuse(path, [0, 9, 30])
        readable += frames is not None
        assert frames is None or frames.shape[0] == 3
    assert 10 < readable < 60


@pytest.mark.slow
def test_damaged_files_never_crash_or_hang_a_process(
    tmp_path: Path, small_sources: list[Path], shared: Path
) -> None:
    """More than 500 damaged files, some of them real: each gets a verdict."""
    real = sorted((shared / "data" / "clips" / "standard").glob("*.*"))
    files = damage(tmp_path, [*small_sources, *(file for file in real if file.suffix in EXTENSIONS)], 520)
    found = judge_all(files, seconds=60, workers=2)
    assert [one.path for one in found] == [str(file) for file in files]
    counts = Counter(one.verdict for one in found)
    print(counts)
    assert counts["timeout"] == 0
    assert not [one for one in found if "crashes" in one.reason]
    assert min(counts["ok"], counts["truncated"], counts["undecodable"]) > 0


@pytest.fixture
def small_sources(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "sources"
    folder.mkdir()
    make: Callable[[str], Path] = lambda kind: encode(  # noqa: E731
        folder / f"{kind.split()[0]}-{KINDS[kind][0]}", KINDS[kind][1], moving_frames(), **KINDS[kind][2]
    )
    return [make(kind) for kind in ("h264 gop 12", "mpeg4 avi", "h264 mkv", "vp8")]
