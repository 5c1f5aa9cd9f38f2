"""Speed of disturbances: ours, a loop over pixels, and kornia, interleaved in one run.

    python benchmarks/disturb.py [--rounds 7] [--threads 1] [--json FILE]

Clips of 8x3x16x112x112 and 4x3x16x224x224, float32. The loop computes the local warp like DSM's published
code, pixel by pixel in Python (the slow reference of the tests). `one for all` uses the same warp for the
whole batch, as that code does; `each its own` has one per clip, as training needs. Both have two points, the
mean of the code's one to three. kornia warps with 5x5 control points: once with its own `VideoSequential`,
and once with all frames of a clip folded into channels, which its documentation does not suggest. Scaling the
motion along the flow is timed separately from the flow (DIS, in OpenCV).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from dsm.disturb import LocalWarp, SmoothWarp, ThinPlate, local_warp_exact, scale_motion
from dsm.disturb.spatial import control_points
from dsm.disturb.temporal import MotionScale
from dsm.video.flow import compute_flow

SIZES = ((8, 112), (4, 224))
FRAMES = 16


@dataclass(frozen=True)
class Options:
    rounds: int = 7
    threads: int = 1
    json: Path | None = None
    """Also write the numbers to this file."""


def local_warp_loop(clip: Tensor, points: Tensor) -> Tensor:
    """Every pixel of every window separately, as in the published code."""
    height, width = clip.shape[-2:]
    for *point, shift_y, shift_x in points.tolist():
        shift, norm = (shift_y, shift_x), float(np.hypot(shift_y, shift_x))
        out = clip.clone()
        for row in range(height):
            for column in range(width):
                if all(-3 * s <= x - p < 3 * s for x, p, s in zip((row, column), point, shift, strict=True)):
                    away = np.hypot(row - point[0] - shift_y, column - point[1] - shift_x) / norm
                    pull = 0.5 / (3 * away**4 + 1)
                    y = min(max(row + int(-pull * shift_y), 0), height - 1)
                    x = min(max(column + int(-pull * shift_x), 0), width - 1)
                    out[..., row, column] = clip[..., y, x]
        clip = out
    return clip


def kornia_ways(clip: Tensor) -> dict[str, Callable[[], Tensor]]:
    try:
        from kornia.augmentation import RandomThinPlateSpline, VideoSequential
        from kornia.geometry.transform import get_tps_transform, warp_image_tps
    except ImportError:
        print("kornia is not installed (pip install kornia); left out")
        return {}
    spline = RandomThinPlateSpline(scale=0.1, p=1.0)
    video = VideoSequential(spline, data_format="BCTHW", same_on_frame=True)

    def folded() -> Tensor:
        kind = ThinPlate()
        target = control_points(kind.points).float().expand(len(clip), -1, -1)
        source = target + kind.draw_batch(len(clip), 0, clip)
        weights, affine = get_tps_transform(target, source)
        return warp_image_tps(clip.flatten(1, 2), target, weights, affine).reshape(clip.shape)

    return {"thin plate, kornia": lambda: video(clip), "thin plate, kornia folded": folded}


def ways(clip: Tensor) -> dict[str, Callable[[], Tensor]]:
    """The functions to time, by name."""
    side = clip.shape[-1]
    points = torch.tensor([[100, 80, 20, 15], [75, 120, 12, 18]]) * (side / 224)
    pictures = (clip[0] * 255).byte()
    frames = pictures.permute(1, 2, 3, 0).contiguous().numpy()
    flow = torch.from_numpy(compute_flow(frames))
    scale = MotionScale(3.0, 0, FRAMES - 1)
    return {
        "one for all, ours": lambda: local_warp_exact(clip, points),
        "one for all, loop": lambda: local_warp_loop(clip, points),
        "each its own, ours": lambda: LocalWarp()(clip, 0),
        "each its own, loop": lambda: torch.stack([local_warp_loop(one, points) for one in clip]),
        "thin plate, ours": lambda: ThinPlate()(clip, 0),
        **kornia_ways(clip),
        "smooth field, ours": lambda: SmoothWarp()(clip, 0),
        "motion scaled, one clip": lambda: scale_motion(pictures, flow, scale),
        "its flow, one clip": lambda: torch.from_numpy(compute_flow(frames)),
    }


PAIRS = (
    ("one for all, loop", "one for all, ours"),
    ("each its own, loop", "each its own, ours"),
    ("thin plate, kornia", "thin plate, ours"),
    ("thin plate, kornia folded", "thin plate, ours"),
)


def moving_clip(batch: int, side: int) -> Tensor:
    rng = np.random.default_rng(0)
    texture = torch.from_numpy(rng.random((batch, 3, side // 8 + 8, side // 8 + 8), np.float32))
    large = torch.nn.functional.interpolate(texture, scale_factor=8, mode="bilinear")
    return torch.stack([large[..., 2 * t : 2 * t + side, t : t + side] for t in range(FRAMES)], dim=2)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    results: dict[str, dict[str, list[float]]] = {}
    for batch, side in SIZES:
        clip = moving_clip(batch, side)
        timed = ways(clip)
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for run in timed.values():  # first calls fill caches
            run()
        for _ in range(options.rounds):
            for name, run in timed.items():
                begun = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - begun)
        print(f"{batch}x3x{FRAMES}x{side}x{side}, {options.threads} threads")
        for name, taken in seconds.items():
            print(f"  {name:26} {1e3 * float(np.median(taken)):8.1f} ms")
        for slow, fast in PAIRS:
            if slow in seconds:
                ratios = np.array(seconds[slow]) / np.array(seconds[fast])
                print(
                    f"  {slow:26} / {fast}: {np.median(ratios):.1f} times "
                    f"({ratios.min():.1f} to {ratios.max():.1f})"
                )
        results[f"{batch}x{side}"] = seconds
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
