"""Optical flow between frames: computed, or read from saved pictures.

Flow is (…, 2, H, W) in pixels, x first: how far the content of a pixel moves to the next frame. It is saved
as two grey pictures per pair of frames, as for two-stream networks (Simonyan & Zisserman 2014):
``flow_x_00001.jpg`` and ``flow_y_00001.jpg``, 0 to 255 for -20 to 20 pixels.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.extras import load_extra
from dsm.video.frame_folder import frame_files, read_pictures
from dsm.video.source import Deadline, VideoError

BOUND = 20.0
"""Saved flow is clipped to this many pixels."""
# Prefixes of the two pictures of a pair.
PAIRS = (("flow_x_", "flow_y_"), ("flow_u_", "flow_v_"), ("x_", "y_"), ("u_", "v_"))


def compute_flow(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flow between neighbouring frames, by dense inverse search (DIS, Kroeger et al. 2016, in OpenCV).

    Args:
        frames: (T, H, W, 3) RGB, at least 16 pixels on each side.

    Returns:
        (T-1, 2, H, W) in pixels, x first.

    Raises:
        UserError: OpenCV is not installed.
    """
    cv2 = opencv()
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # DIS cannot work on very small pictures.
    scale = max(1.0, 32 / min(grey[0].shape))
    if scale > 1:
        grey = [cv2.resize(one, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) for one in grey]
    height, width = frames.shape[1:3]
    flows = np.empty((len(frames) - 1, 2, height, width), np.float32)
    for place, (one, two) in enumerate(itertools.pairwise(grey)):
        flow = search.calc(one, two, None)
        if scale > 1:
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / scale
        flows[place] = flow.transpose(2, 0, 1)
    return flows


def opencv() -> Any:
    """OpenCV, which computes flow.

    Raises:
        UserError: it is not installed.
    """
    cv2 = load_extra("cv2", "flow", package="OpenCV", wanted_by="optical flow")
    cv2.setNumThreads(1)
    return cv2


def flow_to_bytes(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Flow in pixels to saved bytes; the rounding error is at most 0.16 pixels within the bound."""
    return np.rint((np.clip(flow / BOUND, -1, 1) + 1) * 127.5).astype(np.uint8)


def bytes_to_flow(saved: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Saved bytes to flow in pixels; 127 and 128 both mean no motion."""
    flow = (saved.astype(np.float32) / 127.5 - 1) * np.float32(BOUND)
    flow[(saved == 127) | (saved == 128)] = 0
    return flow


def saved_flow(folder: str | Path) -> tuple[list[Path], list[Path]] | None:
    """The pictures of saved flow in a folder, along x and along y; None if there are none.

    Raises:
        VideoError: their numbers differ.
    """
    for x, y in PAIRS:
        try:
            pair = frame_files(folder, x), frame_files(folder, y)
        except VideoError:
            continue
        if len(pair[0]) != len(pair[1]):
            raise VideoError(
                f"{folder}: has {len(pair[0])} pictures {x}… but {len(pair[1])} {y}…; counts must match."
            )
        return pair
    return None


def read_saved_flow(
    files: tuple[list[Path], list[Path]],
    indices: NDArray[np.int64],
    short_side: int | None,
    deadline: Deadline,
) -> NDArray[np.float32]:
    """Flow from each frame of a clip to its next, from flow saved for neighbouring frames.

    To first order, the motion over n frames is n times that over one, the motion backwards is its negative,
    and a frame repeated has none; so a clip with broken motion gets broken flow.

    Args:
        indices: (T+1,) frames of the clip.

    Returns:
        (T, 2, H, W), in pixels of the resized picture.
    """
    total = len(files[0])
    steps = np.diff(indices)
    reach = np.abs(steps[np.abs(steps) > 0]).min() if steps.any() else 0
    factors = np.clip(steps, -reach, reach).astype(np.float32)
    wanted, back = np.unique(np.minimum(indices[:-1], indices[1:]) % total, return_inverse=True)
    planes = []
    for axis in files:
        height = read_pictures([axis[wanted[0]]], None, deadline, "gray")[0].shape[0]
        pictures = np.stack(read_pictures([axis[place] for place in wanted], short_side, deadline, "gray"))
        # Flow scales with the picture.
        planes.append(bytes_to_flow(pictures) * np.float32(pictures.shape[1] / height))
    return np.stack(planes, axis=1)[back] * factors[:, None, None, None]
