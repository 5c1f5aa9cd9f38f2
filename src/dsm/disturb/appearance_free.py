"""Clips without appearance: noise that moves like a video, so that one frame shows nothing.

After Ilic et al., Is Appearance Free Action Recognition Possible? (ECCV 2022): noise is carried along the
optical flow. It needs no masks, and the camera may move. In the published data, every frame is the same
initial noise, moved by the flow of that frame alone; here the noise of a frame is carried on to the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN = (5**0.5 - 1) / 2


def carried_noise(flow: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise that is carried along a flow.

    Each pixel of a frame shows the grain that the flow brings there, in whole pixels: fractions are rounded
    at another height in each frame, so they add up over frames. A grain is shown once per frame: where the
    flow would stretch the noise, all pixels but one get new grains. So a single frame is independent noise,
    whatever moves; stretched noise would show the outlines of moving things.

    Args:
        flow: (T-1, 2, H, W) in pixels, x first: from each frame but the first *back* to the frame before.

    Returns:
        (T, H, W, 3) in [0, 1].
    """
    height, width = flow.shape[2:]
    y, x = np.mgrid[:height, :width]
    frames = np.empty((len(flow) + 1, height, width, 3), np.float32)
    frames[0] = rng.random((height, width, 3), dtype=np.float32)
    # Multiples of the golden ratio spread evenly, however many there are.
    heights = (rng.random((1, 2)) + GOLDEN * np.arange(len(flow))[:, None]) % 1
    for number, (field, (up_x, up_y)) in enumerate(zip(flow, heights, strict=True), 1):
        column = x + np.floor(field[0] + up_x).astype(np.int64)
        row = y + np.floor(field[1] + up_y).astype(np.int64)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        source = np.where(inside, row * width + column, 0)
        kept = _once(source, inside)
        fresh = rng.random((height, width, 3), dtype=np.float32)
        frames[number] = np.where(kept[..., None], frames[number - 1].reshape(-1, 3)[source], fresh)
    return frames


def _once(source: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): of the allowed pixels with one source, one."""
    places = np.arange(source.size).reshape(source.shape)
    user = np.full(source.size, -1)
    user[source[allowed]] = places[allowed]
    return np.asarray((user[source] == places) & allowed)
