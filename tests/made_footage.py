"""Made features of footage without labels, some of its videos, and the data in its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.video.write import write_video

KINDS, EACH, DIM = 4, 30, 24


def made_features(seed: int = 0) -> Features:
    """Four kinds of clips of three cameras, three oddities, and a copy of the clip 5."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(KINDS), EACH)
    rows = 3 * np.eye(DIM)[kinds] + 0.2 * rng.standard_normal((len(kinds), DIM))
    odd = 3 * np.eye(DIM)[[10, 10, 11]] + 0.2 * rng.standard_normal((3, DIM))
    rows = np.concatenate([rows, odd, rows[5:6] + 1e-3]).astype(np.float32)
    paths = [
        f"cam{row % 3}/2024-03-0{1 + row % 2}_{row // 60:02d}-{row % 60:02d}-00.mp4"
        for row in range(len(rows))
    ]
    return Features(rows, np.full(len(rows), -1), paths, {"run": "made", "seed": 0, "list": "made"})


def write_footage(folder: Path) -> None:
    """Features of which some videos exist, one name is hostile, one leads out, one is a larger copy."""
    features = made_features()
    features.paths[7] = "cam1/<img src=x onerror=alert(1)>.mp4"
    features.paths[8] = "../outside.mp4"
    rng = np.random.default_rng(0)
    write_video(folder / "outside.mp4", rng.integers(0, 255, (8, 32, 32, 3), dtype=np.uint8))
    for row in (0, 5, 120, 123):
        side = 64 if row == 123 else 32
        frames = rng.integers(0, 255, (8, side, side, 3), dtype=np.uint8)
        write_video(folder / "videos" / features.paths[row], frames)
    meta = features.meta | {"root": str(folder / "videos"), "weights": "none"}
    save_features(folder / "made.npz", replace(features, meta=meta))


def page_data(page: Path) -> dict[str, Any]:
    """What a page of `dsm explore` knows of its clips."""
    return json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
