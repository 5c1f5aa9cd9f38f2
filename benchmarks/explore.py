"""`dsm explore` on made features of many clips: python benchmarks/explore.py

Features of clips of several cameras, with clusters, oddities and near-copies, are written to a file, and the
command puts them on a page. Each clip has a file, a link to one of some hundred short videos: every file is
opened, and the page stores clips. Prints minutes of the clock and of the processor, peak memory and the
page's size. ``--videos 0`` leaves the files out.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from videos import VIDEOS, make_video

import dsm
from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.pages.explore import PAGE_BYTES
from dsm.workers import usable_cores


@dataclass(frozen=True)
class Options:
    clips: int = 40_000
    dim: int = 512
    cameras: int = 40
    kinds: int = 60
    videos: int = 300
    """Different videos: 320 x 240, two seconds."""


def made(options: Options, root: Path) -> Features:
    """Kinds in equal shares, shifted by their cameras; a hundredth are near-copies of the clip before."""
    rng = np.random.default_rng(0)
    kind = rng.integers(options.kinds, size=options.clips)
    camera = rng.integers(options.cameras, size=options.clips)
    rows = rng.standard_normal((options.kinds, options.dim))[kind].astype(np.float32)
    rows += 0.5 * rng.standard_normal((options.cameras, options.dim))[camera].astype(np.float32)
    rows += 0.7 * rng.standard_normal(rows.shape, np.float32)
    copies = np.arange(1, options.clips, 100)
    rows[copies] = rows[copies - 1] + 0.01 * rng.standard_normal((len(copies), options.dim), np.float32)
    seconds = np.sort(rng.integers(86_400 * 28, size=options.clips))
    paths = [
        f"site/cam{at:02d}/2024-02-{1 + second // 86_400:02d}/2024-02-{1 + second // 86_400:02d}_"
        f"{second // 3600 % 24:02d}-{second // 60 % 60:02d}-{second % 60:02d}_{place:06d}.mp4"
        for place, (at, second) in enumerate(zip(camera.tolist(), seconds.tolist(), strict=True))
    ]
    meta = {"run": "made", "list": "made", "root": str(root)}
    return Features(rows, np.full(options.clips, -1), paths, meta)


def link_videos(options: Options, paths: list[str], root: Path) -> None:
    """Make the videos, and a link to one of them for each clip."""
    ending, codec, words = VIDEOS["h264-gop12"]
    files = [root / f"video-{number:04d}.{ending}" for number in range(options.videos)]
    for number, file in enumerate(files):
        make_video(file, codec, words, length=50, seed=number)
    for place, path in enumerate(paths if files else []):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[place % len(files)], file)


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, page, root = (Path(folder) / name for name in ("made.npz", "explore.html", "footage"))
        root.mkdir()
        features = made(options, root)
        link_videos(options, features.paths, root)
        save_features(file, features)
        del features
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        begun, worked = time.perf_counter(), time.process_time()
        result = dsm.explore(source=file, out=page)
        minutes, cpu = (time.perf_counter() - begun) / 60, (time.process_time() - worked) / 60
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        size, stored = page.stat().st_size, page.read_text(encoding="utf-8").count("data:video/mp4")
        threads = torch.get_num_threads()
        print(f"{options.clips} clips x {options.dim}, {threads} threads on {usable_cores()} cores")
        print(f"{minutes:.1f} minutes, {cpu:.1f} of a processor")
        print(f"peak memory {peak:.2f} GiB (before: {before:.2f} GiB), page {size / 1e6:.1f} MB")
        print(f"{options.videos} videos, {stored} clips play in the page")
        print(f"clusters {result.value('clusters'):.0f}, copies {result.value('near_duplicates'):.2%}")
        if size > PAGE_BYTES:
            raise SystemExit("the page is too large")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
