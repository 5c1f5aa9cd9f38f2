"""Damaged videos at scale: does a number mean one picture, and does training on them end in the same weights?

    python benchmarks/damage.py [--files 300] [--runs 3]

Bits of good videos of several codecs are flipped. Of each file that can still be read, pictures are read by
their numbers, alone and after other reads, and compared with a decode of the whole file in order. Then a list
of such files is trained on with 0, 1 and 2 workers, and once more killed and resumed; all weights must be
equal.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import tyro
from lives import begin, end_of, warm
from numpy.typing import NDArray

KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "gop12.mp4": ("libx264", {"g": "12"}),
    "gop250.mp4": ("libx264", {"g": "250", "bf": "3"}),
    "a.mkv": ("libx264", {"g": "24"}),
    "open.ts": ("libx264", {"g": "12", "x264-params": "open-gop=1"}),
    "slices.mp4": ("libx264", {"g": "30", "x264-params": "slices=4"}),
    "mpeg4.avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "mjpeg.avi": ("mjpeg", {}),
    "vp8.webm": ("libvpx", {"g": "20"}),
    "hevc.mkv": ("libx265", {"x265-params": "log-level=none:keyint=12"}),
}


@dataclass(frozen=True)
class Options:
    files: int = 300
    runs: int = 3
    """Lists of damaged files that are trained on."""
    seed: int = 0


def encode(path: Path, codec: str, options: dict[str, str]) -> None:
    """50 frames of a moving pattern."""
    rng = np.random.default_rng(0)
    wall = rng.integers(0, 255, (12, 80, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.options = 128, 96, options
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(50):
            picture = np.ascontiguousarray(wall[:, 5 * number : 5 * number + 128])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    broken = bytearray(content)
    for place in rng.integers(len(broken) // 10, len(broken) * 9 // 10, rng.integers(1, 6)):
        broken[place] ^= 1 << int(rng.integers(8))
    return bytes(broken)


def compare(path: Path, rng: np.random.Generator) -> tuple[str, int, int]:
    """The verdict on a file, how many pictures were compared, and how many differed."""
    from dsm.video.convert import converter
    from dsm.video.decode import read_frames
    from dsm.video.in_order import every_frame
    from dsm.video.kept_open import close_kept
    from dsm.video.ledger import judge
    from dsm.video.source import VideoError, open_video

    verdict = judge(path).verdict
    try:
        with open_video(path) as container:
            convert = converter(container, 32)
            in_order: list[NDArray[np.uint8]] = [convert(frame) for frame in every_frame(container)]
        if not in_order:
            return verdict, 0, 0
        compared = different = 0
        for number in rng.integers(0, len(in_order), 6).tolist():
            for kept in (False, True):
                if not kept:
                    close_kept()
                others = rng.integers(0, len(in_order), 2).tolist() if kept else []
                wanted = [*others, number]
                for one, picture in zip(wanted, read_frames(path, wanted, 32), strict=True):
                    compared += 1
                    different += not np.array_equal(picture, in_order[one])
    except VideoError:
        return verdict, 0, 0
    return verdict, compared, different


def trained(listed: Path, out: Path, workers: int, log: Path, kill: random.Random | None = None) -> Any:
    """The state of a short training; if ``kill`` is given, killed at random moments and resumed."""
    from dsm.models.weights import read_checkpoint

    words = [
        "pretrain", "--data.train", str(listed), "--data.batch-size", "8", "--data.workers", str(workers),
        "--backbone", "tiny", "--clip.frames", "4", "--clip.stride", "2", "--clip.size", "32",
        "--clip.resize", "40", "--steps", "12", "--save-every", "2", "--data.max-bad", "1",
        "--dsm.queue", "32", "--monitor.videos", "0",
        "--out", str(out),
    ]  # fmt: skip
    kills = 0
    while True:
        there = any((out / "checkpoints").glob("step_*.pt"))
        more = ["--resume"] if there else ["--overwrite"] if out.exists() else []
        process = begin([*words, *more], log)
        if kill and kills < 4:
            moment = time.monotonic() + kill.uniform(0.3, 3)
            while time.monotonic() < moment and not os.waitid(
                os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT
            ):
                time.sleep(0.01)
            os.kill(process, signal.SIGKILL)
        code = end_of(process)
        if code == 0:
            return read_checkpoint(out)["method"]
        assert code == -signal.SIGKILL, log.read_text()[-2000:]
        kills += 1


def main(options: Options) -> None:
    import importlib

    import torch

    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        work, log = Path(folder), Path(folder) / "log"
        log.touch()
        warm()
        importlib.import_module("dsm.verbs.train")._draw = lambda *_: []
        good = {}
        for name, (codec, settings) in KINDS.items():
            encode(work / name, codec, settings)
            good[name] = (work / name).read_bytes()
        files, verdicts, counts = [], Counter[str](), Counter[str]()
        for number in range(options.files):
            name = list(KINDS)[number % len(KINDS)]
            path = work / f"{number:04}-{name}"
            path.write_bytes(flipped(good[name], rng))
            verdict, compared, different = compare(path, rng)
            verdicts[verdict] += 1
            counts["readable"] += compared > 0
            counts["pictures"] += compared
            counts["other pictures"] += different
            if different:
                print(f"{path.name}: {different} of {compared} pictures differ ({verdict})", flush=True)
            if compared:
                files.append(path.name)
        print(
            ", ".join(f"{name} {count}" for name, count in (*counts.items(), *verdicts.items())), flush=True
        )
        for run in range(options.runs):
            listed = work / f"list{run}.txt"
            listed.write_text("".join(f"{name}\n" for name in files[run :: options.runs][:48]))
            kill = random.Random(run)
            states = {
                f"{count} workers": trained(listed, work / f"r{run}-{count}", count, log)
                for count in (0, 1, 2)
            }
            states["killed and resumed"] = trained(listed, work / f"r{run}-killed", 1, log, kill)
            first = states["0 workers"]
            for name, state in states.items():
                same = state.keys() == first.keys() and all(
                    torch.equal(state[key], first[key]) for key in first
                )
                print(f"run {run}, {name}: {'same weights' if same else 'OTHER WEIGHTS'}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
