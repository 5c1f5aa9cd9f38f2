"""`dsm explore` on made features of many clips: python benchmarks/explore.py

Features of clips of several cameras, with clusters, oddities and near-copies, are written to a file, and the
command puts them on a page. Prints minutes of the clock and of a processor, peak memory and the page's size.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

import dsm
from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.pages.explore import PAGE_BYTES


@dataclass(frozen=True)
class Options:
    clips: int = 40_000
    dim: int = 512
    cameras: int = 40
    kinds: int = 60


def made(options: Options) -> Features:
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
    return Features(rows, np.full(options.clips, -1), paths, {"run": "made", "list": "made", "root": "/none"})


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, page = Path(folder) / "made.npz", Path(folder) / "explore.html"
        save_features(file, made(options))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        begun, worked = time.perf_counter(), time.process_time()
        result = dsm.explore(source=file, out=page)
        minutes, cpu = (time.perf_counter() - begun) / 60, (time.process_time() - worked) / 60
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        size = page.stat().st_size
        print(f"{options.clips} clips x {options.dim}, {torch.get_num_threads()} threads")
        print(f"{minutes:.1f} minutes, {cpu:.1f} of a processor")
        print(f"peak memory {peak:.2f} GiB (before: {before:.2f} GiB), page {size / 1e6:.1f} MB")
        print(f"clusters {result.value('clusters'):.0f}, copies {result.value('near_duplicates'):.2%}")
        if size > PAGE_BYTES:
            raise SystemExit("the page is too large")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
