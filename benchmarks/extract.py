"""`dsm extract` compared with its parts: python benchmarks/extract.py

It alternates, in one run, between decoding alone and the encoder alone, each on one thread, and the whole
command. The parts allow the rate of all cores working all the time: cores / (seconds per video to decode +
seconds per video to encode). Prints rates and their ratio to that. With `--memory 5000` it prints instead the
memory of the command and its workers while it processes 5000 videos.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from videos import VIDEOS, make_video

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.settings import ClipConfig
from dsm.evaluate.extract import as_array, to_input
from dsm.models.precision import channels_last
from dsm.models.zoo import create_model
from dsm.workers import usable_cores


@dataclass(frozen=True)
class Options:
    backbone: str = "r3d18"
    videos: int = 48
    """Number of videos (320x240, H.264)."""
    windows: int = 3
    batch_size: int = 8
    turns: int = 3
    memory: int = 0
    """Print the memory while `tiny` processes this many videos (the same ones repeatedly)."""


def command(listed: Path, out: Path, options: Options) -> list[str]:
    words = ["extract", "--weights", "none", "--backbone", "tiny" if options.memory else options.backbone,
             "--data", str(listed), "--out", str(out), "--windows", str(options.windows),
             "--batch-size", str(options.batch_size), "--overwrite"]  # fmt: skip
    return [sys.executable, "-m", "dsm", *words]


def parts(videos: VideoList, options: Options) -> tuple[float, float]:
    """Seconds per video to decode, and to encode, each on one thread."""
    torch.set_num_threads(1)
    clips = EvaluationClips(videos, ClipConfig(), options.windows)
    begun = time.perf_counter()
    samples = [clips[index]["clips"] for index in range(len(videos))]  # type: ignore[index]
    decoded = time.perf_counter()
    encoder = channels_last(create_model(options.backbone).eval())
    middle = time.perf_counter()
    for first in range(0, len(samples), options.batch_size):
        batch = torch.cat(samples[first : first + options.batch_size])
        as_array(encoder, to_input(batch, "rgb", torch.device("cpu")))
    return (decoded - begun) / len(videos), (time.perf_counter() - middle) / len(videos)


def resident(pid: int) -> int:
    """MB of a process and its children."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    children = listed.stdout.split()
    kilobytes = 0
    for one in (pid, *map(int, children)):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        kilobytes += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kilobytes // 1024


def memory(listed: Path, folder: Path, options: Options) -> None:
    process = subprocess.Popen(command(listed, folder / "f.npz", options), stderr=subprocess.DEVNULL)
    begun = time.perf_counter()
    while process.poll() is None:
        time.sleep(5)
        done = len(list((folder / "f.npz.parts").glob("0*.npz"))) * options.batch_size * 8
        print(
            f"{time.perf_counter() - begun:6.0f} s {done:6d} videos {resident(process.pid):6d} MB", flush=True
        )


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, codec, how = VIDEOS["h264-gop12"]
        make_video(folder / "0.mp4", codec, how)
        for number in range(1, options.videos):
            shutil.copy(folder / "0.mp4", folder / f"{number}.mp4")
        paths = [f"{number}.mp4" for number in range(options.videos)]
        unknown = np.full(options.videos, -1)
        listed = folder / "list.txt"
        write_list(listed, VideoList(paths, unknown, unknown, folder))
        if options.memory:
            videos = read_list(listed)
            again = np.arange(options.memory) % len(videos)
            write_list(folder / "many.txt", videos.part(again, folder))
            memory(folder / "many.txt", folder, options)
            return
        cores = usable_cores()
        rates: dict[str, list[float]] = {}
        title = "dsm extract"
        for turn in range(options.turns):
            decode, forward = parts(read_list(listed), options)
            rates.setdefault("what the parts allow", []).append(cores / (decode + forward))
            times = f"decode {1000 * decode:.0f} ms, encode {1000 * forward:.0f} ms per video"
            print(f"turn {turn}: {times}", flush=True)
            # The difference of two runs leaves out the time to start and to finish.
            seconds = []
            for count in (options.batch_size * 2, options.videos):
                write_list(folder / "some.txt", read_list(listed).part(np.arange(count), folder))
                begun = time.perf_counter()
                words = command(folder / "some.txt", folder / "f.npz", options)
                subprocess.run(words, check=True, capture_output=True)
                seconds.append(time.perf_counter() - begun)
            rate = (options.videos - options.batch_size * 2) / (seconds[1] - seconds[0])
            rates.setdefault(title, []).append(rate)
        allowed = float(np.median(rates["what the parts allow"]))
        for title, values in rates.items():
            print(f"{title:26s} {np.median(values):6.2f} videos/s  {np.median(values) / allowed:.0%}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
