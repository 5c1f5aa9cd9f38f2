"""Writing videos: H.264 files, clips in memory for pages, folders of jpg frames or optical flow, and packs.

A pack (``pack.py``) holds videos, or segments of them, decoded once at training size.
"""

from __future__ import annotations

import io
import itertools
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsm.errors import UserError
from dsm.files import write_text, written_aside, written_aside_folder
from dsm.seals import sealed_json
from dsm.urls import is_url
from dsm.video.clock import seconds_of
from dsm.video.convert import converter
from dsm.video.damage import Damage
from dsm.video.flow import PAIRS, compute_flow, flow_to_bytes, saved_flow
from dsm.video.frame_folder import describe_broken, frame_files, is_folder, read_series
from dsm.video.in_order import frames_of, own
from dsm.video.pack import FORMAT, Member, in_pack
from dsm.video.segments import SEGMENT, file_of
from dsm.video.source import EXTENSIONS, Deadline, VideoError, name_of, open_video, video_stream


def _encode(target: str | IO[bytes], frames: NDArray[np.uint8], fps: int, crf: int, gop: int) -> None:
    _, height, width, _ = frames.shape
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = gop
        # One thread, so that the same frames give the same bytes on every machine.
        stream.codec_context.thread_count = 1
        # Written once, read every epoch: this makes decoding a quarter cheaper, and files a quarter larger.
        # No macroblock tree: with AVX-512, x264's code for it reads uninitialised memory, so
        # the same frames were sometimes encoded differently.
        stream.options = {
            "crf": str(crf), "preset": "veryfast", "tune": "fastdecode", "bf": "0", "x264-params": "mbtree=0",
        }  # fmt: skip
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_video(
    path: str | Path, frames: NDArray[np.uint8], *, fps: int = 24, crf: int = 18, gop: int = 12
) -> None:
    """Write a clip as an H.264 mp4 file, whole or not at all (written aside, then renamed).

    Args:
        path: the file to write; a missing folder is created.
        frames: uint8 RGB, shape (T, H, W, 3), with T >= 1 and H, W even (4:2:0 colour needs it).
        fps: frames per second.
        crf: x264's quality: 0 lossless, 18 hard to tell from the original, 28 coarse.
        gop: largest distance between two keyframes, in frames.
    """
    with written_aside(path) as aside:
        # An absolute path: FFmpeg would take text before a colon for a protocol.
        _encode(str(aside.absolute()), frames, fps, crf, gop)


def even(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut to even sides, which H.264 needs."""
    return frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]


def mp4_bytes(frames: NDArray[np.uint8], *, fps: int = 12) -> bytes:
    """As :func:`write_video`, but in memory, cut to even sides and small enough to embed in a page."""
    buffer = io.BytesIO()
    _encode(buffer, even(frames), fps, crf=26, gop=len(frames))
    return buffer.getvalue()


DAMAGED = "damaged.txt"
"""The file in a folder of frames that describes what was lost of the video."""


def write_frames(
    video: Path,
    folder: Path,
    short_side: int | None,
    quality: int,
    *,
    square: bool = False,
    flow: bool = False,
) -> int:
    """Decode a video to its end and write ``img_00001.jpg`` … into a folder, whole or not at all.

    For a damaged video, ``damaged.txt`` beside them says what is lost.

    Args:
        short_side: pixels of the shorter side; None keeps the size. square: of the longer side too.
        quality: of the JPEGs, 1 to 95.
        flow: write ``flow_x_00001.jpg`` and ``flow_y_00001.jpg`` … instead, from each frame to its next.

    Returns:
        The number of frames or flow pairs; if the folder exists already, those in it are only counted.

    Raises:
        VideoError: no frame can be decoded, or fewer than two for flow.
    """
    first = "flow_x_" if flow else "img_"
    if folder.is_dir():
        return sum(1 for _ in folder.glob(f"{first}*.jpg"))
    _refuse_packed(video)
    count = 0
    damage = Damage()
    with open_video(file_of(video)) as container, written_aside_folder(folder) as aside:
        convert = converter(container, short_side, square=square)
        images = (convert(frame) for frame in frames_of(video, container, damage))
        for count, named in enumerate(
            _flows(images) if flow else ({first: image} for image in images), start=1
        ):
            for prefix, image in named.items():
                # Pillow does not notice if a full disk takes only a part of the file.
                content = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(image)).save(content, "JPEG", quality=quality)
                (aside / f"{prefix}{count:05d}.jpg").write_bytes(content.getvalue())
        if not count:
            raise VideoError(f"{video}: {'fewer than two frames' if flow else 'no frame'} can be decoded.")
        if lost := own(video, damage).text():
            write_text(aside / DAMAGED, f"{lost}\n")
    return count


def _flows(images: Iterable[NDArray[np.uint8]]) -> Iterator[dict[str, NDArray[np.uint8]]]:
    for pair in itertools.pairwise(images):
        x, y = flow_to_bytes(compute_flow(np.stack(pair))[0])
        yield dict(zip(PAIRS[0], (x, y), strict=True))


def without_ending(path: str) -> str:
    """A path without its video file ending: drops ``.mp4``, but not the ``.5`` of ``walk_0.5``."""
    before, dot, ending = path.rpartition(".")
    return before if f"{dot}{ending.lower()}" in EXTENSIONS and Path(before).name else path


def place_of(path: str) -> Path:
    """Where to put the frames of a video below a folder: its path without extension, root and ``..``.

    A segment ``a.mp4#1-2`` goes to ``a_1-2``; ``a/b_*.jpg``, one of several clips in a folder of frames, goes
    to ``a/b``.
    """
    inside = _inside(path)
    if "*." in inside.name:
        return inside.with_name(inside.name.partition("*")[0].rstrip("_-. ") or "frames")
    if segment := SEGMENT.fullmatch(str(inside)):
        return Path(f"{without_ending(segment[1])}_{segment[2]}-{segment[3]}")
    if not inside.name:
        return Path("video")
    # A list cannot contain a name that ends in a space.
    return inside.with_name(without_ending(inside.name).rstrip(" \t") or "video")


def folders_for(paths: Sequence[str]) -> list[Path]:
    """:func:`place_of` each path; ``x.mp4`` and ``x.avi``, which would share a place, keep their extensions.

    A path that occurs twice has one place.

    Raises:
        UserError: two videos would still share a place.
    """
    places = {path: place_of(path) for path in paths}
    shared = Counter(places.values())
    places = {
        path: place
        if shared[place] == 1
        else Path(str(_inside(path)).replace("#", "_").replace("*", "frames"))
        for path, place in places.items()
    }
    first: dict[Path, str] = {}
    for path, place in places.items():
        if first.setdefault(place, path) != path:
            raise UserError(f"{first[place]} and {path}: both would be written to {place}; rename one.")
    return [places[path] for path in paths]


def _inside(path: str) -> Path:
    if is_url(path):  # a list would give "https:/host/a" as a URL again
        path = path.replace(":/", "/", 1)
    return Path(*(part for part in Path(path).parts if part not in (Path(path).anchor, "..")))


_EVEN = 2e-3
"""Tolerance for evenly spaced frames, in seconds: files round their times to milliseconds."""


def write_shard(
    shard: Path, videos: Iterable[tuple[str, Path]], short_side: int, square: bool = False
) -> dict[str, str]:
    """Decode videos into a shard, whole or not at all.

    Args:
        videos: name in the shard, and file, of each video.
        short_side: pixels of the shorter side; sides are made even. square: of the longer side too.

    Returns:
        Name -> error message of each video that could not be read and is not in the shard.
        :func:`dsm.video.pack.damaged_in` gives those that are in it with pictures lost.
    """
    members: dict[str, Sequence[Any]] = {}
    left_out: dict[str, str] = {}
    damaged: dict[str, str] = {}
    with written_aside(shard) as aside, tarfile.open(aside, "w", format=tarfile.GNU_FORMAT) as tar:
        for number, (name, file) in enumerate(videos):
            try:
                array, fps, times, lost = _decode(file, short_side, square)
            except VideoError as error:
                left_out[name] = str(error)
                continue
            if lost:
                damaged[name] = f"{file}: {lost}"
            content = io.BytesIO()
            np.save(content, array)
            entry = tarfile.TarInfo(f"{number:06d}.npy")
            entry.size = size = content.tell()
            content.seek(0)
            begin = tar.fileobj.tell() + tarfile.BLOCKSIZE
            tar.addfile(entry, content)
            sums = np.array([zlib.crc32(frame) for frame in array], "<u4").tobytes()
            entry = tarfile.TarInfo(f"{number:06d}.crc32")
            entry.size = len(sums)
            checksums = tar.fileobj.tell() + tarfile.BLOCKSIZE
            tar.addfile(entry, io.BytesIO(sums))
            members[name] = Member(begin + size - array.nbytes, *_shape(array), fps, times, checksums)
    index = {"format": FORMAT, "members": members} | ({"damaged": damaged} if damaged else {})
    write_text(shard.with_suffix(".json"), sealed_json(index) + "\n")
    return left_out


def _shape(array: NDArray[np.uint8]) -> tuple[int, int, int]:
    return array.shape[0], array.shape[1] * 2 // 3, array.shape[2]


def _decode(
    file: Path, short_side: int, square: bool
) -> tuple[NDArray[np.uint8], float, tuple[float, ...], str]:
    """Planes, frames per second, frame times if these are uneven, and the damage in words."""
    if is_folder(file):
        if saved_flow(file):
            raise VideoError(f"{file}: contains optical flow, which a pack cannot store.")
        files = frame_files(file)
        every, deadline = range(len(files)), Deadline(file, None)
        pictures, broken = read_series(files, every, short_side, deadline, square=square)
        kept = [_planes(picture) for place, picture in enumerate(pictures) if place not in broken]
        # A folder of frames has no times.
        return np.stack(kept), 0.0, (), describe_broken(files, broken) if broken else ""
    _refuse_packed(file)
    planes, shown = [], []
    damage = Damage()
    with open_video(file_of(file)) as container:
        convert = converter(container, short_side, square=square)
        for frame in frames_of(file, container, damage):
            planes.append(_planes(convert(frame)))
            shown.append(frame.pts)
        if not planes:
            raise VideoError(f"{name_of(file)}: no frame can be decoded.")
        stream = video_stream(container)
        fps = float(stream.average_rate or 0)
        seconds = seconds_of(shown, float(stream.time_base or 0), fps)
    even = seconds is None or (fps > 0 and np.abs(seconds - np.arange(len(planes)) / fps).max() < _EVEN)
    times = () if even or seconds is None else tuple(np.round(seconds, 6).tolist())
    return np.stack(planes), fps, times, own(file, damage).text()


def _refuse_packed(video: Path) -> None:
    """Raise VideoError for a video in a pack: it has been resized, and has no file to decode."""
    if in_pack(file_of(video)):
        raise VideoError(f"{name_of(video)}: is in a pack; use the list of the videos that were packed.")


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3), its sides made even, as the planes of yuv420p: (3 H / 2, W)."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    even = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), "rgb24")
    return np.asarray(even.reformat(format="yuv420p", threads=1).to_ndarray(), np.uint8)
