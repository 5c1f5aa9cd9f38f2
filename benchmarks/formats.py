"""Every video encoder, pixel format and container of PyAV's wheel: is each file read, and read right?

    python benchmarks/formats.py [--out FOLDER] [--workers 2] [--only TEXT]

It writes some 750 small videos: each encoder in each of its pixel formats, and in each container that takes
it, and awkward ones of common codecs (odd sizes and rates, interlaced, wide pixels, B-frames, open groups,
edit lists, fragments, gaps, several streams, alpha, raw streams, wrong names). Each is read in a process of
its own:

- `dsm data check` judges it,
- its frames by number, out of order and alone, are compared with plain PyAV's in order,
- its frames as `dsm data index` counts them are compared with those that are read,
- it is packed, and its pack read.

A row is a codec or a container. `not by PyAV`: a file that plain PyAV does not read back either, as where a
container has no name for the codec; it must be refused in a sentence. `refused` and `different` are faults.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("SVT_LOG", "1")  # errors alone

import av
import numpy as np
import tyro

from dsm.video.convert import converter
from dsm.video.counting import count_frames
from dsm.video.decode import read_frames
from dsm.video.guarded import Failed, Job, call_guarded
from dsm.video.ledger import USABLE, judge
from dsm.video.source import VideoError, open_video, video_stream
from dsm.video.write import write_shard

FRAMES, WIDTH, HEIGHT, SHORT = 13, 64, 48, 32
LARGE, FEW = 500, 3
"""Wider videos have only a few frames."""
SECONDS = 60.0
COLOURS = 12
"""Grey levels by which a pack, with colours in half the size, may differ on average."""

CONTAINERS = {
    "mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm", "avi": "avi", "ts": "mpegts",
    "mpg": "mpeg", "vob": "vob", "flv": "flv", "asf": "asf", "3gp": "3gp", "ogv": "ogg", "mxf": "mxf",
    "gxf": "gxf", "ivf": "ivf", "f4v": "f4v", "ismv": "ismv", "rm": "rm", "swf": "swf", "dv": "dv",
    "y4m": "yuv4mpegpipe", "gif": "gif", "apng": "apng", "m2v": "mpeg2video", "h264": "h264", "hevc": "hevc",
    "m4v": "m4v", "h263": "h263", "h261": "h261", "mjpeg": "mjpeg", "obu": "obu", "vc2": "dirac",
    "dnxhd": "dnxhd", "amv": "amv", "smjpeg": "smjpeg",
}  # fmt: skip
"""Endings of files, and FFmpeg's names of containers; each pixel format goes into nut, which takes all."""
NOT_VIDEO = {"wrapped_avframe", "vnull", "webp", "libwebp", "libwebp_anim", "xface", "xbm", "xwd"}
HARDWARE = ("_vaapi", "_nvenc", "_qsv", "_amf", "_mf", "_v4l2m2m", "_vulkan", "_d3d12va", "_mediacodec")
FAST = {
    "libaom-av1": {"cpu-used": "8"}, "libsvtav1": {"preset": "12"}, "libx265": {"preset": "ultrafast"}
}  # fmt: skip
SIZES = {"h261": (176, 144), "h263": (176, 144), "dvvideo": (720, 576), "dnxhd": (1920, 1080)}

AWKWARD: dict[str, tuple[str, str, dict[str, str], dict[str, Any]]] = {
    "odd size": ("mkv", "ffv1", {}, {"size": (63, 47)}),
    "odd size h264": ("mp4", "libx264", {}, {"size": (66, 50)}),
    "odd rate": ("mp4", "libx264", {}, {"rate": Fraction(30000, 1001)}),
    "slow rate": ("avi", "mpeg4", {}, {"rate": Fraction(1, 3)}),
    "fast rate": ("mp4", "libx264", {}, {"rate": Fraction(960)}),
    "interlaced": ("mp4", "libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1"}, {}),
    "interlaced mpeg2": ("mpg", "mpeg2video", {"flags": "+ildct+ilme"}, {}),
    "wide pixels": ("mp4", "libx264", {}, {"aspect": Fraction(4, 3)}),
    "b-frames": ("mp4", "libx264", {"bf": "3", "x264-params": "b-pyramid=normal:keyint=6"}, {}),
    "open groups": ("mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=6"}, {}),
    "intra refresh": ("mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=6"}, {}),
    "b-frames avi": ("avi", "mpeg4", {"bf": "2"}, {}),
    "b-frames h264 avi": ("avi", "libx264", {"bf": "2"}, {}),
    "b-frames ts": ("ts", "libx264", {"bf": "3"}, {}),
    "b-frames mpg": ("mpg", "mpeg2video", {"bf": "2"}, {}),
    "fragments": ("mp4", "libx264", {"bf": "2"}, {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
    "starts late": ("mp4", "libx264", {"bf": "2"}, {"first": 50}),
    "negative start": ("mov", "libx264", {"bf": "2"}, {"first": -3}),
    "gap in time": ("mkv", "libx264", {}, {"gap": 5000}),
    "two streams": ("mkv", "libx264", {}, {"streams": 2}),
    "one frame": ("mp4", "libx264", {}, {"frames": 1}),
    "tiny": ("mkv", "ffv1", {}, {"size": (2, 2)}),
    "wrong name": ("dat", "libx264", {}, {"container": "mp4"}),
    "raw, wrong name": ("mp4", "libx264", {}, {"container": "h264"}),
    "alpha": ("mov", "qtrle", {}, {"pixels": "argb"}),
    "alpha webm": ("webm", "libvpx-vp9", {"auto-alt-ref": "0"}, {"pixels": "yuva420p"}),
    "hidden frames": ("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10"}, {}),
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    out: Path | None = None
    """Keep the videos in this folder."""
    workers: int = 1
    only: str = ""
    """Only videos whose name contains this text."""


@dataclass(frozen=True)
class Read:
    """What became of a file."""

    plain: int
    """Frames that plain PyAV reads."""
    refused: str = ""
    different: list[str] = field(default_factory=list)


def write(
    path: Path, container: str, codec: str, options: dict[str, str], pixels: str, *, frames: int = FRAMES,
    size: tuple[int, int] = (WIDTH, HEIGHT), rate: Fraction = Fraction(25), first: int = 0, gap: int = 0,
    streams: int = 1, aspect: Fraction | None = None, muxer: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Encode a moving pattern; raises what FFmpeg raises if the container does not take it.

    Args:
        first: number of the first frame, for its time. gap: frames left out in the middle.
    """
    with av.open(str(path), "w", format=container, options=muxer or {}) as target:
        made = []
        for _ in range(streams):
            stream: Any = target.add_stream(codec, rate=rate, options={"strict": "-2", **options})
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            stream.codec_context.time_base = 1 / rate
            stream.codec_context.thread_count = 1
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            made.append(stream)
        down, across = (np.linspace(0, 255, side) for side in size[::-1])
        for number in range(frames if size[0] < LARGE else min(frames, FEW)):
            y, x = np.meshgrid(down + number * 5, across + number * 9, indexing="ij")
            picture = np.stack([x % 256, y % 256, (x + y) / 2 % 256], -1)
            for place, one in enumerate(made):
                frame = av.VideoFrame.from_ndarray(((picture + 80 * place) % 256).astype(np.uint8), "rgb24")
                frame = frame.reformat(format=pixels)
                frame.pts, frame.time_base = first + number + gap * (number > frames // 2), 1 / rate
                target.mux(one.encode(frame))
        for one in made:
            target.mux(one.encode(None))


def plans() -> Iterator[tuple[str, str, str, tuple[Any, ...], dict[str, Any]]]:
    """Every video to try: name, codec and container for the table, and what ``write`` takes."""
    for codec in sorted(av.codecs_available - NOT_VIDEO):
        try:
            encoder = av.Codec(codec, "w")
        except (ValueError, av.FFmpegError):  # a decoder
            continue
        if encoder.type != "video" or encoder.name != codec or codec.endswith(HARDWARE):
            continue
        formats = [one.name for one in encoder.video_formats or []] or ["yuv420p", "rgb24", "gray"]
        more, fast = {"size": SIZES.get(codec, (WIDTH, HEIGHT))}, FAST.get(codec, {})
        for pixels in formats:
            yield f"{codec}.{pixels}.nut", codec, "nut", ("nut", codec, fast, pixels), more
        for ending, container in CONTAINERS.items():
            yield f"{codec}.{ending}", codec, ending, (container, codec, fast, formats[0]), more
    for name, (ending, codec, options, given) in AWKWARD.items():
        more = dict(given)
        container, pixels = more.pop("container", CONTAINERS.get(ending)), more.pop("pixels", "yuv420p")
        yield f"{name}.{ending}", f"({name})", ending, (container, codec, options, pixels), more


def videos(folder: Path, only: str) -> Iterator[tuple[Path, str, str]]:
    """The path, codec and container of each video that FFmpeg writes."""
    for name, codec, ending, words, more in plans():
        path = folder / name.replace(" ", "_")
        if only in name:
            try:
                write(path, *words, **more)
            except (av.FFmpegError, ValueError, TypeError, OSError, EOFError):
                path.unlink(missing_ok=True)
            if path.exists() and path.stat().st_size:
                yield path, codec, ending


def plain(path: Path) -> list[np.ndarray]:
    """All pictures in order up to the first error, by PyAV itself."""
    pictures: list[np.ndarray] = []
    with suppress(VideoError), open_video(path) as container:
        convert = converter(container, SHORT)
        pictures.extend(map(convert, container.decode(video_stream(container))))
    return pictures


def read(path: Path) -> Read:
    """Read a file in all ways."""
    expected = plain(path)
    total = len(expected)
    found = judge(path)
    if found.verdict not in USABLE or not total:
        return Read(total, refused=f"{found.verdict}: {found.reason}")
    wrong = [f"{found.frames} frames, {total} by PyAV"] if found.frames != total else []
    if found.verdict == "damaged":
        wrong.append(f"called damaged: {found.reason}")
    numbers = np.random.default_rng(0).permutation(total)
    for some in (numbers, numbers[:1]):
        if not np.array_equal(read_frames(path, some, SHORT), np.stack(expected)[some]):
            wrong.append(f"other pictures, {len(some)} at once")
    if (counted := count_frames(path)) != total:
        wrong.append(f"counted {counted}, {total} by PyAV")
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder, "shard.tar")
        write_shard(shard, [(path.name, path)], SHORT)
        packed = read_frames(shard / path.name, range(total), None)
    height, width = packed.shape[1:3]  # even
    if np.abs(packed - np.stack(expected)[:, :height, :width].astype(int)).mean() > COLOURS:
        wrong.append("other pictures in the pack")
    return Read(total, different=wrong)


def main(options: Options) -> None:
    tables: dict[str, Counter[str]] = defaultdict(Counter)
    sentences: dict[str, list[str]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = list(videos(folder, options.only))
        outcomes = call_guarded([Job(read, (path,), SECONDS) for path, *_ in files], options.workers)
        for (path, codec, ending), outcome in zip(files, outcomes, strict=True):
            if isinstance(outcome, Failed):
                kind, said = "crash", [outcome.reason]
            elif outcome.refused:
                kind, said = "refused" if outcome.plain else "not by PyAV", [outcome.refused]
            else:
                kind, said = "different" if outcome.different else "read", outcome.different
            for row in (codec, f".{ending}", "all"):
                tables[row].update(("files", kind))
            for one in said:
                sentences[f"{kind}: {one.replace(str(path), 'FILE')}"].append(path.name)
    heads = ("files", "read", "not by PyAV", "refused", "different", "crash")
    print(f"{'':22}" + "".join(f"{head:>12}" for head in heads))
    for row in sorted(tables, key=lambda row: (row == "all", row)):
        print(f"{row:22}" + "".join(f"{tables[row][head]:12}" for head in heads))
    for sentence, names in sorted(sentences.items()):
        print(f"\n{sentence}\n  {len(names)}: {', '.join(names[:8])}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
