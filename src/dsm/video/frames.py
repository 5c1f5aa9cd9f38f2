"""Videos written out as folders of jpg frames, or of optical flow."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dsm.errors import UserError
from dsm.files import write_text, written_aside_folder
from dsm.video.convert import converter
from dsm.video.damage import Damage
from dsm.video.flow import PAIRS, compute_flow, flow_to_bytes
from dsm.video.segments import SEGMENT, file_of
from dsm.video.source import EXTENSIONS, VideoError, open_video
from dsm.video.whole import frames_of, own

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
    with open_video(file_of(video)) as container, written_aside_folder(folder) as aside:
        convert = converter(container, short_side, square=square)
        images = (convert(frame) for frame in frames_of(video, container, damage))
        for count, named in enumerate(
            _flows(images) if flow else ({first: image} for image in images), start=1
        ):
            for prefix, image in named.items():
                picture = Image.fromarray(np.ascontiguousarray(image))
                picture.save(aside / f"{prefix}{count:05d}.jpg", quality=quality)
        if not count:
            raise VideoError(f"{video}: not {'two frames' if flow else 'one frame'} can be decoded.")
        if told := own(video, damage).told():
            write_text(aside / DAMAGED, f"{told}\n")
    return count


def _flows(images: Iterable[NDArray[np.uint8]]) -> Iterator[dict[str, NDArray[np.uint8]]]:
    for pair in itertools.pairwise(images):
        x, y = flow_to_bytes(compute_flow(np.stack(pair))[0])
        yield dict(zip(PAIRS[0], (x, y), strict=True))


def without_ending(path: str) -> str:
    """A path without the ending of a video file: ``.mp4`` goes, but not the ``.5`` of ``walk_0.5``."""
    before, dot, ending = path.rpartition(".")
    return before if f"{dot}{ending.lower()}" in EXTENSIONS and Path(before).name else path


def place_of(path: str) -> Path:
    """Where a video's frames go below a folder: its path without ending and without ways out of it.

    Those of a segment, ``a.mp4#1-2``, go to ``a_1-2``; of a clip among others in one folder of frames,
    ``a/b_*.jpg``, to ``a/b``.
    """
    inside = _inside(path)
    if "*." in inside.name:
        return inside.with_name(inside.name.partition("*")[0].rstrip("_-. ") or "frames")
    if segment := SEGMENT.fullmatch(str(inside)):
        return Path(f"{without_ending(segment[1])}_{segment[2]}-{segment[3]}")
    return Path(without_ending(str(inside))) if inside.name else Path("video")


def places_of(paths: Sequence[str]) -> list[Path]:
    """:func:`place_of` each; of ``x.mp4`` and ``x.avi``, which would go to one place, both keep their ending.

    A path that comes twice has one place.

    Raises:
        UserError: two videos would go to one place all the same.
    """
    places = {path: place_of(path) for path in paths}
    shared = Counter(places.values())
    places = {
        path: place
        if shared[place] == 1
        else Path(str(_inside(path)).replace("#", "_").replace("*", "frames"))
        for path, place in places.items()
    }
    first: dict[Path, str] = {}
    for path, place in places.items():
        if first.setdefault(place, path) != path:
            raise UserError(f"{first[place]} and {path}: what is made of both would go to {place}.")
    return [places[path] for path in paths]


def _inside(path: str) -> Path:
    return Path(*(part for part in Path(path).parts if part not in (Path(path).anchor, "..")))
