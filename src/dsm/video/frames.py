"""Videos written out as folders of jpg frames, or of optical flow."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsm.files import write_text, written_aside_folder
from dsm.video.convert import converter
from dsm.video.damage import Damage
from dsm.video.flow import PAIRS, compute_flow, flow_to_bytes
from dsm.video.in_order import frames_in_order
from dsm.video.source import VideoError, open_video

DAMAGED = "damaged.txt"
"""In a folder of frames: what is lost of the video, in words."""


def write_frames(
    video: Path,
    folder: Path,
    short_side: int | None,
    quality: int,
    *,
    square: bool = False,
    flow: bool = False,
) -> int:
    """Decode a video to its end and write ``img_00001.jpg`` … into a folder, whole or not at all.

    What is lost of a damaged video is told in ``damaged.txt`` beside them.

    Args:
        short_side: pixels of the shorter side; None keeps the size. square: and of the longer one.
        quality: of the JPEGs, 1 to 95.
        flow: write ``flow_x_00001.jpg`` and ``flow_y_00001.jpg`` … instead, from each frame to its next.

    Returns:
        How many there are; where the folder is there already, nothing is done but counting.

    Raises:
        VideoError: not one frame can be decoded, or no two for flow.
    """
    first = "flow_x_" if flow else "img_"
    if folder.is_dir():
        return sum(1 for _ in folder.glob(f"{first}*.jpg"))
    count = 0
    damage = Damage()
    with open_video(video) as container, written_aside_folder(folder) as aside:
        convert = converter(container, short_side, square=square)
        images = (convert(frame) for _, frame in frames_in_order(container, damage))
        for count, named in enumerate(
            _flows(images) if flow else ({first: image} for image in images), start=1
        ):
            for prefix, image in named.items():
                picture = Image.fromarray(np.ascontiguousarray(image))
                picture.save(aside / f"{prefix}{count:05d}.jpg", quality=quality)
        if not count:
            raise VideoError(f"{video}: not {'two frames' if flow else 'one frame'} can be decoded.")
        if damage.found:
            write_text(aside / DAMAGED, f"{damage.told()}\n")
    return count


def _flows(images: Iterable[NDArray[np.uint8]]) -> Iterator[dict[str, NDArray[np.uint8]]]:
    for pair in itertools.pairwise(images):
        x, y = flow_to_bytes(compute_flow(np.stack(pair))[0])
        yield dict(zip(PAIRS[0], (x, y), strict=True))


def place_of(path: str) -> Path:
    """Where a video's frames go below a folder: its path without ending and without ways out of it."""
    inside = Path(*(part for part in Path(path).parts if part not in (Path(path).anchor, "..")))
    if inside.name.endswith("*") or "*." in inside.name:  # a clip among others in one folder of frames
        return inside.with_name(inside.name.partition("*")[0].rstrip("_-. ") or "frames")
    return inside.with_suffix("") if inside.name else Path("video")
