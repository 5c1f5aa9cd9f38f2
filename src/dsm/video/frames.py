"""Videos written out as folders of jpg frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dsm.files import written_aside_folder
from dsm.video.decode import converter, frames_until_broken
from dsm.video.source import VideoError, open_video


def write_frames(video: Path, folder: Path, short_side: int | None, quality: int) -> int:
    """Decode a video to its end and write ``img_00001.jpg`` … into a folder, whole or not at all.

    Args:
        short_side: pixels of the shorter side; None keeps the size.
        quality: of the JPEGs, 1 to 95.

    Returns:
        How many frames there are; where the folder is there already, nothing is done but counting.

    Raises:
        VideoError: not one frame can be decoded.
    """
    if folder.is_dir():
        return sum(1 for _ in folder.glob("img_*.jpg"))
    count = 0
    with open_video(video) as container, written_aside_folder(folder) as aside:
        convert = converter(container, short_side)
        for count, frame in enumerate(frames_until_broken(container), start=1):
            image = Image.fromarray(np.ascontiguousarray(convert(frame)))
            image.save(aside / f"img_{count:05d}.jpg", quality=quality)
        if not count:
            raise VideoError(f"{video}: not one frame can be decoded.")
    return count


def place_of(path: str) -> Path:
    """Where a video's frames go below a folder: its path without ending and without ways out of it."""
    inside = Path(*(part for part in Path(path).parts if part not in (Path(path).anchor, "..")))
    return inside.with_suffix("") if inside.name else Path("video")
