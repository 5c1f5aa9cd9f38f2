"""Reading speed of clips: ours, plain PyAV, OpenCV and FFmpeg's limit, interleaved in one run.

    python benchmarks/decode.py [--clips 40] [--rounds 7] [--json FILE]

It generates its videos (320x240, 300 frames): H.264 with a keyframe every 12 and every 250 frames, MPEG-4 in
avi without B-frames like UCF101's, and with B-frames and closed groups like Xvid's. A clip is 16 frames,
every fourth, from a random start, read on one thread, with the shorter side resized to 128. `ours` keeps a
video open between reads. `opened anew` does not: that is the cost of a video that is rarely read. `our pack`
holds the same video decoded at that size. In each round all readers read the same clips one after the other,
so a slow moment of the machine affects all of them. Ratios are medians over rounds.

`limit` is the time of `ffmpeg -threads 1 -f null` on a whole file, for as many frames as a clip spans. It
neither seeks nor converts to RGB.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import tyro
from av.video.reformatter import VideoReformatter
from videos import LENGTH, VIDEOS, make_video

from dsm.video.decode import read_frames
from dsm.video.kept_open import close_kept
from dsm.video.write import write_shard

FRAMES, STRIDE, SHORT = 16, 4, 128
SPAN = (FRAMES - 1) * STRIDE + 1
SIZE = (171, 128)


@dataclass(frozen=True)
class Options:
    clips: int = 40
    """Clips per reader and round."""
    rounds: int = 7
    json: Path | None = None
    """Also write the numbers to this file."""


def ours(path: Path, indices: np.ndarray) -> np.ndarray:
    return read_frames(path, indices, SHORT)


def ours_opened_anew(path: Path, indices: np.ndarray) -> np.ndarray:
    """Read without videos kept open, like the first clip of each video."""
    close_kept()
    return read_frames(path, indices, SHORT)


def packed(path: Path, indices: np.ndarray) -> np.ndarray:
    """The same video in a pack (`dsm data pack`)."""
    return read_frames(path.with_suffix(".tar") / path.name, indices, SHORT)


def plain_pyav(path: Path, indices: np.ndarray) -> np.ndarray:
    """Seek to the previous keyframe, decode from there, convert the frames in use."""
    numbers = set(indices.tolist())
    images = {}
    reformatter = VideoReformatter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        start = stream.start_time or 0
        seconds = indices[0] / float(stream.average_rate)
        container.seek(start + int(seconds / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            number = round(float((frame.pts - start) * stream.time_base) * float(stream.average_rate))
            if number in numbers:
                images[number] = reformatter.reformat(
                    frame, *SIZE, format="rgb24", interpolation="BILINEAR", threads=1
                ).to_ndarray()
            if number >= indices[-1]:
                break
    return np.stack([images[index] for index in indices.tolist() if index in images])


def opencv(path: Path, indices: np.ndarray) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_POS_FRAMES, int(indices[0]))
    numbers = set(indices.tolist())
    images = []
    for number in range(int(indices[0]), int(indices[-1]) + 1):
        if not capture.grab():
            break
        if number in numbers:
            images.append(cv2.cvtColor(cv2.resize(capture.retrieve()[1], SIZE), cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(images)


def ffmpeg_limit(path: Path) -> float:
    """Seconds of FFmpeg for as many frames as a clip spans."""
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-f", "null", "-"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - begun) / LENGTH * SPAN


def readers() -> dict[str, Callable[[Path, np.ndarray], np.ndarray]]:
    functions = {"ours": ours, "opened anew": ours_opened_anew, "our pack": packed, "plain PyAV": plain_pyav}
    try:
        import cv2  # noqa: F401

        functions["OpenCV"] = opencv
    except ImportError:
        print("OpenCV is not installed (pip install opencv-python-headless); left out")
    return functions


def measure(path: Path, clips: int, rounds: int) -> dict[str, list[float]]:
    """Clips per second, of each reader in each round."""
    rates: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        starts = rng.integers(0, LENGTH - SPAN + 1, clips)
        for name, read in readers().items():
            begun = time.perf_counter()
            for start in starts:
                read(path, start + STRIDE * np.arange(FRAMES))
            rates.setdefault(name, []).append(clips / (time.perf_counter() - begun))
        if shutil.which("ffmpeg"):
            seconds = np.mean([ffmpeg_limit(path) for _ in range(max(clips // 8, 1))])
            rates.setdefault("limit", []).append(1 / float(seconds))
    return rates


def main(options: Options) -> None:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (ending, codec, settings) in VIDEOS.items():
            path = Path(folder, f"{name}.{ending}")
            make_video(path, codec, settings)
            write_shard(path.with_suffix(".tar"), [(path.name, path)], SHORT)
            larger = path.with_suffix(".tar").stat().st_size / path.stat().st_size
            rates = measure(path, options.clips, options.rounds)
            print(f"{name} ({path.stat().st_size / 2**20:.1f} MB; its pack {larger:.1f} times as large):")
            for reader, values in rates.items():
                ratios = np.array(rates["ours"]) / np.array(values)
                print(
                    f"  {reader:12} {np.median(values):7.1f} clips/s   ours / it "
                    f"{np.median(ratios):.2f}  ({ratios.min():.2f} to {ratios.max():.2f})"
                )
            results[name] = rates
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
